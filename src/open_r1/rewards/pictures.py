"""The picture of a record that its boxes, points and polygons are on: its number, its size, the model's frame on it.

A row with several pictures names it in the field `box_image`, or its gold does (`{"image": 2, "bbox_2d": ...}`). A
place of an answer that names another picture is wrong; one that names none is on the row's.
"""

import re
from collections.abc import Sequence
from typing import Any

from open_r1.data.geometry.coordinates import MAX_ASPECT, space_of, to_original
from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.errors import DataError, UsageError, data_error, shorten
from open_r1.rewards.base import gold_text
from open_r1.rewards.parsing.boxes import AnswerBox
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.pictures import named_pictures

MAX_IMAGE_SIDE = 1_000_000  # px of an image
RESIZING = {"min_pixels": "min_pixels", "max_pixels": "max_pixels", "resize_factor": "factor"}  # field -> argument
MAX_NAMING_CHARS = 20_000  # of a gold answer that is read for the name of its image


def box_picture(record: Record) -> int:
    """The number, from 1, of the picture that the record's gold is on.

    Raises DataError (field `box_image`) for a number without a picture, and where nothing names one of several.

    >>> box_picture(Record("1", ("a.png", "b.png"), "", (), "[1, 2, 3, 4]", {"box_image": 2}))
    2
    >>> box_picture(Record("1", ("a.png", "b.png"), "", (), '{"image": 2, "bbox_2d": [1, 2, 3, 4]}'))
    2
    """
    count, value = picture_count(record), record.extra.get("box_image")
    if value is None and (count <= 1 or not has_gold(record)):
        return 1
    if value is None:
        value = _named_by_gold(record)
    if type(value) is int and 1 <= value <= (count or value):
        return value
    raise _bad_box_image(record, value, count)


def picture_count(record: Record) -> int:
    """How many pictures the record is known to have; 0 where saved completions state one size without its picture."""
    sizes = _sizes(record)
    return len(sizes) if sizes else len(record.images)


def answer_picture(record: Record, named: int | None) -> Record | None:
    """The record with the picture that its answer is on, where the answer names picture `named`; None where it names
    another one than the gold is on."""
    if named is None or (picture_count(record) <= 1 and "box_image" not in record.extra):
        return record
    if has_gold(record):
        return record if named == box_picture(record) else None
    return record.with_extra(box_image=named) if named <= picture_count(record) else None


def image_wh(record: Record) -> tuple[float, float]:
    """(width, height) in pixels of the original image that the record's places are on.

    The field `image_wh` is that size, or the list of the sizes of all pictures, as `image_sizes` is, which training
    and evaluation add. Raises DataError (field `image_wh`) where it is missing or beyond the limits of
    `open_r1.data.images`, and as `box_picture`.

    >>> image_wh(Record("1", (), "", (), "", {"image_wh": [[640, 425], [320, 200]], "box_image": 2}))
    (320, 200)
    """
    value = record.extra.get("image_wh") or [record.extra.get("width"), record.extra.get("height")]
    if sizes := _sizes(record):
        value = sizes[box_picture(record) - 1]
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if is_pair and all(_is_side(side) for side in value) and max(value) <= MAX_ASPECT * min(value):
        return value[0], value[1]
    expected = f"[width, height] of the original image in pixels, within 1:{MAX_ASPECT}"
    remedy = f"boxes in the space {box_space(record)!r} cannot be converted without it"
    raise data_error(record.where, "image_wh", shorten(value), expected, remedy)


def coordinate_frame(record: Record, wh: tuple[float, float] | None = None) -> dict[str, Any]:
    """The frame of the model's coordinates as arguments of `to_original`: space, image size, and for "resized" what
    the processor makes of it.

    `wh` is the original image's (width, height) in pixels where it is known, else `image_wh(record)`.

    Raises DataError for a size or limit that is not valid, and as `box_space`.

    >>> coordinate_frame(Record("1", (), "", (), "", {"model_family": "qwen3_vl", "width": 640, "height": 425}))
    {'space': 'relative_1000', 'image_wh': (640, 425)}
    """
    space = box_space(record)
    size = wh or ((1.0, 1.0) if space == "original" else image_wh(record))
    names = {name: ours for name, ours in RESIZING.items() if space == "resized" and record.extra.get(name)}
    return {"space": space, "image_wh": size, **{ours: _pixels(record, name) for name, ours in names.items()}}


def box_space(record: Record) -> str:
    """The space that the record's answers are in: the extra field `box_space`, else that of its `model_family`, else
    "original".

    Raises DataError (field `box_space` or `model_family`) for an unknown one, and for a family without a published
    one.
    """
    name = next((name for name in ("box_space", "model_family") if record.extra.get(name)), None)
    try:
        return space_of(record.extra[name]) if name else "original"
    except UsageError as error:
        got, _, expected = str(error).partition(": got ")[2].partition(", expected ")
        expected, _, remedy = expected.partition("; ")
        raise data_error(record.where, str(name), got, expected, remedy) from error


def in_pixels(record: Record) -> Record:
    """The record with its places in pixels of the original image, as gold answers are for every model."""
    return record.with_extra(box_space="original")


def box_in_pixels(box: AnswerBox, frame: dict[str, Any]) -> tuple[float, ...]:
    """An answered box of a `coordinate_frame` as (x1, y1, x2, y2) in pixels of the original image."""
    return to_original(box.as_written(frame["space"]), **frame)


def _named_by_gold(record: Record) -> int | None:
    """The picture that the gold answer names for its last place."""
    gold = plain_characters(gold_text(record))
    numbers = list(re.finditer(r"[\[(][^\[\]()]{3,200}[\])]", gold[-MAX_NAMING_CHARS:]))
    return named_pictures(gold[-MAX_NAMING_CHARS:], [match.span() for match in numbers])[-1] if numbers else None


def _bad_box_image(record: Record, value: object, count: int) -> DataError:
    got = f"no such field, and {count} images" if value is None else shorten(value)
    expected = (
        f"the number, from 1 to {count}, of the image that the gold answer is on" if count else "a number from 1"
    )
    remedy = 'write it in the row, such as "box_image": 2'
    return data_error(record.where, "box_image", got, expected, remedy)


def _pixels(record: Record, name: str) -> int:
    """The pixel limit in an extra field; raises DataError for anything but a positive integer."""
    value = record.extra[name]
    if type(value) is int and value > 0:
        return value
    remedy = "write the processor's limit, or remove the field"
    raise data_error(record.where, name, shorten(value), "a positive number of pixels", remedy)


def _sizes(record: Record) -> Sequence[Any]:
    """The sizes of all pictures, () where the record holds at most one."""
    value = record.extra.get("image_sizes") or record.extra.get("image_wh")
    is_list = isinstance(value, (list, tuple)) and all(isinstance(size, (list, tuple)) for size in value)
    return value if is_list else ()


def _is_side(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= MAX_IMAGE_SIDE
