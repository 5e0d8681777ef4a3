"""Reads, draws and compares masks in COCO's formats, with pycocotools. (torch-free)

A `segmentation` is a list of polygons [x1, y1, x2, y2, ...] in pixels of the original image, or a run-length code
{"size": [height, width], "counts": text or list}: column by column, first the run of pixels outside. An `Rle` is such
a code with text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

Rle = dict[str, Any]  # {"size": [height, width], "counts": str}
Size = tuple[int, int]  # height, width

MAX_CORNER = 1e5  # px; pycocotools walks along every side of a polygon
MAX_BITS = 60  # of a number of the compressed text, which cocoapi reads into a long


def encode_rle(mask: np.ndarray) -> Rle:
    """The run-length code of a mask (H, W) of booleans, as plain JSON.

    >>> encode_rle(np.eye(2, dtype=bool))
    {'size': [2, 2], 'counts': '0120'}
    """
    code = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_rle(rle: Rle) -> np.ndarray:
    """The mask (H, W) of booleans of a run-length code.

    >>> decode_rle({"size": [2, 2], "counts": "0120"}).tolist()
    [[True, False], [False, True]]
    """
    return coco.decode(rle).astype(bool)


def rasterise(corners_N2: np.ndarray, size: Size) -> Rle:
    """The mask of a polygon; pixel (row i, column j) covers [j, j + 1) x [i, i + 1); cut at the image's edge."""
    flat = np.asarray(corners_N2, dtype=float).reshape(-1).tolist()
    return coco.frPyObjects([flat], *size)[0]


def mask_iou_of(a: Rle, b: Rle) -> float:
    """Intersection over union of two masks of one size, in [0, 1]; 0 where both are empty.

    >>> mask_iou_of(encode_rle(np.array([[1, 1, 0]])), encode_rle(np.array([[0, 1, 1]])))
    0.3333333333333333
    """
    value = float(coco.iou([a], [b], [0])[0][0])
    return value if math.isfinite(value) else 0.0


def mask_overlap(a: Rle, b: Rle) -> tuple[int, int]:
    """Pixel counts of two masks of one size: (in both, in either).

    >>> mask_overlap(encode_rle(np.array([[1, 1, 0]])), encode_rle(np.array([[0, 1, 1]])))
    (1, 3)
    """
    both = int(coco.area(coco.merge([a, b], intersect=True)))
    return both, int(coco.area(a)) + int(coco.area(b)) - both


def read_segmentation(value: object, size: Size) -> Rle:
    """The mask of a COCO annotation on an image of (height, width); its polygons are united.

    Raises ValueError that names the defect: no segmentation, a corner beyond MAX_CORNER, runs that do not fill the
    image, another size, or no pixel inside.

    >>> rle = read_segmentation([[1, 0, 3, 0, 3, 2, 1, 2]], (2, 4))
    >>> decode_rle(rle).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    rle = _read_rle(value, size) if isinstance(value, Mapping) else _read_polygons(value, size)
    if coco.area(rle) == 0:
        raise ValueError("a mask without a pixel on the image")
    return rle


def _read_polygons(value: object, size: Size) -> Rle:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("neither polygons nor a run-length code")
    for polygon in value:
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon that is no list of at least three pairs x, y")
        if not all(type(v) in (int, float) and abs(v) <= MAX_CORNER for v in polygon):
            raise ValueError(f"a corner that is no number within {MAX_CORNER:g}")
    return coco.merge(coco.frPyObjects([list(map(float, polygon)) for polygon in value], *size))


def _read_rle(value: Mapping[str, Any], size: Size) -> Rle:
    counts, stated = value.get("counts"), value.get("size")
    if not isinstance(stated, (list, tuple)) or list(stated) != list(size):
        raise ValueError(f"a run-length code of size {stated}, not the gold polygon's {list(size)} (height, width)")
    if isinstance(counts, list):
        _check_runs(counts, size)
        return coco.frPyObjects({"size": list(size), "counts": counts}, *size)
    if not isinstance(counts, str) or not counts.isascii():
        raise ValueError("a run-length code whose counts are neither text nor a list")
    _check_runs(_runs(counts), size)  # where runs do not fill the image, pycocotools reads beyond its memory
    return {"size": list(size), "counts": counts}


def _check_runs(runs: Sequence[object], size: Size) -> None:
    whole = all(type(run) is int and run >= 0 for run in runs)
    if not whole or sum(runs) != size[0] * size[1]:  # type: ignore[arg-type]
        raise ValueError(f"runs that do not fill {size[0]} x {size[1]} pixels")


def _runs(counts: str) -> list[int]:
    """The runs of COCO's compressed text: five bits a character, low bits first, from the third on as differences.

    Source: cocoapi, common/maskApi.c, rleFrString. Raises ValueError for a number of more than MAX_BITS bits.

    >>> _runs("0120")  # the last is 1 + 0; pixels: 0 outside, 1 inside, 2 outside, 1 inside
    [0, 1, 2, 1]
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if shift > MAX_BITS:
            raise ValueError(f"a run of more than {MAX_BITS} bits")
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
