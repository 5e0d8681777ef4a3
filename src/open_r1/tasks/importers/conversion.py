"""Items of foreign sources become checked rows, or are left out with a reason. (torch-free)"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_r1.data.images import open_image
from open_r1.data.record import Record, parse_row
from open_r1.data.video.files import video_shapes
from open_r1.data.video.types import VIDEO_ENDINGS, FrameSampling, Video, VideoShape
from open_r1.errors import DataError
from open_r1.rewards.gold import gold_score
from open_r1.rewards.places import has_places, place_problems
from open_r1.tasks.importers.items import ImportedRow, LeftOut, Remark
from open_r1.tasks.importers.pictures import Pictures
from open_r1.tasks.importers.questions.image_tags import with_image_tags
from open_r1.tasks.importers.source_videos import SourceVideo, with_video_tags
from open_r1.tasks.importers.sources import Unusable

FIRST_PLACES = 3  # of the items that are left out for one reason


@dataclass(frozen=True)
class ReadyRow:
    """A checked row without its pictures and videos, and their files in the order of its tags."""

    where: str
    row: Mapping[str, Any]
    files: tuple[Path, ...]
    split: str = ""
    videos: tuple[Path | tuple[Path, ...], ...] = ()  # each a file, or the pictures of its frames

    @property
    def all_files(self) -> tuple[Path, ...]:
        """The files of its pictures and videos."""
        return self.files + tuple(path for video in self.videos for path in as_paths(video))


@dataclass
class Conversion:
    """What a command made of its sources: rows, the places of what is left out by reason, and remarks."""

    rows: list[ReadyRow] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    remarks: list[str] = field(default_factory=list)

    def add(self, items: Iterable[ImportedRow | LeftOut | Remark], pictures: Pictures, split: str = "") -> int:
        """Takes items in, those without a split into `split`; returns how many rows came of them."""
        before = len(self.rows)
        for item in items:
            if isinstance(item, Remark):
                self.remarks.append(f"{item.where}: {item.text}")
            elif isinstance(item, LeftOut):
                self.left_out[item.reason].append(item.where)
            else:
                try:
                    self.rows.append(ready_row(replace(item, split=item.split or split), pictures))
                except Unusable as error:
                    self.left_out[str(error)].append(item.where)
        return len(self.rows) - before

    def leave_out_damaged(self) -> None:
        """Leaves out the rows with a picture that does not decode to its end."""
        self.leave_out(dict(_damaged({path: row.where for row in self.rows for path in row.all_files})))

    def leave_out(self, damaged: Mapping[Path, str]) -> None:
        """Leaves out the rows with one of the files, for its reason."""
        kept = []
        for row in self.rows:
            reason = next((damaged[path] for path in row.all_files if path in damaged), None)
            if reason is None:
                kept.append(row)
            else:
                self.left_out[reason].append(row.where)
        self.rows = kept


def ready_row(item: ImportedRow, pictures: Pictures) -> ReadyRow:
    """The row with its places of pictures as `<image>`. Raises Unusable for one that the doctor would refuse."""
    turns = [dict(turn) for turn in item.row["conversations"]]
    asked = [turn for turn in turns[:-1] if turn["from"] == "human"]
    texts = with_video_tags([turn["value"] for turn in asked], len(item.videos), len(item.images))
    texts, images = with_image_tags(texts, item.images)
    for turn, text in zip(asked, texts, strict=True):
        turn["value"] = text
    files = tuple(pictures.find(image) for image in images)
    videos = tuple(_found(video, pictures) for video in item.videos)
    row = {**item.row, "conversations": turns}
    _check(row, item.where, files, videos, pictures)
    return ReadyRow(item.where, row, files, item.split, videos)


def as_paths(video: Path | tuple[Path, ...]) -> tuple[Path, ...]:
    """The files of a video: itself, or the pictures of its frames."""
    return video if isinstance(video, tuple) else (video,)


def _found(video: SourceVideo, pictures: Pictures) -> Path | tuple[Path, ...]:
    """The files of a video that a source names. Raises Unusable."""
    try:
        return tuple(map(pictures.find, video)) if isinstance(video, tuple) else pictures.find(video)
    except Unusable as error:
        raise Unusable(str(error).replace("a picture", "a video", 1)) from error


def _check(
    row: Mapping[str, Any],
    where: str,
    files: tuple[Path, ...],
    videos: tuple[Path | tuple[Path, ...], ...],
    pictures: Pictures,
) -> None:
    """Raises Unusable for a row that is none, and for a gold that does not earn the maximum of its method."""
    try:
        shown = [[path.name for path in video] if isinstance(video, tuple) else video.name for video in videos]
        record = parse_row({**row, "images": [path.name for path in files], "videos": shown}, where, 0)
        score, best = gold_score(record)
        problems = place_problems(_with_sizes(record, files, pictures) if has_places(record) else record)
    except DataError as error:
        problems = error.problems
    except ValueError as error:
        raise Unusable(f"a gold answer that its method cannot read: {error}") from error
    else:
        if score < best - 1e-6:
            method = record.accu_reward_method or "default"
            raise Unusable(f"a gold answer that does not earn the full reward of the method '{method}'")
    if problems:
        raise Unusable(f"{problems[0].field}: expected {problems[0].expected}")


def _with_sizes(record: Record, files: tuple[Path, ...], pictures: Pictures) -> Record:
    sizes = [pictures.size_of(path) for path in files]
    if not sizes:
        raise Unusable("a place on a picture, and no picture")
    return record.with_extra(image_wh=sizes[0], **({"image_sizes": sizes} if len(sizes) > 1 else {}))


def opened_video(folder: str, name: str) -> VideoShape:
    """The shape of a video's sampled frames. Raises DataError for one that cannot be shown."""
    (shape,) = video_shapes(Record("", (), folder, (), "", videos=(Video((name,)),)), FrameSampling())
    return shape


def _damaged(places: Mapping[Path, str]) -> Iterator[tuple[Path, str]]:
    """(file, reason) of each picture that cannot be opened to its end."""

    def reason(path: Path) -> str:
        is_video = path.suffix.lower() in VIDEO_ENDINGS
        try:
            (opened_video if is_video else open_image)(str(path.parent), path.name)
        except DataError as error:
            kind = "video" if is_video else "picture"
            return f"a {kind} that cannot be opened: expected {error.problems[0].expected}"
        return ""

    with ThreadPoolExecutor(4) as threads:
        found = zip(places, threads.map(reason, places), strict=True)
        yield from ((path, why) for path, why in found if why)
