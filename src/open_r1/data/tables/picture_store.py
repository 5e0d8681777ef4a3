"""Takes the pictures of a table's rows into a folder, or leaves them where a row names them. (torch-free)"""

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
from open_r1.data.tables.cell_pictures import picture_format, picture_in
from open_r1.errors import DataError, Problem, data_error, shorten

PICTURE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass
class PictureStore:
    """Names the pictures of rows: those within a row are written to `folder`, those at a path keep it.

    `kept` and `stored` count them; with `keeps` false all are copied to `folder`. `copied`: stamp of each copied file.
    """

    folder: Path
    image_folder: str | None
    roots: Sequence[str]
    keeps: bool = True
    kept: int = 0
    stored: int = 0
    with_videos: str = ""  # the place of the first row that names a video
    copied: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = [self.image_folder] if self.image_folder else []
        self.places = [ImageFolder(str(Path(folder).absolute())) for folder in (*own, *self.roots)]

    def named(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The row with names in place of its pictures. Raises DataError with the problems of all of them."""
        problems: list[Problem] = []
        if any(row.get(name) for name in VIDEO_FIELDS):
            self.with_videos = self.with_videos or where

        def name(cell: Any, field: str) -> str | None:
            try:
                return self.name_of(cell, where, field)
            except DataError as error:
                problems.extend(error.problems)
                return None

        changed = {key: _each(row[key], lambda cell, key=key: name(cell, key)) for key in IMAGE_FIELDS if key in row}
        for turn in row.get("messages") or ():
            for part in (turn.get("content") if isinstance(turn, dict) else None) or ():
                if isinstance(part, dict) and part.get("image") is not None:
                    part["image"] = name(part["image"], "messages.content.image")
        if problems:
            raise DataError(problems)
        return row | changed

    def name_of(self, cell: Any, where: str, field: str) -> str:
        """The name of a picture. Raises DataError for what is none, or lies outside."""
        picture = picture_in(cell, where, field)
        if isinstance(picture, str):
            place, relative = self.place_of(picture, where, field)
            if self.keeps and self.image_folder and place is self.places[0]:
                self.kept += 1
                return relative
            path = place.resolve(relative, where)
            self.copied[path] = file_stamp(path)
            picture = picture_in(Path(path).read_bytes(), where, field)
        self.stored += 1
        return self.write(picture)

    def write(self, data: bytes) -> str:
        """The name of a picture in `folder`, where it is written once."""
        digest = hashlib.sha256(data).hexdigest()[:40]
        name = f"{digest[:2]}/{digest}.{picture_format(data)}"
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
    is_list = isinstance(cells, list) and not (cells and isinstance(cells[0], int))
    return [name(cell) for cell in cells] if is_list else name(cells)


def owner() -> str:
    """A name of this process, for a file that several may write at the same time."""
    return f"{os.uname().nodename}-{os.getpid()}"


def file_stamp(path: str) -> list[int]:
    """[size in bytes, time of the last change in ns] of a file."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]
