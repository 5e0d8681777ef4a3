"""Reads LabelMe's files, one JSON a picture, alone or as a folder of them. (torch-free)"""

import base64
import binascii
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from open_r1.data.geometry.masks import encode_rle
from open_r1.tasks.importers.annotations.outlines import box_around, ellipse_corners
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    Corner,
    ImportedItem,
    ImportOptions,
    LeftOut,
    kept_objects,
)
from open_r1.tasks.importers.nearby import json_of, near_name
from open_r1.tasks.importers.sources import Source, Unusable
from open_r1.tasks.importers.splits import split_of_folder

LABELME_FILES_READ = 5  # files of a folder by which its format is told
WITHOUT_AREA = {"line", "linestrip", "line_strip"}
MAX_PNG_PIXELS = 64_000_000


def is_labelme(source: Source) -> bool:
    """Whether a JSON object, or the first ones of a folder, have LabelMe's shapes."""
    if source.kind == "folder":
        return any(
            _is_document(json_of(Source(path))) for path in sorted(source.path.rglob("*.json"))[:LABELME_FILES_READ]
        )
    return source.kind == "json" and _is_document(source.document)


def _is_document(document: Any) -> bool:
    if not isinstance(document, Mapping) or not isinstance(document.get("shapes"), list):
        return False
    return bool({"imagePath", "imageData", "imageHeight"} & document.keys())


def read_labelme(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The picture of a file, or of each file of a folder. Raises DataError for a file that is broken."""
    if source.kind != "folder":
        yield from _read_file(source.path, source.document, options)
        return
    for path in sorted(source.path.rglob("*.json")):
        try:
            document = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            yield LeftOut(str(path), f"broken JSON: {error.msg}")
            continue
        if _is_document(document):
            yield from _read_file(path, document, options)
        else:
            yield LeftOut(str(path), "a JSON file without LabelMe's shapes")


def _read_file(path: Path, document: Mapping[str, Any], options: ImportOptions) -> Iterator[ImportedItem]:
    try:
        picture = _picture(path, document, options)
    except Unusable as error:
        yield LeftOut(str(path), str(error))
        return
    size = _size(document)
    objects = yield from kept_objects(
        (f"{path}:shape {number}", _object(shape, str(number), size))
        for number, shape in enumerate(document["shapes"], 1)
    )
    yield AnnotatedPicture(str(path), picture, size, objects, split_of_folder(path.parent))


def _picture(path: Path, document: Mapping[str, Any], options: ImportOptions) -> str | bytes:
    """The picture's name with slashes; where there is no such file, the bytes that are inside. Raises Unusable."""
    data, name = document.get("imageData"), str(document.get("imagePath") or "").replace("\\", "/")
    name = near_name(name, path.parent, options.pictures) if name.strip() else ""
    if isinstance(data, str) and data.strip() and not options.pictures.has(name):
        try:
            return base64.b64decode("".join((data.partition("base64,")[2] or data).split()), validate=True)
        except binascii.Error as error:
            raise Unusable("imageData that is no base64, and no picture of the name imagePath") from error
    if name.strip():
        return name
    raise Unusable("a file without imagePath and imageData")


def _size(document: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = document.get("imageWidth"), document.get("imageHeight")
    return (width, height) if type(width) is int and type(height) is int and width > 0 and height > 0 else None


def _object(shape: Any, number: str, size: tuple[int, int] | None) -> AnnotatedObject | str:
    """The object of a shape, or the reason why it is none."""
    if not isinstance(shape, Mapping):
        return "a shape that is no object"
    label, points = str(shape.get("label") or ""), _corners(shape.get("points"))
    kind = str(shape.get("shape_type") or "polygon")
    if points is None:
        return "a shape whose points are no numbers"
    if kind in WITHOUT_AREA:
        return f"a {kind}, which has no area"
    if kind in ("point", "points") and points:
        return AnnotatedObject(label, points=points, id=number)
    if kind == "circle" and len(points) == 2:
        outline = ellipse_corners(points[0], (math.dist(*points),) * 2)
        return _outlined(label, outline, number)
    if kind == "mask" and len(points) == 2:
        return _masked(label, points, shape.get("mask"), size, number)
    if kind == "rectangle" and len(points) in (2, 4):
        return AnnotatedObject(label, box_around(points), id=number)
    if kind in ("polygon", "rotation") and len(points) == 2:  # LabelMe 3 wrote rectangles without a type
        return AnnotatedObject(label, box_around(points), id=number)
    if kind in ("polygon", "rotation", "rectangle", "quadrilateral") and len(points) > 2:
        return _outlined(label, points, number)
    return f"a {kind} of {len(points)} points"


def _outlined(label: str, corners: tuple[Corner, ...], number: str) -> AnnotatedObject:
    return AnnotatedObject(label, box_around(corners), (corners,), id=number)


def _masked(
    label: str, points: tuple[Corner, ...], data: Any, size: tuple[int, int] | None, number: str
) -> AnnotatedObject | str:
    """The object of a mask: a PNG in base64 whose upper left pixel is the first point."""
    box = box_around(points)
    if size is None or not isinstance(data, str):
        return AnnotatedObject(label, box, id=number)
    width, height = size
    left, top = round(box[0]), round(box[1])
    try:
        with Image.open(io.BytesIO(base64.b64decode(data)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PNG_PIXELS or width * height > MAX_PNG_PIXELS:
                return "a mask of too many pixels"
            part = np.asarray(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError):
        return "a mask that is no PNG in base64"
    mask = np.zeros((height, width), bool)
    view = mask[max(top, 0) : top + part.shape[0], max(left, 0) : left + part.shape[1]]
    view[:] = part[max(-top, 0) :, max(-left, 0) :][: view.shape[0], : view.shape[1]]
    return AnnotatedObject(label, rle=encode_rle(mask), id=number) if mask.any() else "a mask without a pixel"


def _corners(value: Any) -> tuple[Corner, ...] | None:
    """The points of a shape; None for what is no list of pairs of finite numbers."""
    if not isinstance(value, list):
        return None
    is_pair = all(isinstance(p, list) and len(p) == 2 and all(type(n) in (int, float) for n in p) for p in value)
    return tuple((float(x), float(y)) for x, y in value) if is_pair else None
