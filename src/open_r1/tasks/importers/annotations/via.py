"""Reads the JSON of VGG's image annotator (VIA): regions of files, alone or in a saved project. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.tasks.importers.annotations.outlines import box_around, ellipse_corners
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    ImportedItem,
    ImportOptions,
    LeftOut,
    kept_objects,
)
from open_r1.tasks.importers.nearby import near_name
from open_r1.tasks.importers.sources import Source

LABEL_ATTRIBUTES = ("label", "class", "name", "type", "category", "object", "class_name")
FILES = "_via_img_metadata"  # the files of a saved project


def is_via(source: Source) -> bool:
    """Whether a JSON object maps keys to files with regions."""
    if source.kind != "json" or not isinstance(source.document, Mapping):
        return False
    if FILES in source.document:
        return True
    files = list(source.document.values())[:5]
    return bool(files) and all(isinstance(one, Mapping) and {"filename", "regions"} <= one.keys() for one in files)


def read_via(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The files with their regions; files that nobody annotated are left out."""
    for key, entry in source.document.get(FILES, source.document).items():
        where = f"{source.path}:{key}"
        regions = entry.get("regions") if isinstance(entry, Mapping) else None
        regions = list(regions.values()) if isinstance(regions, Mapping) else regions
        if not isinstance(regions, list) or not entry.get("filename"):
            yield LeftOut(where, "a file without a name or regions")
            continue
        objects = yield from kept_objects(
            (f"{where}:region {number}", _object(region)) for number, region in enumerate(regions, 1)
        )
        if regions:
            file = near_name(str(entry["filename"]), source.path.parent, options.pictures)
            yield AnnotatedPicture(where, file, None, objects)
        else:
            yield LeftOut(where, "a file without a region")


def _object(region: Any) -> AnnotatedObject | str:
    """The object of a region, or the reason why it is none."""
    shape = region.get("shape_attributes") if isinstance(region, Mapping) else None
    if not isinstance(shape, Mapping):
        return "a region without a shape"
    label, kind = region_label(region.get("region_attributes") or {}), shape.get("name")
    try:
        if kind == "rect":
            x, y = float(shape["x"]), float(shape["y"])
            return AnnotatedObject(label, (x, y, x + float(shape["width"]), y + float(shape["height"])))
        if kind == "point":
            return AnnotatedObject(label, points=((float(shape["cx"]), float(shape["cy"])),))
        if kind in ("circle", "ellipse"):
            radii = (float(shape.get("rx", shape.get("r"))), float(shape.get("ry", shape.get("r"))))
            angle = float(shape.get("theta") or 0) * 57.29577951308232  # radians
            corners = ellipse_corners((float(shape["cx"]), float(shape["cy"])), radii, angle)
        elif kind == "polygon":
            pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
            corners = tuple((float(x), float(y)) for x, y in pairs)
        else:
            return f"a {kind}, which has no area"
    except (KeyError, TypeError, ValueError):
        return "a region whose numbers are none"
    return AnnotatedObject(label, box_around(corners), (corners,)) if len(corners) > 2 else "a polygon of two points"


def region_label(attributes: Mapping[str, Any]) -> str:
    """The label among a region's attributes: the one of a usual name, else the only one; "" without one.

    >>> region_label({"name": "cat", "note": "x"}), region_label({"animal": {"dog": True}}), region_label({})
    ('cat', 'dog', '')
    """
    named = [attributes[name] for name in LABEL_ATTRIBUTES if attributes.get(name)]
    value = (named or [value for value in attributes.values() if value] or [""])[0]
    if isinstance(value, Mapping):  # of a check box
        value = next((name for name, is_chosen in value.items() if is_chosen), "")
    return str(value)
