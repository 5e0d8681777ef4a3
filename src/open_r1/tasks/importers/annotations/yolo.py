"""Reads YOLO's folders: a text file a picture, boxes or polygons in fractions of its sides, and the names of classes.

The folder has `labels` beside `images`, or text files beside their pictures; names stand in data.yaml, classes.txt or
obj.names. The size of a picture is that of its file. (torch-free)
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from open_r1.errors import DataError, data_error
from open_r1.tasks.importers.annotations.outlines import box_around, pairs_of
from open_r1.tasks.importers.annotations.safe_xml import finite_number
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    ImportedItem,
    ImportOptions,
    LeftOut,
    Remark,
    SizeWh,
    kept_objects,
)
from open_r1.tasks.importers.pictures import ENDINGS
from open_r1.tasks.importers.sources import Source, Unusable
from open_r1.tasks.importers.splits import split_in_name

LISTS = ("classes.txt", "obj.names", "labels.txt", "names.txt", "predefined_classes.txt", "notes.json")
NOT_LABELS = {*LISTS, "train.txt", "val.txt", "test.txt", "valid.txt", "readme.txt", "requirements.txt"}
YOLO_FILES_READ = 20  # text files of a folder by which its format is told
BEYOND_EDGE = 0.01  # of a side, that numbers may be beyond it


def is_yolo(source: Source) -> bool:
    """Whether a folder has text files of YOLO's lines, or a YAML file the names of classes and where pictures are."""
    if source.kind == "folder":
        files = list(islice(_label_files(source.path), YOLO_FILES_READ))
        return any(_first_line(path) and _is_label_file(path) for path in files)
    if source.path.suffix.lower() not in (".yaml", ".yml"):
        return False
    try:
        return "names" in _read_yaml(source.path)
    except DataError:
        return False


def read_yolo(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of a folder, or of that of a data.yaml. Raises DataError where classes have no names."""
    folder = source.path if source.kind == "folder" else source.path.parent
    names, has_key_points = _class_names(folder, source.path if source.kind != "folder" else None)
    seen: set[Path] = set()
    for path in _label_files(folder):
        if not _is_label_file(path):
            yield LeftOut(str(path), "a text file that has no lines of YOLO")
            continue
        picture = _picture_of(path)
        if picture is None and not options.pictures.has(path.stem):
            yield LeftOut(str(path), "a file of labels whose picture is not there")
            continue
        seen |= {picture} if picture else set()
        name = str(picture.resolve()) if picture else path.stem  # a name without ending is looked for everywhere
        yield from _picture(path, name, folder, names, has_key_points, options)
    bare = sum(path not in seen for path in _pictures_below(folder))
    if bare:
        yield Remark(str(folder), f"pictures without a file of labels: {bare}; left out, maybe not annotated")


def _label_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.txt")) if path.name.lower() not in NOT_LABELS)


def _pictures_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _is_label_file(path: Path) -> bool:
    """Whether the first line of a file is a class and at least four numbers; an empty one is of a bare picture."""
    parts = _first_line(path).split()
    return not parts or (parts[0].isdigit() and len(parts) >= 5 and None not in map(finite_number, parts[1:]))


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return next((line for line in islice(file, 100) if line.strip()), "")


def _picture_of(label: Path) -> Path | None:
    """The picture of a file of labels: `images` in the place of `labels` in its path, or beside it."""
    parts = list(label.parts)
    folders = [label.parent]
    for at in reversed([i for i, part in enumerate(parts) if part.lower() == "labels"]):
        folders.append(Path(*parts[:at], "images", *parts[at + 1 : -1]))
    for folder in folders:
        for ending in sorted(ENDINGS):
            for name in (label.stem + ending, label.stem + ending.upper()):
                if (folder / name).is_file():
                    return folder / name
    return None


def _picture(
    path: Path, name: str, folder: Path, names: Mapping[int, str], has_key_points: bool, options: ImportOptions
) -> Iterator[ImportedItem]:
    try:
        size = options.pictures.size_wh(name)
    except Unusable as error:
        yield LeftOut(str(path), str(error))
        return
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    objects = yield from kept_objects(
        (f"{path}:{number}", line_object(line.split(), size, names, has_key_points))
        for number, line in enumerate(lines, 1)
        if line.strip()
    )
    yield AnnotatedPicture(str(path), name, size, objects, split_in_name(path.relative_to(folder).parent.as_posix()))


def line_object(
    parts: Sequence[str], size: SizeWh, names: Mapping[int, str], has_key_points: bool = False
) -> AnnotatedObject | str:
    """The object of a line: class, centre x and y, width, height; or class and the corners of a polygon; or the reason
    why it is none.

    >>> line_object("0 0.5 0.5 0.2 0.4".split(), (100, 50), {0: "cat"}).box
    (40.0, 15.0, 60.0, 35.0)
    """
    numbers = [finite_number(part) for part in parts[1:]]
    if not parts[0].isdigit() or None in numbers:
        return "a line that is not a class and numbers"
    if int(parts[0]) not in names:
        return f"a class that has no name: {int(parts[0])}"
    if not all(-BEYOND_EDGE <= number <= 1 + BEYOND_EDGE for number in numbers[:4]):
        return "numbers beyond 0 to 1, which YOLO's lines have"
    label, count = names[int(parts[0])], len(numbers)
    if count == 4 or (has_key_points and count > 4):
        x, y, w, h = numbers[0] * size[0], numbers[1] * size[1], numbers[2] * size[0], numbers[3] * size[1]
        return AnnotatedObject(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    if count == 5:
        return "a line with a confidence: a prediction"
    if count < 6 or count % 2:
        return f"a line of {count} numbers after its class"
    corners = tuple((x * size[0], y * size[1]) for x, y in pairs_of(numbers))
    return AnnotatedObject(label, box_around(corners), (corners,))


def _class_names(folder: Path, given: Path | None) -> tuple[dict[int, str], bool]:
    """(name of each class, whether lines have key points). Raises DataError without names."""
    yamls = [given] if given else [path for end in ("yaml", "yml") for path in sorted(folder.glob(f"*.{end}"))]
    for path in yamls:
        settings = _read_yaml(path)
        if names := _numbered(settings.get("names")):
            return names, "kpt_shape" in settings
    for place in (folder, folder / "labels", folder.parent):
        for name in LISTS[:-1]:
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return {number: line.strip() for number, line in enumerate(lines) if line.strip()}, False
    remedy = "write classes.txt there, one name a line in the order of the classes"
    raise data_error(str(folder), "names", "no data.yaml and no classes.txt", "the names of the classes", remedy)


def _numbered(names: Any) -> dict[int, str]:
    if isinstance(names, list):
        return {number: str(name) for number, name in enumerate(names) if isinstance(name, (str, int, float))}
    if isinstance(names, Mapping):
        named = {str(number): name for number, name in names.items() if isinstance(name, (str, int, float))}
        return {int(number): str(name) for number, name in named.items() if number.isdigit()}
    return {}


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise data_error(str(path), "file", "broken YAML", "YAML with the names of classes", "correct it") from error
    return value if isinstance(value, Mapping) else {}
