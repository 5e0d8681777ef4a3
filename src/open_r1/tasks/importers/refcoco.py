"""The public forms of RefCOCO, RefCOCO+ and RefCOCOg -> regions with their sentences, for prepare_refcoco.py.

A reader takes a file and yields (row, function); the function makes a `Region` of the row and its place, None where
the row has no answer, and raises DataError where it is defective.
"""

import io
import json
import math
import pickle  # nosec B403 # PlainUnpickler alone reads, and refuses all code
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from PIL import Image

from open_r1.errors import data_error, shorten
from open_r1.tasks.rec import REFERRING_QUESTION

SPLIT_NAMES = {name: name for name in ("train", "val", "testA", "testB", "test")} | {"validation": "val"}
SPLIT_IN_NAME = re.compile(rf"(?:^|[-_])({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(?=[-_.]|$)")
ANNOTATION_NUMBER = re.compile(r"(?<=_\d{12})_\d+(?=\.\w+$)")
ASKED = REFERRING_QUESTION.partition("{sentence}")[0]
LMMS = {"answer", "bbox", "file_name", "image"}
JXU = {"sentences", "bbox", "file_name", "split"}
# what a damaged pickle can raise
DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
DAMAGED += (MemoryError,)
RefRow = Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """What the user says beside the files."""

    instances: Path | None = None
    split: str | None = None


@dataclass(frozen=True)
class Region:
    """A region of an image with the questions about it. `box`: (x1, y1, x2, y2) in pixels of the original image."""

    image: str
    box: tuple[float, ...]
    asked: tuple[tuple[str, str], ...]  # question, sentence
    split: str
    image_wh: tuple[int, int] | None = None
    picture: bytes | None = None
    ids: Mapping[str, Any] = field(default_factory=dict)


Convert = Callable[[RefRow, str], Region | None]  # (row, its place) -> None where it has no answer
Reader = Callable[[Path, Sources], Iterator[tuple[RefRow, Convert]]]


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers. What names a class or a function could run code, and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def load_refs(file: BinaryIO, where: str) -> list[RefRow]:
    """The refs of a pickle, of Python 2 or 3. Raises DataError where it is damaged or holds more than plain values."""
    try:
        refs = PlainUnpickler(file, encoding="utf-8").load()
    except DAMAGED as error:
        remedy = "do not open it with pickle; take the file from the refer toolbox"
        raise data_error(
            where, "pickle", str(error) or "a file that ends early", "plain values only", remedy
        ) from error
    if not isinstance(refs, list):
        raise data_error(where, "pickle", type(refs).__name__, "a list of refs", "give refs(unc).p or the like")
    return refs


def refs_rows(path: Path, sources: Sources) -> Iterator[tuple[RefRow, Convert]]:
    if sources.instances is None:
        raise data_error(str(path), "--instances", "nothing", "the instances.json beside the refs", "give its path")
    instances = json.loads(sources.instances.read_text(encoding="utf-8"))
    place = str(sources.instances)
    boxes = {row["id"]: row["bbox"] for row in value(instances, "annotations", place)}
    images = {row["id"]: row for row in value(instances, "images", place)}
    with open(path, "rb") as file:
        refs = load_refs(file, str(path))
    convert = partial(from_ref, boxes=boxes, images=images, instances=sources.instances)
    return ((row, convert) for row in refs)


def from_ref(row: RefRow, where: str, boxes: RefRow, images: RefRow, instances: Path) -> Region:
    """Of the refer toolbox: ref_id, ann_id, image_id, split, sentences with `sent`."""
    for name, table in (("ann_id", boxes), ("image_id", images)):
        if not isinstance(value(row, name, where), (int, str)) or row[name] not in table:
            got, remedy = shorten(row[name]), "give the instances.json that belongs to the refs"
            raise data_error(where, name, got, f"an id of {instances}", remedy)
    image, ids = images[row["image_id"]], {name: row[name] for name in ("ref_id", "ann_id") if name in row}
    asked, box = questions(value(row, "sentences", where), where), from_xywh(boxes[row["ann_id"]], where)
    name = PurePosixPath(value(image, "file_name", where)).name
    return Region(own_name(name), box, asked, split_name(row, where), size_in(image), ids=ids)


def parquet_rows(path: Path, sources: Sources) -> Iterator[tuple[RefRow, Convert]]:
    file = pq.ParquetFile(path)
    columns = set(file.schema_arrow.names)
    if columns >= LMMS:
        convert: Convert = partial(from_lmms, split=split_of_file(path, sources))
    elif columns >= JXU:
        convert = from_jxu
    else:
        expected = f"{', '.join(sorted(LMMS))} (lmms-lab) or {', '.join(sorted(JXU))} (jxu124)"
        raise data_error(
            str(path), "columns", ", ".join(sorted(columns)), expected, "rename the columns to one of these"
        )
    batches = file.iter_batches(batch_size=64, columns=sorted(columns - {"segmentation"}))
    return ((row, convert) for batch in batches for row in batch.to_pylist())


def from_lmms(row: RefRow, where: str, split: str) -> Region:
    """Of lmms-lab: the sentences are the `answer`, the box is x, y, width, height, the image is inside."""
    answer, name = value(row, "answer", where), PurePosixPath(value(row, "file_name", where)).name
    asked = questions([answer] if isinstance(answer, str) else answer, where, "answer")
    picture = row["image"].get("bytes") if isinstance(row["image"], dict) else None
    if not picture:
        got = shorten(row["image"])
        raise data_error(where, "image", got, "the bytes of an image", "download the files again, with their images")
    ids = {name: row[name] for name in ("question_id",) if name in row}
    return Region(own_name(name), from_xywh(row["bbox"], where), asked, split, size(picture, where), picture, ids)


def from_jxu(row: RefRow, where: str) -> Region:
    """Of jxu124: the sentences are those of the refer toolbox, the box is x1, y1, x2, y2 already."""
    name = PurePosixPath(value(row, "file_name", where)).name
    asked, ids = questions(row["sentences"], where), {name: row[name] for name in ("ref_id", "ann_id") if name in row}
    wh = size_in(json.loads(row.get("raw_image_info") or "{}"))
    return Region(own_name(name), box_corners(row["bbox"], "bbox", where), asked, split_name(row, where), wh, ids=ids)


def json_rows(path: Path, sources: Sources) -> Iterator[tuple[RefRow, Convert]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise data_error(str(path), "file", type(rows).__name__, "a list of rows", "give one of VLM-R1's rec_jsons")
    convert = partial(from_rec_json, split=split_of_file(path, sources))
    return ((row, convert) for row in rows)


def from_rec_json(row: RefRow, where: str, split: str) -> Region | None:
    """Of VLM-R1: image, problem and solution; the sentence is `normal_caption`, or stands in the problem."""
    image, problem = value(row, "image", where), value(row, "problem", where)
    if row.get("solution") is None:
        return None
    sentence = row.get("normal_caption") or problem.partition(ASKED)[2].removesuffix(".") or problem
    ids = {"ann_id": row["annotation_id"]} if "annotation_id" in row else {}
    box = box_corners(row["solution"], "solution", where)
    return Region(own_name(image), box, ((problem, sentence),), split, size_in(row), ids=ids)


READERS: dict[str, Reader] = {".p": refs_rows, ".parquet": parquet_rows, ".json": json_rows}


def own_name(path: str) -> str:
    """Without the number of the annotation that some forms put behind an image's name.

    >>> own_name("COCO_train2014_000000581857_16.jpg"), own_name("val2017/000000494869.jpg")
    ('COCO_train2014_000000581857.jpg', 'val2017/000000494869.jpg')
    """
    return ANNOTATION_NUMBER.sub("", path)


def size_in(row: RefRow) -> tuple[int, int] | None:
    """(width, height) where the row has both."""
    return (row["width"], row["height"]) if row.get("width") and row.get("height") else None


def value(row: RefRow, name: str, where: str) -> Any:
    """A field that must be there. Raises DataError."""
    if not isinstance(row, Mapping):
        raise data_error(where, "row", shorten(row), "an object with fields", "give the file it belongs to")
    if row.get(name) in (None, ""):
        fields = ", ".join(map(str, row))
        raise data_error(where, name, f"nothing (the row has: {fields})", "a value", "add it, or correct the name")
    return row[name]


def questions(sentences: Sequence[Any], where: str, name: str = "sentences") -> tuple[tuple[str, str], ...]:
    """VLM-R1's question for each sentence, which is a text or an object with `sent`."""
    texts = [item.get("sent") if isinstance(item, Mapping) else item for item in sentences]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise data_error(where, name, shorten(sentences), "at least one sentence, none empty", "remove the empty ones")
    return tuple((REFERRING_QUESTION.format(sentence=text.strip().removesuffix(".")), text.strip()) for text in texts)


def from_xywh(box: Any, where: str) -> tuple[float, ...]:
    x, y, w, h = four_numbers(box, "bbox", where)
    return box_corners((x, y, x + w, y + h), "bbox", where)


def box_corners(box: Any, name: str, where: str) -> tuple[float, ...]:
    x1, y1, x2, y2 = (round(side, 2) for side in four_numbers(box, name, where))
    if x1 < x2 and y1 < y2:
        return x1, y1, x2, y2
    raise data_error(
        where, name, shorten([x1, y1, x2, y2]), "a box with an area", "correct the box, or remove the row"
    )


def four_numbers(box: Any, name: str, where: str) -> Sequence[float]:
    is_four = isinstance(box, (list, tuple)) and len(box) == 4
    if is_four and all(type(side) in (int, float) and math.isfinite(side) for side in box):
        return box
    raise data_error(where, name, shorten(box), "four numbers", "correct the box, or remove the row")


def split_name(row: RefRow, where: str) -> str:
    name = value(row, "split", where)
    if name not in SPLIT_NAMES:
        raise data_error(where, "split", shorten(name), f"one of {', '.join(SPLIT_NAMES)}", "correct the split")
    return SPLIT_NAMES[name]


def split_of_file(path: Path, sources: Sources) -> str:
    found = SPLIT_IN_NAME.findall(path.stem)
    if sources.split or found:
        return sources.split or SPLIT_NAMES[found[-1]]
    remedy = f"name it as in val-00000-of-00001{path.suffix}, or give --split"
    raise data_error(str(path), "split", "a name without a split", f"one of {', '.join(SPLIT_NAMES)}", remedy)


def size(picture: bytes, where: str) -> tuple[int, int]:
    try:
        return Image.open(io.BytesIO(picture)).size
    except (OSError, Image.DecompressionBombError) as error:
        raise data_error(where, "image", str(error), "the bytes of an image", "download the files again") from error
