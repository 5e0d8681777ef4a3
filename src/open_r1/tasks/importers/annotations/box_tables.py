"""Reads lists of boxes: CreateML's JSON, and tables of one box a line, as TensorFlow has them. (torch-free)"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

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
    SizeWh,
)
from open_r1.tasks.importers.sources import Source, Unusable

IMAGE_COLUMNS = ("filename", "file_name", "image_path", "image", "imageid", "image_id", "path", "img_path")
LABEL_COLUMNS = ("class", "label", "labelname", "class_name", "label_name", "category", "name")
CORNER_COLUMNS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("x_min", "y_min", "x_max", "y_max"))
CORNER_READINGS = ("pixels", "fractions", "per_mille", "percent")  # what the columns' names allow


def is_createml(source: Source) -> bool:
    """Whether rows have a picture and annotations with `coordinates`."""
    notes = source.first.get("annotations")
    if not isinstance(notes, list) or not {"image", "imagefilename"} & source.first.keys():
        return False
    return all(isinstance(note, Mapping) and "coordinates" in note for note in notes)


def read_createml(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures with their objects; boxes are centre, width and height in pixels."""
    for where, row in source.rows():
        if not isinstance(row, Mapping) or not isinstance(row.get("annotations"), list):
            yield LeftOut(where, "a row without annotations")
            continue
        objects = []
        for number, note in enumerate(row["annotations"], 1):
            sides = note.get("coordinates") if isinstance(note, Mapping) else None
            numbers = four_numbers_of([(sides or {}).get(name) for name in ("x", "y", "width", "height")])
            if numbers is None:
                yield LeftOut(f"{where}:{number}", "a box whose sides are no numbers")
                continue
            x, y, w, h = numbers
            box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            objects.append(AnnotatedObject(str(note.get("label") or ""), box, id=str(number)))
        yield AnnotatedPicture(where, str(row.get("image") or row.get("imagefilename")), None, tuple(objects))


def is_box_table(source: Source) -> bool:
    """Whether the columns of a CSV are a picture, a label and the four sides of a box."""
    return source.kind == "csv" and _columns(source.first) is not None


def read_box_table(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of a table with their objects. Raises DataError where it is unclear what the numbers are."""
    columns = _columns(source.first)
    if columns is None:
        expected = f"a picture ({IMAGE_COLUMNS[0]}), a label ({LABEL_COLUMNS[0]}) and {', '.join(CORNER_COLUMNS[0])}"
        got, remedy = ", ".join(source.first), "rename the columns"
        raise data_error(str(source.path), "columns", got, expected, remedy)
    image, label, sides = columns
    rows: dict[str, list[tuple[str, str, tuple[float, ...], SizeWh | None]]] = defaultdict(list)
    for where, row in source.rows():
        numbers = None if isinstance(row, Unusable) else four_numbers_of([row[side] for side in sides])
        if numbers is None:
            yield LeftOut(where, str(row) if isinstance(row, Unusable) else "a box whose sides are no numbers")
        else:
            rows[row[image]].append((where, row[label], numbers, _size(row, options, row[image])))
    boxes: list[Placed] = [(numbers, size) for found in rows.values() for _, _, numbers, size in found]
    frame = choose_frame(boxes, str(source.path), options.boxes, "pixels", CORNER_READINGS)
    if frame.remark:
        yield Remark(str(source.path), frame.remark)
    for name, found in rows.items():
        objects = []
        for where, text, numbers, size in found:
            if box := frame.convert(numbers, size):
                objects.append(AnnotatedObject(text, box))
            else:
                yield LeftOut(where, "a box outside of its picture, or without an area")
        yield AnnotatedPicture(found[0][0], name, found[0][3], tuple(objects))


def _columns(row: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]] | None:
    """(column of pictures, of labels, of x1, y1, x2, y2), None where some are missing."""
    names = {str(name).strip().lower(): name for name in row}
    image = next((names[name] for name in IMAGE_COLUMNS if name in names), None)
    label = next((names[name] for name in LABEL_COLUMNS if name in names), None)
    sides = next((form for form in CORNER_COLUMNS if set(form) <= names.keys()), None)
    return (image, label, tuple(names[side] for side in sides)) if image and label and sides else None


def _size(row: Mapping[str, Any], options: ImportOptions, picture: str) -> SizeWh | None:
    """The size that the row states, else that of the picture; None where there is none."""
    names = {str(name).strip().lower(): value for name, value in row.items()}
    width, height = finite_number(names.get("width")), finite_number(names.get("height"))
    if width and height:
        return round(width), round(height)
    return options.pictures.size_wh(picture) if options.pictures.has(picture) else None
