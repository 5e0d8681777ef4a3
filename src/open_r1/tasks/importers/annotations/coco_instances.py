"""Reads COCO's instances files as annotated pictures; other files of COCO's kind are told apart. (torch-free)"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_r1.errors import DataError, data_error
from open_r1.tasks.importers.annotations.frames import Frame, choose_frame, four_numbers_of
from open_r1.tasks.importers.annotations.outlines import pairs_of
from open_r1.tasks.importers.items import (
    AnnotatedObject,
    AnnotatedPicture,
    ImportedItem,
    ImportOptions,
    LeftOut,
    Remark,
    SizeWh,
)
from open_r1.tasks.importers.nearby import broken_json, json_of, near_name
from open_r1.tasks.importers.sources import Source
from open_r1.tasks.importers.splits import split_in_name, split_of_folder

MOST_COCO_FILES = 50  # JSON files of a folder that are looked at


def is_coco(source: Source) -> bool:
    """Whether a JSON object, or one of a folder, has COCO's lists of images and annotations."""
    if source.kind == "folder":
        return any(_coco_files(source.path))
    return source.kind == "json" and _is_document(source.document)


def _is_document(document: Any) -> bool:
    is_list = isinstance(document, Mapping) and isinstance(document.get("images"), list)
    return is_list and bool({"annotations", "categories"} & document.keys())


def _coco_files(folder: Path) -> Iterator[Source]:
    """The instances files of a folder and of its folders."""
    return (source for source in map(Source, _json_files(folder)) if _is_document(json_of(source)))


def _json_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])[:MOST_COCO_FILES]


def read_coco(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    """The pictures of an instances file, or of those of a folder, with their objects; pictures without one too.

    Raises DataError for a file of captions, panoptic segments or test images, and where boxes are unclear.
    """
    files = list(_coco_files(source.path)) if source.kind == "folder" else [source]
    if source.kind == "folder":
        yield from broken_json(sorted({*_json_files(source.path)} - {one.path for one in files}))
    beside = [_facts(one) for one in files] if source.kind == "folder" else []
    beside += [_facts(other) for other in options.others if other.kind == "json" and is_coco(other)]
    for one in files:
        if skipped := _skipped(one, beside):
            yield Remark(str(one.path), skipped)
        else:
            yield from _read_file(one, options)


@dataclass(frozen=True)
class CocoFacts:
    """What kind of COCO's files one is, "" for instances, and the names of its images."""

    kind: str
    names: frozenset[str]


def _facts(source: Source) -> CocoFacts:
    images = source.document["images"]
    return CocoFacts(_kind(source), frozenset(str(one.get("file_name")) for one in images if isinstance(one, Mapping)))


def _kind(source: Source) -> str:
    """ "captions", "panoptic segments", "key points" or "images without annotations"; "" for instances."""
    notes = source.document.get("annotations")
    first = next((note for note in notes if isinstance(note, Mapping)), {}) if isinstance(notes, list) else {}
    kinds = {"caption": "captions", "segments_info": "panoptic segments", "keypoints": "key points"}
    return next((kind for key, kind in kinds.items() if key in first), "" if notes else "images without annotations")


def _skipped(source: Source, beside: Sequence[CocoFacts]) -> str:
    """Why a file is passed over where instances lie beside it, "" where it is not: key points are of the same objects
    as the instances of the same images."""
    kind = _kind(source)
    instances = [facts for facts in beside if not facts.kind]
    is_double = kind != "key points" or any(_facts(source).names & one.names for one in instances)
    if not kind or not instances or not is_double:
        return ""
    count = len(source.document.get("annotations") or source.document["images"])
    return f"{kind}, {count} of them, are passed over: the rows are made from the instances beside them"


def _read_file(source: Source, options: ImportOptions) -> Iterator[ImportedItem]:
    notes, images = source.document.get("annotations") or [], source.document["images"]
    _check_kind(source, notes)
    names = {str(one["id"]): str(one["name"]) for one in source.document.get("categories") or [] if _is_named(one)}
    known = [image for image in images if isinstance(image, Mapping) and "id" in image]
    sizes = {str(image["id"]): _size(image) or _size_of_file(image, source, options) for image in known}
    frame = choose_frame(_boxes(notes, sizes), str(source.path), options.boxes, declared="xywh")
    if frame.remark:
        yield Remark(str(source.path), frame.remark)
    if any(isinstance(note, Mapping) and note.get("keypoints") for note in notes):
        yield Remark(str(source.path), "key points are not used: the rows ask for boxes, outlines or numbers")
    objects: dict[str, list[AnnotatedObject]] = defaultdict(list)
    with_outline = options.task == "seg"
    for number, note in enumerate(notes, 1):
        where = f"{source.path}:annotation {note.get('id', number) if isinstance(note, Mapping) else number}"
        found = _object(note, names, sizes, frame, with_outline)
        if isinstance(found, str):
            yield LeftOut(where, found)
        else:
            objects[str(note["image_id"])].append(found)
    yield from _pictures(source, images, objects, options)


def _pictures(
    source: Source, images: Sequence[Any], objects: Mapping[str, list[AnnotatedObject]], options: ImportOptions
) -> Iterator[ImportedItem]:
    seen: Counter[str] = Counter()
    split = split_in_name(source.path.stem) or split_of_folder(source.path.parent)
    for number, image in enumerate(images, 1):
        where = f"{source.path}:image {image.get('id', number) if isinstance(image, Mapping) else number}"
        name = image.get("file_name") or image.get("coco_url") if isinstance(image, Mapping) else None
        if not isinstance(name, str) or not name.strip() or "id" not in image:
            yield LeftOut(where, "an image without id or file_name")
            continue
        key = str(image["id"])
        seen[key] += 1
        if seen[key] > 1:
            yield LeftOut(where, "an image with the id of another one")
            continue
        found = tuple(objects.get(key, ()))
        file = near_name(name.replace("\\", "/"), source.path.parent, options.pictures, source.path)
        yield AnnotatedPicture(where, file, _size(image), found, split)


def _object(
    note: Any, names: Mapping[str, str], sizes: Mapping[str, SizeWh | None], frame: Frame, with_outline: bool
) -> AnnotatedObject | str:
    """The object of an annotation, or the reason why it is none."""
    if not isinstance(note, Mapping):
        return "an annotation that is no object"
    if str(note.get("image_id")) not in sizes:
        return "an annotation of an image that the file lacks"
    if str(note.get("category_id")) not in names:
        return "an annotation of a category that the file lacks"
    polygons, rle = _outline(note.get("segmentation"))
    numbers, box = four_numbers_of(note.get("bbox")), None
    if numbers:
        box = frame.convert(numbers, sizes[str(note["image_id"])])
        if box is None:
            return "a box outside of its picture, or without an area"
    elif not polygons and rle is None:
        return "an annotation without box and outline"
    if not with_outline and box is not None:
        polygons, rle = (), None
    label = names[str(note["category_id"])]
    return AnnotatedObject(label, box, polygons, rle, is_crowd=bool(note.get("iscrowd")), id=str(note.get("id", "")))


def _outline(value: Any) -> tuple[tuple, Mapping[str, Any] | None]:
    """(polygons, run-length code) of a segmentation; both empty for anything else."""
    if isinstance(value, Mapping):
        return (), {"size": value.get("size"), "counts": value.get("counts")}
    parts = value if isinstance(value, list) else []
    if parts and all(isinstance(side, (int, float)) for side in parts):
        parts = [parts]  # one flat polygon, as some tools write it
    return tuple(pairs_of(part) for part in parts if _is_polygon(part)), None


def _is_polygon(part: Any) -> bool:
    is_list = isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0
    return is_list and all(type(side) in (int, float) for side in part)


def _boxes(notes: Sequence[Any], sizes: Mapping[str, SizeWh | None]) -> list[tuple[tuple[float, ...], SizeWh | None]]:
    found = []
    for note in notes:
        numbers = four_numbers_of(note.get("bbox")) if isinstance(note, Mapping) else None
        if numbers and numbers[2] and numbers[3] and str(note.get("image_id")) in sizes:
            found.append((numbers, sizes[str(note["image_id"])]))
    return found


def _size(image: Mapping[str, Any]) -> SizeWh | None:
    width, height = image.get("width"), image.get("height")
    sound = all(isinstance(side, (int, float)) and not isinstance(side, bool) and side > 0 for side in (width, height))
    return (int(width), int(height)) if sound else None


def _size_of_file(image: Mapping[str, Any], source: Source, options: ImportOptions) -> SizeWh | None:
    """The size of the picture itself, where the file states none; None where there is no such picture."""
    name = near_name(str(image.get("file_name")), source.path.parent, options.pictures, source.path)
    return options.pictures.size_wh(name) if options.pictures.has(name) else None


def _is_named(category: Any) -> bool:
    return isinstance(category, Mapping) and "id" in category and bool(str(category.get("name") or "").strip())


def _check_kind(source: Source, notes: Any) -> None:
    """Raises DataError for files that only look like instances."""
    first = next((note for note in notes if isinstance(note, Mapping)), {}) if isinstance(notes, list) else {}
    remedy = "give an instances_*.json file"
    if "caption" in first:
        raise _wrong_kind(source, "captions of COCO, which have no single right answer", remedy)
    if "segments_info" in first:
        raise _wrong_kind(source, "panoptic segments of COCO, whose masks are in PNG files", remedy)
    if not notes or not isinstance(notes, list):
        raise _wrong_kind(source, "images without annotations, as for a test", remedy)
    if not source.document.get("categories"):
        raise _wrong_kind(source, "annotations without categories, so that objects have no names", remedy)


def _wrong_kind(source: Source, got: str, remedy: str) -> DataError:
    return data_error(str(source.path), "annotations", got, "COCO's instances", remedy)
