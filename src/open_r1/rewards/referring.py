"""The reward of referring expressions: IoU of the answered box with the gold box, in original pixels. (VLM-R1)"""

from collections.abc import Sequence

from open_r1.data.geometry.coordinates import from_original, rounded
from open_r1.data.record import Record
from open_r1.errors import DataError, data_error, shorten
from open_r1.rewards.base import Outline, bad_gold, gold_text, outline
from open_r1.rewards.parsing.boxes import last_box, stated_boxes
from open_r1.rewards.pictures import (
    answer_picture,
    box_in_pixels,
    box_picture,
    box_space,
    coordinate_frame,
    image_wh,
)


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two (x1, y1, x2, y2) in one frame, in [0, 1]; 0 where either has no positive area.

    >>> box_iou((0, 0, 10, 10), (5, 0, 15, 10))  # 50 / (100 + 100 - 50)
    0.3333333333333333
    >>> box_iou((0, 0, 10, 10), (0, 0, 10, 10)), box_iou((10, 10, 0, 0), (0, 0, 10, 10))
    (1.0, 0.0)
    """
    if _area(a) == 0 or _area(b) == 0:
        return 0.0
    overlap = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return overlap / (_area(a) + _area(b) - overlap)


def rec(completion: str, record: Record) -> float:
    """IoU in [0, 1] of the last box of the answer with the gold box; 0.0 without a box. Training and evaluation use
    this same function.

    The gold box is in pixels of the original image; the answered one is in the extra field `box_space`, else in the
    space of `model_family` (default "original"), and is converted with `image_wh` (or `width` and `height`), and for
    "resized" with `min_pixels`, `max_pixels` and `resize_factor`.

    Raises DataError (field `solution`) for a gold that is not one box with an area, and (with its field) where the
    size of the image is needed and absent, or the space is unknown.

    >>> rec('<answer>{"bbox_2d": [0, 0, 500, 1000]}</answer>', Record("1", (), "", (), "[0, 0, 320, 425]",
    ...     {"model_family": "qwen3_vl", "image_wh": [640, 425]}))
    1.0
    """
    gold = gold_box(record)
    answer = answered_box(completion, record)
    return 0.0 if answer is None else box_iou(answer, gold)


def answered_box(completion: str, record: Record) -> tuple[float, ...] | None:
    """The last box of a completion's answer in pixels of the original image; None without one, and for one of
    another picture than the gold's."""
    found = _answered(completion, record)
    return None if found is None else found[0]


def _answered(completion: str, record: Record) -> tuple[tuple[float, ...], Record] | None:
    """(the answered box in pixels, the record with its picture)."""
    coordinate_frame(record)  # a record without what its space needs is refused, whatever the answer
    box = last_box(completion)
    if box is None or (placed := answer_picture(record, box.image)) is None:
        return None
    return box_in_pixels(box, coordinate_frame(placed)), placed


def rec_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """The Outline of `answered_box` on its picture. Raises DataError as `rec`.

    >>> rec_outlines("[0, 0, 320, 425]", Record("1", ("a.png",), "", (), "", {"image_wh": [640, 425]}))
    (Outline(points=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), label=None, image=0),)
    """
    found = _answered(completion, record)
    return () if found is None else (box_outline(*found),)


def box_answer(record: Record) -> str:
    """The gold box as its row writes it, or, in another frame than the original's, in that one, rounded."""
    if box_space(record) == "original":
        return gold_text(record)
    return str(in_frame(gold_box(record), record))


def in_frame(box: Sequence[float], record: Record) -> list[float]:
    """A box in pixels of the original image as the record's space writes it, rounded."""
    frame = coordinate_frame(record, image_wh(record))
    return rounded(from_original(box, **frame), frame["space"])


def box_outline(box: Sequence[float], record: Record, label: str | None = None) -> Outline:
    """The Outline of a box (x1, y1, x2, y2) in pixels of the original image. Raises DataError as `image_wh`."""
    x1, y1, x2, y2 = box
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    return outline(corners, image_wh(record), label, box_picture(record) - 1)


def gold_box(record: Record) -> tuple[float, ...]:
    """The one box of a record's solution; raises DataError (field `solution`) where it is not one, or has no area, and
    (field `box_image`) where its picture is not named."""
    box_picture(record)
    boxes = stated_boxes(gold_text(record))
    if len(boxes) == 1 and has_area(_turned(boxes[0].xyxy)) and not has_area(boxes[0].xyxy):
        raise _swapped_corners(record, boxes[0].xyxy)
    if len(boxes) != 1 or not has_area(boxes[0].xyxy):
        raise bad_gold(record, "one box [x1, y1, x2, y2] with x1 < x2 and y1 < y2, in pixels of the original image")
    return boxes[0].xyxy


def _turned(box: Sequence[float]) -> tuple[float, ...]:
    return (*box[2:], *box[:2])


def _swapped_corners(record: Record, box: Sequence[float]) -> DataError:
    got = f"{shorten(record.solution)}, whose corners are swapped"
    expected = "the corner at the upper left first, in pixels of the original image"
    turned = ", ".join(f"{side:g}" for side in _turned(box))
    return data_error(
        record.where,
        "solution",
        got,
        expected,
        f"write [{turned}], or [x, y, x + width, y + height] where it is x, y, width, height",
    )


def box_places(record: Record) -> list[tuple[float, ...]]:
    """`gold_box`, as the `places` of the methods."""
    return [gold_box(record)]


def has_area(box: Sequence[float]) -> bool:
    """Whether x1 < x2 and y1 < y2.

    >>> has_area((0, 0, 9, 9)), has_area((9, 9, 0, 0))
    (True, False)
    """
    return _area(box) > 0


def _area(box: Sequence[float]) -> float:
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height if width > 0 and height > 0 else 0.0
