"""Reads Pascal VOC's XML, one file a picture, alone or as a folder of them. (torch-free)

VOC counts pixels from 1, corners included: the box 1, 1, 300, 200 is all of a 300x200 picture, here 0, 0, 300, 200.
Sources in which some corner is 0 count from 0, and their numbers are taken as they are.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element  # nosec B405 # the type of what `safe_xml` read

from open_r1.errors import DataError
from open_r1.tasks.importers.annotations.outlines import box_around
from open_r1.tasks.importers.annotations.safe_xml import finite_number, read_xml, root_name, text_of
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    Corner,
    ImportedItem,
    ImportOptions,
    LeftOut,
    Remark,
    kept_objects,
)
from open_r1.tasks.importers.nearby import near_name
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_of_folder

VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")
VOC_FILES_READ = 5  # files of a folder by which its format is told


def is_voc(source: Source) -> bool:
    """Whether the root of an XML file, or of the first ones of a folder, is VOC's `annotation`."""
    if source.kind == "folder":
        return any(root_name(path) == "annotation" for path in islice(_files(source.path), VOC_FILES_READ))
    return source.kind == "xml" and root_name(source.path) == "annotation"


def read_voc(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The picture of a file, or of each file of a folder. A file that is broken is left out."""
    documents = []
    for path in _files(source.path) if source.kind == "folder" else [source.path]:
        try:
            documents.append((path, read_xml(path)))
        except DataError as error:
            if source.kind != "folder":
                raise
            yield LeftOut(str(path), error.problems[0].got)
    documents = [(path, root) for path, root in documents if root.tag == "annotation"]
    boxes = [element for _, root in documents for element in root.iter("bndbox")]
    from_one = not any(finite_number(text_of(box, side)) == 0 for box in boxes for side in VOC_SIDES[:2])
    if boxes:
        rule = "counted from 1, as in VOC: 1 is subtracted from xmin and ymin" if from_one else "counted from 0"
        yield Remark(str(source.path), f"pixels of boxes are {rule}")
    if hard := sum(text_of(one, "difficult") == "1" for _, root in documents for one in root.iter("object")):
        yield Remark(str(source.path), f"objects marked difficult: {hard}; they are kept")
    for path, root in documents:
        yield from _picture(path, root, 1 if from_one else 0, options)


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*.xml")))


def _picture(path: Path, root: Element, first: int, options: ImportOptions) -> Iterator[ImportedItem]:
    name = text_of(root, "filename") or text_of(root, "path")
    if not name:
        yield LeftOut(str(path), "a file without a filename")
        return
    objects = yield from kept_objects(
        (f"{path}:object {number}", _object(element, str(number), first))
        for number, element in enumerate(root.iter("object"), 1)
    )
    sides = [finite_number(text_of(root.find("size"), side)) for side in ("width", "height")]
    size = (round(sides[0]), round(sides[1])) if sides[0] and sides[1] else None
    file = near_name(name.replace("\\", "/"), path.parent, options.pictures)
    yield AnnotatedPicture(str(path), file, size, objects, split_of_folder(path.parent))


def _object(element: Element, number: str, first: int) -> AnnotatedObject | str:
    """The object of an element, or the reason why it is none; `first` is the number of the first pixel."""
    label, box = text_of(element, "name"), element.find("bndbox")
    polygon = _polygon(element.find("polygon"))
    if box is None and not polygon:
        return "an object without a box"
    sides = [finite_number(text_of(box, side)) for side in VOC_SIDES]
    if box is not None and None in sides:
        return "an object whose box has sides that are no numbers"
    if box is None:
        return AnnotatedObject(label, box_around(polygon), (polygon,), id=number)
    a, b, c, d = sides
    x1, y1, x2, y2 = min(a, c), min(b, d), max(a, c), max(b, d)
    return AnnotatedObject(label, (x1 - first, y1 - first, x2, y2), (polygon,) if polygon else (), id=number)


def _polygon(element: Element | None) -> tuple[Corner, ...]:
    """The corners of a polygon: elements `pt` or `point` with `x` and `y`, or x1, y1, x2, y2, ...; () without one."""
    if element is None:
        return ()
    pairs = [(text_of(one, "x"), text_of(one, "y")) for one in element if one.tag in ("pt", "point")]
    if not pairs:
        pairs = [(text_of(element, f"x{n}"), text_of(element, f"y{n}")) for n in range(1, len(element) // 2 + 1)]
    corners = [(finite_number(x), finite_number(y)) for x, y in pairs]
    return tuple(corners) if len(corners) > 2 and all(None not in corner for corner in corners) else ()
