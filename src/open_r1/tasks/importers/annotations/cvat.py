"""Reads CVAT's XML for images (version 1.1): boxes, polygons, points, ellipses, masks. (torch-free)"""

from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import Element  # nosec B405 # the type of what `safe_xml` read

import numpy as np

from open_r1.data.geometry.masks import encode_rle
from open_r1.errors import data_error
from open_r1.tasks.importers.annotations.outlines import box_around, ellipse_corners, rectangle_corners
from open_r1.tasks.importers.annotations.safe_xml import finite_number, read_xml, root_name
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
from open_r1.tasks.importers.nearby import near_name
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_in_name

MAX_RUN_PIXELS = 64_000_000
LEFT = {
    "polyline": "a line, which has no area",
    "cuboid": "a cuboid",
    "skeleton": "a skeleton of key points",
    "tag": "a tag of a whole picture",
}


def is_cvat(source: Source) -> bool:
    """Whether the root of an XML file, or of the one in an unpacked export, is CVAT's `annotations`."""
    path = source.path / "annotations.xml" if source.kind == "folder" else source.path
    return (source.kind == "xml" or path.is_file()) and root_name(path) == "annotations"


def read_cvat(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of a file with their objects. Raises DataError for the tracks of a video and for broken XML."""
    source = Source(source.path / "annotations.xml") if source.kind == "folder" else source
    root = read_xml(source.path)
    if root.find("track") is not None:
        got, remedy = "tracks of a video, without its pictures", "export the task as 'CVAT for images 1.1'"
        raise data_error(str(source.path), "track", got, "images with their shapes", remedy)
    for element in root.findall("image"):
        yield from _picture(source, element, options)


def _picture(source: Source, element: Element, options: ImportOptions) -> Iterator[ImportedItem]:
    name, where = element.get("name") or "", f"{source.path}:image {element.get('id', element.get('name'))}"
    sides = finite_number(element.get("width")), finite_number(element.get("height"))
    size = (round(sides[0]), round(sides[1])) if sides[0] and sides[1] else None
    if not name.strip():
        yield LeftOut(where, "an image without a name")
        return
    objects = yield from kept_objects(
        (f"{where}:{shape.tag} {number}", _object(shape, size)) for shape, number in _numbered(element)
    )
    split = split_in_name(element.get("subset") or "")
    file = near_name(name.replace("\\", "/"), source.path.parent, options.pictures)
    yield AnnotatedPicture(where, file, size, objects, split)


def _numbered(element: Element) -> Iterator[tuple[Element, int]]:
    """The shapes of a picture, each with its number, from 1, among those of its kind."""
    counts: Counter[str] = Counter()
    for shape in element:
        counts[shape.tag] += 1
        yield shape, counts[shape.tag]


def _object(shape: Element, size: SizeWh | None) -> AnnotatedObject | str:
    """The object of a shape, or the reason why it is none."""
    label, kind = shape.get("label") or "", shape.tag
    if kind in LEFT:
        return LEFT[kind]
    if kind == "points":
        points = _corners(shape)
        return AnnotatedObject(label, points=points) if points else "points that are no numbers"
    if kind == "polygon":
        corners = _corners(shape)
        return _outlined(label, corners) if len(corners) > 2 else "a polygon of fewer than three points"
    if kind == "box":
        return _box(label, shape)
    if kind == "ellipse":
        sides = _numbers(shape, ("cx", "cy", "rx", "ry"))
        angle = finite_number(shape.get("rotation")) or 0.0
        if sides is None:
            return "an ellipse whose sides are no numbers"
        return _outlined(label, ellipse_corners((sides[0], sides[1]), (sides[2], sides[3]), angle))
    return _mask(label, shape, size) if kind == "mask" else f"a shape of the kind {kind}"


def _box(label: str, shape: Element) -> AnnotatedObject | str:
    """A box; turned around its middle it becomes a polygon."""
    sides, angle = _numbers(shape, ("xtl", "ytl", "xbr", "ybr")), finite_number(shape.get("rotation")) or 0.0
    if sides is None:
        return "a box whose sides are no numbers"
    box = box_around((sides[:2], sides[2:]))
    if not angle % 360:
        return AnnotatedObject(label, box)
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return _outlined(label, rectangle_corners(box, angle, middle))


def _mask(label: str, shape: Element, size: SizeWh | None) -> AnnotatedObject | str:
    """A mask: runs of pixels outside and inside by turns, row by row within its own box."""
    sides = _numbers(shape, ("left", "top", "width", "height"))
    runs = [finite_number(text) for text in (shape.get("rle") or "").split(",")]
    if size is None or sides is None or None in runs or any(run < 0 or run % 1 for run in runs):
        return "a mask whose numbers are none"
    left, top, width, height = (int(side) for side in sides)
    fits = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if not fits or size[0] * size[1] > MAX_RUN_PIXELS or sum(runs) != width * height:
        return "a mask that does not fill its box, or leaves its picture"
    inside = np.repeat(np.arange(len(runs)) % 2, np.array(runs, int)).reshape(height, width)
    mask = np.zeros((size[1], size[0]), bool)
    mask[top : top + height, left : left + width] = inside
    return AnnotatedObject(label, rle=encode_rle(mask)) if mask.any() else "a mask without a pixel"


def _outlined(label: str, corners: tuple[Corner, ...]) -> AnnotatedObject:
    return AnnotatedObject(label, box_around(corners), (corners,))


def _numbers(shape: Element, names: tuple[str, ...]) -> tuple[float, ...] | None:
    values = [finite_number(shape.get(name)) for name in names]
    return None if None in values else tuple(values)


def _corners(shape: Element) -> tuple[Corner, ...]:
    """The points "x,y;x,y" of a shape; () where some are no numbers."""
    parts = [part.split(",") for part in (shape.get("points") or "").split(";")]
    corners = [tuple(finite_number(text) for text in part) for part in parts]
    return tuple(corners) if all(len(corner) == 2 and None not in corner for corner in corners) else ()
