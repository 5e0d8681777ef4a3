"""Reads data sets of the hub for object detection: a picture and a column of objects, in rows or beside a folder.

Objects are lists side by side, {"bbox": [[...], ...], "category": [...]}, or a list of {"bbox", "label"}. What the
numbers of a box are is told from all boxes, as nothing declares it; numbers of labels need names, which parquet of the
hub and saved data sets carry. (torch-free)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from open_r1.errors import data_error
from open_r1.tasks.importers.annotations.frames import Placed, choose_frame, four_numbers_of
from open_r1.tasks.importers.annotations.safe_xml import finite_number
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    ImportedItem,
    ImportOptions,
    LeftOut,
    Remark,
)
from open_r1.tasks.importers.nearby import near_name
from open_r1.tasks.importers.picture_values import pictures_in
from open_r1.tasks.importers.sources import Source, Unusable

OBJECT_COLUMNS = ("objects", "annotations", "instances")
BOX_COLUMNS = ("bbox", "bboxes", "boxes", "box", "bbox_2d")
LABEL_LISTS = (
    "category",
    "categories",
    "label",
    "labels",
    "class",
    "classes",
    "category_name",
    "name",
    "category_id",
)
PICTURE_COLUMNS = ("image", "file_name", "image_path", "path")
ASKED = {
    "messages",
    "conversations",
    "problem",
    "question",
    "query",
    "prompt",
}
FOLDER_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def has_object_column(source: Source) -> bool:
    """Whether the rows of a source, or of a folder's metadata, have a picture and a column of boxes with labels."""
    if source.kind == "folder":
        return any(has_object_column(Source(path)) for path in _metadata_files(source.path))
    row = source.first
    if ASKED & row.keys() or not any(row.get(name) for name in PICTURE_COLUMNS):
        return False
    return any(_columns(row.get(name)) is not None for name in OBJECT_COLUMNS)


def _metadata_files(folder: Path) -> list[Path]:
    return [path for name in FOLDER_FILES for path in (*folder.glob(name), *sorted(folder.glob(f"*/{name}")))]


def read_object_columns(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of the rows with their objects. Raises DataError for labels without names and unclear boxes."""
    files = [Source(path) for path in _metadata_files(source.path)] if source.kind == "folder" else [source]
    names = [name for file in files for name in _label_names(file)]
    rows: list[tuple[str, AnnotatedPicture, list[tuple[str, tuple[float, ...]]]]] = []
    for file in files:
        for where, row in file.rows():
            try:
                rows.append((where, *_row(row, where, file.path, names, options)))
            except Unusable as error:
                yield LeftOut(where, str(error))
    boxes: list[Placed] = [(box, picture.size_wh) for _, picture, found in rows for _, box in found]
    frame = choose_frame(boxes, str(source.path), options.boxes)
    if frame.remark:
        yield Remark(str(source.path), frame.remark)
    for where, picture, found in rows:
        objects = []
        for label, numbers in found:
            if box := frame.convert(numbers, picture.size_wh):
                objects.append(AnnotatedObject(label, box))
            else:
                yield LeftOut(where, "a box outside of its picture, or without an area")
        yield AnnotatedPicture(where, picture.image, picture.size_wh, tuple(objects), picture.split)


def _row(
    row: Any, where: str, path: Path, names: Sequence[str], options: ImportOptions
) -> tuple[AnnotatedPicture, list[tuple[str, tuple[float, ...]]]]:
    """(the picture without objects, label and numbers of each box). Raises Unusable for a row that is none."""
    if isinstance(row, Unusable) or not isinstance(row, Mapping):
        raise row if isinstance(row, Unusable) else Unusable("a row that is no object")
    columns = next((found for name in OBJECT_COLUMNS if (found := _columns(row.get(name))) is not None), None)
    pictures = pictures_in(next((row[name] for name in PICTURE_COLUMNS if row.get(name)), None))
    if columns is None or len(pictures) != 1:
        raise Unusable("a row without one picture and its objects")
    image = pictures[0]
    image = near_name(image, path.parent, options.pictures) if isinstance(image, str) else image
    found = str(options.pictures.find(image))  # bytes are stored now: all rows' pictures would fill the memory
    size = finite_number(str(row.get("width"))), finite_number(str(row.get("height")))
    wh = (round(size[0]), round(size[1])) if size[0] and size[1] else options.pictures.size_wh(found)
    objects = [(_named(label, names, where), box) for label, box in zip(*columns, strict=True) if box is not None]
    return AnnotatedPicture(where, found, wh, (), str(row.get("split") or "")), objects


def _columns(objects: Any) -> tuple[list[Any], list[tuple[float, ...] | None]] | None:
    """(labels, boxes) of a column of objects, as many of each; None where it is none."""
    if isinstance(objects, str) and objects.startswith(("{", "[")):  # of a CSV
        try:
            objects = json.loads(objects)
        except json.JSONDecodeError:
            return None
    if isinstance(objects, Sequence) and not isinstance(objects, str) and objects:
        if not all(isinstance(one, Mapping) for one in objects):
            return None
        objects = {key: [one.get(key) for one in objects] for key in objects[0]}
    if not isinstance(objects, Mapping):
        return None
    box = next((objects[name] for name in BOX_COLUMNS if isinstance(objects.get(name), Sequence)), None)
    label = next((objects[name] for name in LABEL_LISTS if isinstance(objects.get(name), Sequence)), None)
    if box is None or label is None or len(box) != len(label) or isinstance(label, str):
        return None
    return list(label), [four_numbers_of(list(one) if isinstance(one, Sequence) else one) for one in box]


def _named(label: Any, names: Sequence[str], where: str) -> str:
    """A label's name. Raises DataError for a number without one."""
    if isinstance(label, str):
        return label
    if type(label) is int and 0 <= label < len(names):
        return names[label]
    remedy = "write the names of the labels in place of their numbers"
    raise data_error(where, "objects", f"the label {label!r}, which has no name", "labels with names", remedy)


def _label_names(source: Source) -> list[str]:
    """The names of labels in the features of a parquet file of the hub, or of a saved data set; [] without any."""
    if source.kind == "parquet":
        text = (pq.read_schema(source.path).metadata or {}).get(b"huggingface", b"{}")
        return _class_names_in(json.loads(text))
    if source.kind == "saved":
        paths = sorted(source.path.rglob("dataset_info.json"))
        return _class_names_in(json.loads(paths[0].read_text(encoding="utf-8"))) if paths else []
    return []


def _class_names_in(features: Any) -> list[str]:
    """The names of the first ClassLabel within the description of features."""
    if isinstance(features, Mapping):
        if features.get("_type") == "ClassLabel":
            return list(map(str, features.get("names") or ()))
        features = list(features.values())
    if isinstance(features, list):
        return next((names for one in features if (names := _class_names_in(one))), [])
    return []
