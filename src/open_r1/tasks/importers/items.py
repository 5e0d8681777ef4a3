"""What the reader of a foreign format yields: rows, annotated pictures, and what it left out. (torch-free)

A reader tells where each item stands in its source, so that every message names file and place. Rows are already lines
of this project; an annotated picture becomes rows of the task that the user asks for (`--task rec`, `seg`, ...).
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from open_r1.data.geometry.coordinates import Box
from open_r1.tasks.importers.pictures import Pictures
from open_r1.tasks.importers.source_videos import SourceVideo
from open_r1.tasks.importers.sources import Source, Unusable

Corner = tuple[float, float]  # x, y in pixels of the original picture
SizeWh = tuple[int, int]  # width, height in pixels
Turns = list[tuple[str, str]]  # (human | gpt | system, text)


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
    """A row in the line format of this project, without `image`; `images` are as the source names them, or their
    bytes, in the order of the `<image>` tags (first of all, where the row has no tag); `videos` likewise."""

    where: str
    row: dict[str, Any]
    images: tuple[str | bytes, ...] = ()
    split: str = ""
    videos: tuple[SourceVideo, ...] = ()
    box_frame: str = ""  # how its gold writes boxes, a name of READINGS, where the source declares it


@dataclass(frozen=True)
class LeftOut:
    """An item of the source that becomes no row; items of one reason are counted together."""

    where: str
    reason: str


def kept_objects(
    found: Iterable[tuple[str, AnnotatedObject | str]],
) -> Generator[LeftOut, None, tuple[AnnotatedObject, ...]]:
    """Of (place, object or the reason why it is none), yields what is left out and returns the objects."""
    objects = []
    for where, one in found:
        if isinstance(one, str):
            yield LeftOut(where, one)
        else:
            objects.append(one)
    return tuple(objects)


@dataclass(frozen=True)
class Remark:
    """What a reader decided of its source, in a sentence that the user is told: how boxes were read and why, ..."""

    where: str
    text: str


ImportedItem = ImportedRow | AnnotatedPicture | LeftOut | Remark


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of the source, "" where it is not said, and the pictures that it may name."""

    pictures: Pictures
    task: str = ""  # "rec" | "detection" | "seg" | "counting" | "vqa", "" for what fits the source
    boxes: str = ""  # "pixels" | "xywh" | "fractions" | "per_mille" | "percent", "" to tell them from the pictures
    fields: Mapping[str, str] = field(default_factory=dict)  # our field -> the source's
    all_turns: bool = False  # a row for each answer of a conversation, not for the last one alone
    keep: tuple[str, ...] = ()  # further fields of the source's rows that go into ours, for the rewards
    others: tuple[Source, ...] = ()  # the other files of the command, for formats of several files


@dataclass(frozen=True)
class ForeignFormat:
    """A format by name. `matches(source)` tells it by its content, not by its ending; `read(source, options)` yields
    items and raises DataError for a file that is broken as a whole."""

    title: str  # in words: "COCO instances"
    matches: Callable[[Source], bool]
    read: Callable[[Source, ImportOptions], Iterator[ImportedItem]]


RowReader = Callable[[Mapping[str, Any], str, ImportOptions], Iterable[ImportedItem]]  # (row, its place, options)


def read_each_row(source: Source, options: ImportOptions, read_row: RowReader) -> Iterator[ImportedItem]:
    """The items of each row of a source of rows; a row that is no object, or that `read_row` raises Unusable for, is
    left out."""
    for where, row in source.rows():
        try:
            if isinstance(row, Unusable):
                raise row
            if not isinstance(row, Mapping):
                raise Unusable(f"a row that is no object but {type(row).__name__}")
            for item in read_row(row, where, options):
                kept = {name: row[name] for name in options.keep if name in row}
                yield replace(item, row={**kept, **item.row}) if kept and isinstance(item, ImportedRow) else item
        except Unusable as error:
            yield LeftOut(where, str(error))


def qa_row(
    where: str,
    question: str,
    answer: str,
    images: tuple[str | bytes, ...] = (),
    split: str = "",
    **fields: Any,
) -> ImportedRow:
    """A row of one question and its answer; further fields (`id`, `accu_reward_method`, ...) go into the row.

    >>> qa_row("a.json:1", "How many?", "3", ("a.png",), id="7").row
    {'id': '7', 'conversations': [{'from': 'human', 'value': 'How many?'}, {'from': 'gpt', 'value': '3'}]}
    """
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    known = {"id": fields.pop("id")} if fields.get("id") is not None else {}
    fields.pop("id", None)
    return ImportedRow(where, {**known, "conversations": turns, **fields}, images, split)
