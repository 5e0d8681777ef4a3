"""Makes rows of the segmentation task from COCO's instances; each question names exactly one object. (torch-free)"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from open_r1.data.geometry.masks import decode_rle, encode_rle, read_segmentation
from open_r1.data.geometry.polygons import ceiling, fit_polygon, polygon_json
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import data_error
from open_r1.tasks.seg import outline_question

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
MIN_GAP = 0.02  # of the picture's width: with this distance of centres, one object is clearly left of another
LARGER = 1.5  # an object with this many times the area of each other one is clearly the largest


@dataclass(frozen=True)
class InstanceFilter:
    """Which instances become rows, and the form of their outlines; areas in pixels of the mask."""

    basis: str = "chebyshev"
    terms: int = 8
    min_area: int = 1024
    keep_crowd: bool = False
    max_per_image: int | None = None
    min_ceiling: float = 0.0


@dataclass(frozen=True)
class Instance:
    """One annotation; `bbox` is (x, y, width, height) in pixels."""

    id: int
    category: str
    bbox: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    segmentation: Any

    @property
    def middle(self) -> float:
        return self.bbox[0] + self.bbox[2] / 2


@dataclass(frozen=True)
class Picture:
    """One image with its instances in order of their ids; `size` is (height, width)."""

    file: str
    size: tuple[int, int]
    instances: tuple[Instance, ...]


def read_pictures(path: Path, folder: str = "") -> list[Picture]:
    """The pictures of a COCO annotation file in order of their ids, file names below `folder`.

    Raises DataError for any other file.
    """
    try:
        data = orjson.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in data["categories"]}
        by_image: dict[int, list[Instance]] = {image["id"]: [] for image in data["images"]}
        for note in data["annotations"]:
            by_image[note["image_id"]].append(_instance(note, names))
        images = sorted(data["images"], key=lambda image: image["id"])
        return [_picture(image, by_image[image["id"]], folder) for image in images]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        got, remedy = f"{type(error).__name__}: {error}", "name an instances_*.json file"
        raise data_error(str(path), "annotations", got, "COCO's instances", remedy) from error


def _instance(note: dict[str, Any], names: dict[int, str]) -> Instance:
    category, crowd = names[note["category_id"]], bool(note.get("iscrowd", 0))
    x, y, width, height = note["bbox"]
    return Instance(note["id"], category, (x, y, width, height), note["area"], crowd, note["segmentation"])


def _picture(image: dict[str, Any], instances: list[Instance], folder: str) -> Picture:
    file = f"{folder}/{image['file_name']}" if folder else image["file_name"]
    return Picture(file, (image["height"], image["width"]), tuple(sorted(instances, key=lambda one: one.id)))


def instance_names(picture: Picture) -> list[str | None]:
    """A name for each instance that fits no other one in its picture; None where there is no clear name.

    The only one of its category: "the dog". One of several: "the second dog from the left" where its middle is clearly
    left or right of every other's; else "the largest dog" where it clearly is. Beside a crowd there is no name; the
    only crowd of its category is "the whole group of dog objects". Small instances count, also those without a row.

    >>> def dog(id: int, x: float, area: float) -> Instance:
    ...     return Instance(id, "dog", (x, 0, 10, 10), area, False, None)
    >>> instance_names(Picture("a.jpg", (100, 200), (dog(1, 50, 90), dog(2, 0, 80), dog(3, 51, 20))))
    [None, 'the first dog from the left', None]
    """
    return [_instance_name(one, picture) for one in picture.instances]


def _instance_name(one: Instance, picture: Picture) -> str | None:
    same = [other for other in picture.instances if other.category == one.category and other is not one]
    if one.is_crowd:
        alone = not any(other.is_crowd for other in same)
        return f"the whole group of {one.category} objects" if alone else None
    if any(other.is_crowd for other in same):
        return None
    if not same:
        return f"the {one.category}"
    return _by_place(one, same, picture.size[1]) or _by_size(one, same)


def _by_place(one: Instance, same: Sequence[Instance], width: int) -> str | None:
    if any(abs(other.middle - one.middle) < MIN_GAP * width for other in same):
        return None
    before = sum(other.middle < one.middle for other in same)
    return f"the {ORDINALS[before]} {one.category} from the left" if before < len(ORDINALS) else None


def _by_size(one: Instance, same: Sequence[Instance]) -> str | None:
    return f"the largest {one.category}" if one.area >= LARGER * max(other.area for other in same) else None


def picture_rows(picture: Picture, selection: InstanceFilter) -> tuple[list[dict[str, Any]], Counter[str]]:
    """(rows of a picture in order of ids, numbers of instances without a row by reason)."""
    rows: list[tuple[int, dict[str, Any]]] = []
    skipped: Counter[str] = Counter()
    for one, target in zip(picture.instances, instance_names(picture), strict=True):
        result = _row(one, target, picture, selection)
        if isinstance(result, str):
            skipped[result] += 1
        else:
            rows.append(result)
    if selection.max_per_image is not None and len(rows) > selection.max_per_image:
        skipped["over max_per_image"] = len(rows) - selection.max_per_image
        largest = {id(item) for item in sorted(rows, key=lambda item: -item[0])[: selection.max_per_image]}
        rows = [item for item in rows if id(item) in largest]
    return [row for _, row in rows], skipped


def _row(
    one: Instance, target: str | None, picture: Picture, selection: InstanceFilter
) -> tuple[int, dict[str, Any]] | str:
    """(area in pixels, row) of an instance, or the reason why it becomes no row."""
    if one.is_crowd and not selection.keep_crowd:
        return "crowds"
    try:
        mask = decode_rle(read_segmentation(one.segmentation, picture.size))
    except ValueError:
        return "unreadable masks"
    area = int(mask.sum())
    if area < selection.min_area:
        return "below min_area"
    if target is None:
        return "ambiguous"
    polygon = fit_polygon(mask, selection.basis, selection.terms)
    best = ceiling(polygon, mask)
    if best <= 0 or best < selection.min_ceiling:
        return "below min_ceiling"
    text = IMAGE_TAG + outline_question(target, selection.basis, selection.terms)
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": polygon_json(polygon)}]
    extra = {"segmentation": encode_rle(mask), "category": one.category, "ceiling": best, "basis": selection.basis}
    return area, {"id": str(one.id), "image": picture.file, "conversations": turns, **extra}
