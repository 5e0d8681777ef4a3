"""Reads the public forms of RefCOCO, RefCOCO+ and RefCOCOg as regions with their sentences, for prepare_refcoco.py.

A reader yields (row, convert) for each row of a file; `convert(row, place)` returns its `Region`, None where the row
has no answer, and raises DataError for a defective row.
"""

import io
import json
import math
import pickle  # nosec B403 # read by PlainUnpickler alone, which refuses all code
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
QUESTION_PREFIX = REFERRING_QUESTION.partition("{sentence}")[0]
LMMS_COLUMNS = {"answer", "bbox", "file_name", "image"}
JXU_COLUMNS = {"sentences", "bbox", "file_name", "split"}
# the errors of a damaged pickle
DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
DAMAGED += (MemoryError,)
RefRow = Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """The flags that belong to the files: the refs' instances.json, and the split of files without one."""

    instances: Path | None = None
    split: str | None = None


@dataclass(frozen=True)
class Region:
    """A region of an image with the questions about it. `box`: (x1, y1, x2, y2) in pixels of the original image."""

    image: str
    box: tuple[float, ...]
    questions: tuple[tuple[str, str], ...]  # (question, sentence)
    split: str
    image_wh: tuple[int, int] | None = None
    picture: bytes | None = None
    ids: Mapping[str, Any] = field(default_factory=dict)


Convert = Callable[[RefRow, str], Region | None]  # (row, its place) -> None where it has no answer
Reader = Callable[[Path, Sources], Iterator[tuple[RefRow, Convert]]]


class PlainUnpickler(pickle.Unpickler):
    """An unpickler for lists, dicts, texts and numbers only; refuses classes and functions, which could run code."""

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
    """The rows of a pickle of the refer toolbox."""
    if sources.instances is None:
        raise data_error(str(path), "--instances", "nothing", "the instances.json beside the refs", "give its path")
    instances = json.loads(sources.instances.read_text(encoding="utf-8"))
    place = str(sources.instances)
    boxes = {row["id"]: row["bbox"] for row in required_field(instances, "annotations", place)}
    images = {row["id"]: row for row in required_field(instances, "images", place)}
    with open(path, "rb") as file:
        refs = load_refs(file, str(path))
    convert = partial(from_ref, boxes=boxes, images=images, instances=sources.instances)
    return ((row, convert) for row in refs)


def from_ref(row: RefRow, where: str, boxes: RefRow, images: RefRow, instances: Path) -> Region:
    """The region of a row of the refer toolbox: ref_id, ann_id, image_id, split, sentences with `sent`."""
    for name, table in (("ann_id", boxes), ("image_id", images)):
        if not isinstance(required_field(row, name, where), (int, str)) or row[name] not in table:
            got, remedy = shorten(row[name]), "give the instances.json that belongs to the refs"
            raise data_error(where, name, got, f"an id of {instances}", remedy)
    image, ids = images[row["image_id"]], {name: row[name] for name in ("ref_id", "ann_id") if name in row}
    pairs = sentence_questions(required_field(row, "sentences", where), where)
    box = from_xywh(boxes[row["ann_id"]], where)
    name = PurePosixPath(required_field(image, "file_name", where)).name
    return Region(image_name(name), box, pairs, split_name(row, where), row_size(image), ids=ids)


def parquet_rows(path: Path, sources: Sources) -> Iterator[tuple[RefRow, Convert]]:
    """The rows of a parquet file of the hub datasets by lmms-lab or jxu124."""
    file = pq.ParquetFile(path)
    columns = set(file.schema_arrow.names)
    if columns >= LMMS_COLUMNS:
        convert: Convert = partial(from_lmms, split=split_of_file(path, sources))
    elif columns >= JXU_COLUMNS:
        convert = from_jxu
    else:
        expected = f"{', '.join(sorted(LMMS_COLUMNS))} (lmms-lab) or {', '.join(sorted(JXU_COLUMNS))} (jxu124)"
        raise data_error(
            str(path), "columns", ", ".join(sorted(columns)), expected, "rename the columns to one of these"
        )
    batches = file.iter_batches(batch_size=64, columns=sorted(columns - {"segmentation"}))
    return ((row, convert) for batch in batches for row in batch.to_pylist())


def from_lmms(row: RefRow, where: str, split: str) -> Region:
    """The region of a row of lmms-lab: the sentences are the `answer`, the box is x, y, width, height, the image is
    inside."""
    answer, name = required_field(row, "answer", where), PurePosixPath(required_field(row, "file_name", where)).name
    pairs = sentence_questions([answer] if isinstance(answer, str) else answer, where, "answer")
    picture = row["image"].get("bytes") if isinstance(row["image"], dict) else None
    if not picture:
        got = shorten(row["image"])
        raise data_error(where, "image", got, "the bytes of an image", "download the files again, with their images")
    ids, size = {name: row[name] for name in ("question_id",) if name in row}, picture_size(picture, where)
    return Region(image_name(name), from_xywh(row["bbox"], where), pairs, split, size, picture, ids)


def from_jxu(row: RefRow, where: str) -> Region:
    """The region of a row of jxu124: sentences as in the refer toolbox, the box is x1, y1, x2, y2."""
    name = PurePosixPath(required_field(row, "file_name", where)).name
    pairs, box = sentence_questions(row["sentences"], where), box_corners(row["bbox"], "bbox", where)
    ids = {name: row[name] for name in ("ref_id", "ann_id") if name in row}
    wh = row_size(json.loads(row.get("raw_image_info") or "{}"))
    return Region(image_name(name), box, pairs, split_name(row, where), wh, ids=ids)


def json_rows(path: Path, sources: Sources) -> Iterator[tuple[RefRow, Convert]]:
    """The rows of one of VLM-R1's rec_jsons."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise data_error(str(path), "file", type(rows).__name__, "a list of rows", "give one of VLM-R1's rec_jsons")
    convert = partial(from_rec_json, split=split_of_file(path, sources))
    return ((row, convert) for row in rows)


def from_rec_json(row: RefRow, where: str, split: str) -> Region | None:
    """The region of a row of VLM-R1: image, problem, solution; the sentence is `normal_caption` or in the problem."""
    image, problem = required_field(row, "image", where), required_field(row, "problem", where)
    if row.get("solution") is None:
        return None
    sentence = row.get("normal_caption") or problem.partition(QUESTION_PREFIX)[2].removesuffix(".") or problem
    ids = {"ann_id": row["annotation_id"]} if "annotation_id" in row else {}
    box = box_corners(row["solution"], "solution", where)
    return Region(image_name(image), box, ((problem, sentence),), split, row_size(row), ids=ids)


READERS: dict[str, Reader] = {".p": refs_rows, ".parquet": parquet_rows, ".json": json_rows}


def image_name(path: str) -> str:
    """An image's name without the number of the annotation that some forms append to it.

    >>> image_name("COCO_train2014_000000581857_16.jpg"), image_name("val2017/000000494869.jpg")
    ('COCO_train2014_000000581857.jpg', 'val2017/000000494869.jpg')
    """
    return ANNOTATION_NUMBER.sub("", path)


def row_size(row: RefRow) -> tuple[int, int] | None:
    """(width, height) of a row that has both, else None."""
    return (row["width"], row["height"]) if row.get("width") and row.get("height") else None


def required_field(row: RefRow, name: str, where: str) -> Any:
    """The value of a required field; raises DataError where it is missing or empty."""
    if not isinstance(row, Mapping):
        raise data_error(where, "row", shorten(row), "an object with fields", "give the file it belongs to")
    if row.get(name) in (None, ""):
        fields = ", ".join(map(str, row))
        raise data_error(where, name, f"nothing (the row has: {fields})", "a value", "add it, or correct the name")
    return row[name]


def sentence_questions(sentences: Sequence[Any], where: str, name: str = "sentences") -> tuple[tuple[str, str], ...]:
    """(VLM-R1's question, sentence) for each sentence, which is a text or an object with `sent`."""
    texts = [item.get("sent") if isinstance(item, Mapping) else item for item in sentences]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise data_error(where, name, shorten(sentences), "at least one sentence, none empty", "remove the empty ones")
    return tuple((REFERRING_QUESTION.format(sentence=text.strip().removesuffix(".")), text.strip()) for text in texts)


def from_xywh(box: Any, where: str) -> tuple[float, ...]:
    """The corners of a box x, y, width, height."""
    x, y, w, h = four_numbers(box, "bbox", where)
    return box_corners((x, y, x + w, y + h), "bbox", where)


def box_corners(box: Any, name: str, where: str) -> tuple[float, ...]:
    """A box x1, y1, x2, y2 rounded to 0.01 px; raises DataError where it has no area."""
    x1, y1, x2, y2 = (round(side, 2) for side in four_numbers(box, name, where))
    if x1 < x2 and y1 < y2:
        return x1, y1, x2, y2
    raise data_error(
        where, name, shorten([x1, y1, x2, y2]), "a box with an area", "correct the box, or remove the row"
    )


def four_numbers(box: Any, name: str, where: str) -> Sequence[float]:
    """A list of four finite numbers; raises DataError for anything else."""
    is_four = isinstance(box, (list, tuple)) and len(box) == 4
    if is_four and all(type(side) in (int, float) and math.isfinite(side) for side in box):
        return box
    raise data_error(where, name, shorten(box), "four numbers", "correct the box, or remove the row")


def split_name(row: RefRow, where: str) -> str:
    """The split that a row names; raises DataError for an unknown one."""
    name = required_field(row, "split", where)
    if name not in SPLIT_NAMES:
        raise data_error(where, "split", shorten(name), f"one of {', '.join(SPLIT_NAMES)}", "correct the split")
    return SPLIT_NAMES[name]


def split_of_file(path: Path, sources: Sources) -> str:
    """The split of a file: `--split`, else the one in its name; raises DataError without either."""
    splits = SPLIT_IN_NAME.findall(path.stem)
    if sources.split or splits:
        return sources.split or SPLIT_NAMES[splits[-1]]
    remedy = f"name it as in val-00000-of-00001{path.suffix}, or give --split"
    raise data_error(str(path), "split", "a name without a split", f"one of {', '.join(SPLIT_NAMES)}", remedy)


def picture_size(picture: bytes, where: str) -> tuple[int, int]:
    """(width, height) of an encoded picture; raises DataError where it cannot be opened."""
    try:
        return Image.open(io.BytesIO(picture)).size
    except (OSError, Image.DecompressionBombError) as error:
        raise data_error(where, "image", str(error), "the bytes of an image", "download the files again") from error
