"""Objects of Label Studio's regions: rectangles, polygons, ellipses, key points, brushes. (torch-free)"""

import math
from collections.abc import Mapping
from typing import Any

from open_r1.data.geometry.masks import encode_rle
from open_r1.tasks.importers.annotations.label_studio_brush import decode_brush
from open_r1.tasks.importers.annotations.outlines import box_around, ellipse_corners, rectangle_corners
from open_r1.tasks.importers.items import AnnotatedObject, SizeWh

LABELS = (
    "rectanglelabels",
    "polygonlabels",
    "ellipselabels",
    "keypointlabels",
    "brushlabels",
    "labels",
    "hypertextlabels",
)


def region_object(result: Mapping[str, Any], size: SizeWh | None) -> AnnotatedObject | str:
    """The object of a region, in pixels of a picture of `size` (width, height); or the reason why it is none."""
    value = result["value"]
    labels = next((value[name] for name in LABELS if value.get(name)), [])
    labels = [labels] if isinstance(labels, str) else labels
    if size is None:
        return "a region without the size of its picture (original_width, original_height)"
    if len(labels) != 1 or not isinstance(labels[0], str):
        return "a region with several labels" if labels else "a region without a label"
    identity = str(result.get("id") or "")
    if "rle" in value:
        return _brush(labels[0], value["rle"], size, identity)
    if "points" in value:
        return _polygon(labels[0], value["points"], size, identity)
    if "radiusX" in value:
        return _ellipse(labels[0], value, size, identity)
    if {"width", "height"} <= value.keys() and "keypointlabels" not in value:
        return _rectangle(labels[0], value, size, identity)
    numbers = _pixels(value, ("x", "y"), size)
    return AnnotatedObject(labels[0], points=(numbers,), id=identity) if numbers else "a region whose numbers are none"


def _rectangle(label: str, value: Mapping[str, Any], size: SizeWh, identity: str) -> AnnotatedObject | str:
    """A rectangle; turned around its upper left corner it becomes a polygon."""
    corner, sides, angle = _pixels(value, ("x", "y"), size), _pixels(value, ("width", "height"), size), _angle(value)
    if corner is None or sides is None or angle is None:
        return "a region whose numbers are none"
    box = (*corner, corner[0] + sides[0], corner[1] + sides[1])
    if not angle % 360:
        return AnnotatedObject(label, box, id=identity)
    corners = rectangle_corners(box, angle, corner)
    return AnnotatedObject(label, box_around(corners), (corners,), id=identity)


def _ellipse(label: str, value: Mapping[str, Any], size: SizeWh, identity: str) -> AnnotatedObject | str:
    centre, radii, angle = (
        _pixels(value, ("x", "y"), size),
        _pixels(value, ("radiusX", "radiusY"), size),
        _angle(value),
    )
    if centre is None or radii is None or angle is None:
        return "a region whose numbers are none"
    corners = ellipse_corners(centre, radii, angle)
    return AnnotatedObject(label, box_around(corners), (corners,), id=identity)


def _polygon(label: str, points: Any, size: SizeWh, identity: str) -> AnnotatedObject | str:
    pairs = [{"x": p[0], "y": p[1]} for p in points if isinstance(p, list) and len(p) == 2]
    corners = tuple(corner for pair in pairs if (corner := _pixels(pair, ("x", "y"), size)))
    if len(corners) < 3 or len(corners) < len(points):
        return "a polygon of fewer than three points"
    return AnnotatedObject(label, box_around(corners), (corners,), id=identity)


def _brush(label: str, codes: Any, size: SizeWh, identity: str) -> AnnotatedObject | str:
    try:
        mask = decode_brush(codes, size)
    except (ValueError, TypeError) as error:
        return f"a brush with {error}"
    return AnnotatedObject(label, rle=encode_rle(mask), id=identity) if mask.any() else "a brush without a pixel"


def _pixels(value: Mapping[str, Any], names: tuple[str, str], size: SizeWh) -> tuple[float, float] | None:
    """Two numbers in percent of the sides as pixels; None where they are none."""
    numbers = [value.get(name) for name in names]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        return None
    return numbers[0] / 100 * size[0], numbers[1] / 100 * size[1]


def _angle(value: Mapping[str, Any]) -> float | None:
    angle = value.get("rotation") or 0
    return float(angle) if type(angle) in (int, float) and math.isfinite(angle) else None
