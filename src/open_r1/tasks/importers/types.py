"""What the reader of a foreign format yields: rows, annotated pictures, and what it left out. (torch-free)

A reader tells where each item stands in its source, so that every message names file and place. Rows are already lines
of this project; an annotated picture becomes rows of the task that the user asks for (`--task rec`, `seg`, ...).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_r1.data.geometry.coordinates import Box

Corner = tuple[float, float]  # x, y in pixels of the original picture


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of a picture; what is not known of it is empty.

    `box` is (x1, y1, x2, y2) in pixels, x1 < x2 and y1 < y2; `polygons` are its outlines (several where it lies in
    parts), `rle` a COCO run-length mask, `points` its key points or clicks. `sentences` mean it alone.
    """

    label: str
    box: Box | None = None
    polygons: tuple[tuple[Corner, ...], ...] = ()
    rle: Mapping[str, Any] | None = None
    points: tuple[Corner, ...] = ()
    is_crowd: bool = False
    sentences: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture with its objects; `image` is its file as the source names it, or the bytes inside the source."""

    where: str  # file:place
    image: str | bytes
    size_wh: tuple[int, int] | None  # (width, height) in pixels as the source states it
    objects: tuple[AnnotatedObject, ...]
    split: str = ""  # "train", "val", ... where the source says so


@dataclass(frozen=True)
class ImportedRow:
    """A row in the line format of this project, its pictures as the source names them, or as their bytes."""

    where: str
    row: dict[str, Any]
    split: str = ""


@dataclass(frozen=True)
class LeftOut:
    """An item of the source that becomes no row; items of one reason are counted together."""

    where: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What a reader decided of its source, in a sentence that the user is told: how boxes were read and why, ..."""

    where: str
    text: str


ImportedItem = ImportedRow | AnnotatedPicture | LeftOut | Remark


@dataclass(frozen=True)
class ForeignFormat:
    """A format by name. `matches(path)` tells it by its content, not by its ending; `read(path, options)` yields items
    and raises DataError for a file that is broken as a whole."""

    title: str  # in words: "COCO instances (JSON)"
    matches: Callable[[Path], bool]
    read: Callable[[Path, "ImportOptions"], Iterator[ImportedItem]]


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of the source; "" where it is not said."""

    image_folder: Path | None = None
    task: str = ""  # "rec" | "detection" | "seg" | "counting" | "vqa", "" for what fits the source
    boxes: str = ""  # "pixels" | "xywh" | "fractions" | "per_mille" | "percent", "" to tell them from the pictures
    fields: Mapping[str, str] = field(default_factory=dict)  # our field -> the source's
