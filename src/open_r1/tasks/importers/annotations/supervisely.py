"""Reads Supervisely's JSON, `ann/NAME.json` for each picture `img/NAME`, alone or in a folder. (torch-free)"""

import base64
import binascii
import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from open_r1.data.geometry.masks import encode_rle
from open_r1.tasks.importers.annotations.outlines import box_around
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    Corner,
    ImportedItem,
    ImportOptions,
    LeftOut,
    SizeWh,
    kept_objects,
)
from open_r1.tasks.importers.nearby import json_of, near_name
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_of_folder

FILES_READ = 5  # of a folder, by which its format is told
MAX_PACKED_BYTES = 64_000_000  # of an unpacked bitmap


def is_supervisely(source: Source) -> bool:
    """Whether a JSON object, or the first ones in folders `ann`, are a picture's annotations."""
    if source.kind == "folder":
        return any(_is_annotation(json_of(Source(path))) for path in _annotation_files(source.path)[:FILES_READ])
    return source.kind == "json" and _is_annotation(source.document)


def _annotation_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("ann/*.json")) or sorted(folder.glob("*.json"))


def _is_annotation(document: Any) -> bool:
    if not isinstance(document, Mapping) or not isinstance(document.get("objects"), list):
        return False
    return isinstance(document.get("size"), Mapping) and "tags" in document


def read_supervisely(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of the files with their objects."""
    for path in _annotation_files(source.path) if source.kind == "folder" else [source.path]:
        document = json_of(Source(path))
        if not _is_annotation(document):
            yield LeftOut(str(path), "a JSON file that is no annotation of Supervisely")
            continue
        sides = document["size"].get("width"), document["size"].get("height")
        size = sides if all(type(side) is int and side > 0 for side in sides) else None
        objects = yield from kept_objects(
            (f"{path}:object {number}", _object(one, str(number), size))
            for number, one in enumerate(document["objects"], 1)
        )
        name = near_name(f"img/{path.stem}", path.parent.parent, options.pictures)
        split = split_of_folder(path.parent.parent)
        yield AnnotatedPicture(str(path), name.removeprefix("img/"), size, objects, split)


def _object(one: Any, number: str, size: SizeWh | None) -> AnnotatedObject | str:
    """The object of a figure, or the reason why it is none."""
    kind = one.get("geometryType") if isinstance(one, Mapping) else None
    label = str(one.get("classTitle") or "") if kind else ""
    if kind == "bitmap":
        return _bitmap(label, one.get("bitmap"), number, size)
    corners = _corners(one.get("points")) if kind else None
    if corners is None:
        return "a figure whose points are no numbers"
    if kind == "point" and len(corners) == 1:
        return AnnotatedObject(label, points=corners, id=number)
    if kind == "rectangle" and len(corners) == 2:
        return AnnotatedObject(label, box_around(corners), id=number)
    if kind == "polygon" and len(corners) > 2:
        return AnnotatedObject(label, box_around(corners), (corners,), id=number)
    return f"a {kind} of {len(corners)} points"


def _corners(points: Any) -> tuple[Corner, ...] | None:
    exterior = points.get("exterior") if isinstance(points, Mapping) else None
    if not isinstance(exterior, list) or not exterior:
        return None
    sound = all(isinstance(p, list) and len(p) == 2 and all(type(n) in (int, float) for n in p) for p in exterior)
    return tuple((float(x), float(y)) for x, y in exterior) if sound else None


def _bitmap(label: str, bitmap: Any, number: str, size: SizeWh | None) -> AnnotatedObject | str:
    """A mask: a PNG, packed by zlib, in base64; its upper left pixel is at `origin`."""
    if size is None or size[0] * size[1] > MAX_PACKED_BYTES or not isinstance(bitmap, Mapping):
        return "a bitmap without the size of its picture"
    try:
        packed, unpacker = base64.b64decode(bitmap["data"]), zlib.decompressobj()
        with Image.open(io.BytesIO(unpacker.decompress(packed, MAX_PACKED_BYTES)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PACKED_BYTES:
                return "a bitmap of too many pixels"
            part = np.asarray(image.convert("RGBA").getchannel("A" if image.has_transparency_data else "R")) > 0
        left, top = (int(side) for side in bitmap["origin"])
    except (KeyError, TypeError, ValueError, OSError, SyntaxError, zlib.error, binascii.Error):
        return "a bitmap that is no packed PNG"
    if left < 0 or top < 0 or left + part.shape[1] > size[0] or top + part.shape[0] > size[1]:
        return "a bitmap that leaves its picture"
    mask = np.zeros((size[1], size[0]), bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return AnnotatedObject(label, rle=encode_rle(mask), id=number) if mask.any() else "a bitmap without a pixel"
