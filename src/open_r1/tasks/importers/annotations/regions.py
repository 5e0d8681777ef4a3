"""Writes the regions of `refcoco` as a JSONL file for each split, one line a sentence."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import DataError, Problem, data_error, shorten
from open_r1.tasks.importers.annotations.refcoco import READERS, Convert, Region, Sources


@dataclass
class SplitLines:
    """The lines of each split, checksums of the images inside the files, and the problems."""

    name: str
    out: Path
    image_prefix: str
    by_split: dict[str, list[str]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)  # name -> checksum
    problems: list[Problem] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)  # places of rows without a box

    def add(self, region: Region, where: str) -> None:
        """Adds a line for each sentence of the region."""
        image = self._picture(region, where)
        lines = self.by_split.setdefault(region.split, [])
        size = {"image_wh": list(region.image_wh)} if region.image_wh else {}
        for question, sentence in region.questions:
            row = {
                "id": f"{self.name}-{region.split}-{len(lines)}",
                "image": image,
                "conversations": [
                    {"from": "human", "value": question if IMAGE_TAG in question else IMAGE_TAG + question},
                    {"from": "gpt", "value": json.dumps(list(region.box))},
                ],
                **region.ids,
                "sentence": sentence,
                "split": region.split,
                **size,
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")

    def _picture(self, region: Region, where: str) -> str:
        """The path of the region's image; an image inside the file is written once."""
        if region.picture is None:
            return str(PurePosixPath(self.image_prefix, region.image))
        checksum = hashlib.sha256(region.picture).digest()
        if region.image not in self.pictures:
            (self.out / "images").mkdir(parents=True, exist_ok=True)
            (self.out / "images" / region.image).write_bytes(region.picture)
        if self.pictures.setdefault(region.image, checksum) != checksum:
            got = f"{shorten(region.image)} with other bytes than before"
            raise data_error(
                where, "file_name", got, "one name for each image", "convert the files apart, to other folders"
            )
        return f"images/{region.image}"

    def write(self) -> Iterator[tuple[Path, int]]:
        """Writes the files; yields (path, number of rows) of each split."""
        self.out.mkdir(parents=True, exist_ok=True)
        for split, lines in self.by_split.items():
            path = self.out / f"{self.name}_{split}.jsonl"
            path.write_text("".join(lines), encoding="utf-8")
            yield path, len(lines)


def collect_regions(files: Sequence[Path], sources: Sources, lines: SplitLines) -> None:
    """Adds all rows of all files to `lines`; one defect does not hide the next."""
    for path in files:
        try:
            for number, (row, convert) in enumerate(_rows(path, sources), start=1):
                _take(row, convert, f"{path}:{number}", lines)
        except DataError as error:
            lines.problems += error.problems
        except (OSError, ValueError) as error:  # a missing file, or damaged JSON or parquet
            lines.problems.append(
                Problem(str(path), "file", str(error), "a readable file", "correct the path or file")
            )


def _rows(path: Path, sources: Sources) -> Iterator[tuple[Any, Convert]]:
    if path.suffix not in READERS:
        raise data_error(str(path), "ending", repr(path.suffix), f"one of {', '.join(READERS)}", "rename the file")
    return READERS[path.suffix](path, sources)


def _take(row: Any, convert: Convert, where: str, lines: SplitLines) -> None:
    """Adds one row: its lines, its place where it has no box, or its problems."""
    try:
        region = convert(row, where)
        if region is None:
            lines.unanswered.append(where)
        else:
            lines.add(region, where)
    except DataError as error:
        lines.problems += error.problems
