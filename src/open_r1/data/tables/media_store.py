"""Takes the pictures and videos of a table's rows into a folder, or leaves them where rows name them. (torch-free)"""

import hashlib
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_r1.data.field_names import IMAGE_FIELDS, VIDEO_FIELDS
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.paths import ImageFolder
from open_r1.data.tables.cell_files import PICTURE_CELL, VIDEO_CELL, CellKind, file_in
from open_r1.errors import DataError, Problem, data_error, shorten

PICTURE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass
class MediaStore:
    """Names the pictures and videos of rows: those within a row are written to `folder`, those at a path keep it.

    `kept` counts pictures that keep their path, `stored` what is in `folder`; with `keeps` false all pictures are
    copied to it, and videos never. `copied`: stamp of each copied file.
    """

    folder: Path
    image_folder: str | None
    roots: Sequence[str]
    keeps: bool = True
    kept: int = 0
    stored: int = 0
    with_videos: str = ""  # the place of the first row that names the file of a video
    copied: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = [self.image_folder] if self.image_folder else []
        self.places = [ImageFolder(str(Path(folder).absolute())) for folder in (*own, *self.roots)]

    def named(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The row with names in place of its pictures and videos. Raises DataError with the problems of all."""
        problems: list[Problem] = []

        def named_by(name_of: Callable[[Any, str, str], str], field: str) -> Callable[[Any], str | None]:
            def name(cell: Any) -> str | None:
                try:
                    return name_of(cell, where, field)
                except DataError as error:
                    problems.extend(error.problems)
                    return None

            return name

        changed = {key: _each(row[key], named_by(self.name_of, key)) for key in IMAGE_FIELDS if key in row}
        changed |= {key: _all(row[key], named_by(self.video_of, key)) for key in VIDEO_FIELDS if key in row}
        for turn in row.get("messages") or ():
            for part in (turn.get("content") if isinstance(turn, dict) else None) or ():
                if isinstance(part, dict) and part.get("image") is not None:
                    part["image"] = named_by(self.name_of, "messages.content.image")(part["image"])
                if isinstance(part, dict) and part.get("video") is not None:
                    part["video"] = _all(part["video"], named_by(self.video_of, "messages.content.video"))
        if problems:
            raise DataError(problems)
        return row | changed

    def video_of(self, cell: Any, where: str, field: str) -> str:
        """The name of a video, or of a frame's picture; of one that the row names by a path, this path. Raises
        DataError for what is none."""
        if isinstance(cell, str) and "://" in cell:  # refused where it is no source of a picture
            return cell
        video = file_in(cell, where, field, VIDEO_CELL)
        if isinstance(video, str):
            self.with_videos = self.with_videos or where
            return video
        self.stored += 1
        return self.write(video, VIDEO_CELL)

    def name_of(self, cell: Any, where: str, field: str) -> str:
        """The name of a picture. Raises DataError for what is none, or lies outside."""
        picture = file_in(cell, where, field, PICTURE_CELL)
        if isinstance(picture, str):
            place, relative = self.place_of(picture, where, field)
            if self.keeps and self.image_folder and place is self.places[0]:
                self.kept += 1
                return relative
            path = place.resolve(relative, where)
            self.copied[path] = file_stamp(path)
            picture = file_in(Path(path).read_bytes(), where, field, PICTURE_CELL)
        self.stored += 1
        return self.write(picture, PICTURE_CELL)

    def write(self, data: bytes, kind: CellKind) -> str:
        """The name of a file in `folder`, where it is written once."""
        digest = hashlib.sha256(data).hexdigest()[:40]
        name = f"{digest[:2]}/{digest}.{kind.ending_of(data)}"
        if not (path := self.folder / name).exists():
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path, owner=owner()) as file:
                file.write(data)
        return name

    def place_of(self, path: str, where: str, field: str) -> tuple[ImageFolder, str]:
        """(folder, path below it) of a file that a row names. Raises DataError for one outside all folders."""
        for place in self.places:
            for root in {place.folder, place.root}:
                if path.startswith(f"{root}/"):
                    return place, path.removeprefix(f"{root}/")
        if self.image_folder and not Path(path).is_absolute():
            return self.places[0], path
        file = Path(path)
        remedy = "give the folder that it is in: --image_folders FOLDER"
        if file.is_absolute() and file.suffix.lower() in PICTURE_ENDINGS and file.is_file():
            remedy = f"read the files there, with --image_folders {shlex.quote(str(file.parent))}"
        folders = self.places[0].folder if self.places else "an image folder"
        expected = f"a picture within the table, or a file below {folders}"
        raise data_error(where, field, shorten(path), expected, remedy)


def _each(cells: Any, name: Callable[[Any], str | None]) -> Any:
    """`name` of the one picture, or of each in a list."""
    return [name(cell) for cell in cells] if _is_list(cells) else name(cells)


def _all(cells: Any, name: Callable[[Any], str | None]) -> Any:
    """`name` of the one video, or of each file in a list of videos, and of frames."""
    return [_all(cell, name) for cell in cells] if _is_list(cells) else name(cells)


def _is_list(cells: Any) -> bool:
    """Whether a cell is a list of others, and no bytes as numbers."""
    return isinstance(cells, list) and not (cells and isinstance(cells[0], int))


def owner() -> str:
    """A name of this process, for a file that several may write at the same time."""
    return f"{os.uname().nodename}-{os.getpid()}"


def file_stamp(path: str) -> list[int]:
    """[size in bytes, time of the last change in ns] of a file."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]
