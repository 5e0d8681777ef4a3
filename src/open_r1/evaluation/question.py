"""A question to a loaded model, as the row that an evaluation would read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_r1.data.images import with_sizes
from open_r1.data.record import Record, parse_row
from open_r1.data.unlabeled import has_gold, with_placeholder
from open_r1.data.video.types import FRAME_ENDINGS
from open_r1.errors import UsageError
from open_r1.rewards.gold import gold_score
from open_r1.rewards.places import refuse_misplaced

SOURCE = "question"  # in messages, in place of an evaluation's data file


@dataclass(frozen=True)
class Question:
    """A question about `images`, which go to the text's `<image>` tags, or before it where it has none; and about
    `videos`, files of videos or folders of their frames, which go to its `<video>` tags likewise.

    Without a `gold` answer nothing is scored; `extra` are further fields of the row, for the rewards.
    """

    text: str
    images: tuple[Path, ...] = ()
    gold: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    videos: tuple[Path, ...] = ()

    def record(self, method: str) -> Record:
        """The question as a row. Raises UsageError for one without words; DataError where tags and images differ in
        number, and for a gold answer that `method` cannot use."""
        if not self.text.replace("<image>", "").replace("<video>", "").strip():
            raise UsageError("question: got none, expected what you want to know; write it in words")
        paths = [path.resolve() for path in (*self.images, *self.videos)]
        folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
        names = [str(path.relative_to(folder)) for path in paths[: len(self.images)]]
        row = {**self.extra, "problem": self.text, "solution": self.gold, "images": names}
        if self.videos:
            row["videos"] = [video_named(path, folder) for path in paths[len(self.images) :]]
        record = parse_row(with_placeholder(row, SOURCE), f"{SOURCE}:1", 1, folder, method)
        if has_gold(record):
            sized = with_sizes(record) or record
            gold_score(sized)
            refuse_misplaced([sized])
        return record


def video_named(path: Path, folder: str) -> str | list[str]:
    """A video as a row names it: its file, or the pictures in a folder of frames, by name. Raises UsageError."""
    if not path.is_dir():
        return str(path.relative_to(folder))
    frames = sorted(one for one in path.iterdir() if one.suffix.lower() in FRAME_ENDINGS)
    if not frames:
        raise UsageError(f"video: got {path}, a folder without a picture, expected a file, or a folder of frames")
    return [str(frame.relative_to(folder)) for frame in frames]
