"""The rewards of points, such as clicks of GUI models: whether a point lies in a gold box, or how far from gold it is.

Gold is in pixels of the original image; the answer is in the space of the model, as boxes are
(`open_r1.rewards.referring`). `open_r1.rewards.parsing.points` says what is read as a point; a box answers its centre.
"""

import math
from collections.abc import Sequence

from open_r1.data.geometry.coordinates import from_original, rounded, to_original
from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import Outline, bad_gold, gold_text, outline
from open_r1.rewards.parsing.boxes import stated_boxes
from open_r1.rewards.parsing.points import Point, last_point
from open_r1.rewards.pictures import answer_picture, box_picture, coordinate_frame, image_wh
from open_r1.rewards.referring import box_outline, has_area

SIGMA_OF_BOX = 0.5  # standard deviation of `point_distance` along a side of a gold box, as in GUI-G2
SIGMA_OF_DIAGONAL = 0.05  # and around a gold point, of the image's diagonal
MARK = 0.02  # half the width of a drawn point, of the picture's shorter side


def point_in_box(completion: str, record: Record) -> float:
    """1.0 for a point within a gold box, its edges included, else 0.0.

    Gold is one box or several, any of which may be hit. Raises DataError (field `solution`) for a gold without boxes
    or with one that has no area, and as `rec` for a size or space that is needed.

    >>> row = Record("1", (), "", (), "[10, 20, 30, 40]")
    >>> [point_in_box(text, row) for text in ("click(15, 40)", "[0, 0, 40, 60]", "(5, 5)", "(15, 30) or (5, 5)")]
    [1.0, 1.0, 0.0, 0.0]
    """
    boxes, point = gold_boxes(record), answered_point(completion, record)
    if point is None:
        return 0.0
    x, y = point
    return float(any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in boxes))


def point_distance(completion: str, record: Record) -> float:
    """exp(-(dx² / σx² + dy² / σy²) / 2) in [0, 1] of the point's distance from gold; 0.0 without a point.

    The Gaussian point reward of GUI-G² (arXiv 2507.15846). Of a gold box the centre counts, and σ is half of each of
    its sides; of a gold point σ is the extra field `point_sigma` in pixels, or 5 % of the image's diagonal.

    Raises DataError (field `solution`) for a gold that is neither one point nor one box with an area, or (field
    `point_sigma`) for a σ that is no positive number, and as `rec`.

    >>> row = Record("1", (), "", (), "[10, 20, 30, 40]")
    >>> [round(point_distance(text, row), 3) for text in ("(20, 30)", "(30, 30)", "(30, 40)", "none")]
    [1.0, 0.607, 0.368, 0.0]
    """
    (gold_x, gold_y), (sigma_x, sigma_y) = _target(record)
    point = answered_point(completion, record)
    if point is None:
        return 0.0
    deviation = ((point[0] - gold_x) / sigma_x) ** 2 + ((point[1] - gold_y) / sigma_y) ** 2
    return math.exp(-deviation / 2)


def answered_point(completion: str, record: Record) -> Point | None:
    """The point of a completion's answer in pixels of the original image; None without one, and for one of another
    picture than the gold's."""
    found = _answered(completion, record)
    return None if found is None else found[0]


def _answered(completion: str, record: Record) -> tuple[Point, Record] | None:
    """(the answered point in pixels, the record with its picture)."""
    coordinate_frame(record)  # a record without what its space needs is refused, whatever the answer
    point = last_point(completion)
    if point is None or (placed := answer_picture(record, point.image)) is None:
        return None
    frame = coordinate_frame(placed)
    x, y, _, _ = to_original(point.as_written(frame["space"]) * 2, **frame)
    return (x, y), placed


def gold_boxes(record: Record) -> list[Sequence[float]]:
    """The boxes of a record's solution; DataError (field `solution`) without any, or for one without an area."""
    box_picture(record)
    boxes = [box.xyxy for box in stated_boxes(gold_text(record))]
    if not boxes or not all(map(has_area, boxes)):
        expected = "one box [x1, y1, x2, y2] or a list of them, x1 < x2 and y1 < y2, in pixels of the original image"
        raise bad_gold(record, expected)
    return boxes


def target_places(record: Record) -> list[Sequence[float]]:
    """The gold box, or the gold point as (x, y, x, y), as the `places` of `point_distance`."""
    target = _gold_target(record)
    return [target if len(target) == 4 else (*target, *target)]


def centre_answer(record: Record) -> str:
    """The centre of the first gold box, as the record's space writes it."""
    x1, y1, x2, y2 = gold_boxes(record)[0]
    return point_text(((x1 + x2) / 2, (y1 + y2) / 2), record)


def target_answer(record: Record) -> str:
    """The gold point of `point_distance`, or the centre of its gold box, as the record's space writes it."""
    return point_text(_target(record)[0], record)


def point_text(point: Point, record: Record) -> str:
    """A point in pixels of the original image as "(x, y)", or "(y, x)", as the record's space writes it; in another
    one than the original's rounded.

    >>> point_text((160.5, 0), Record("1", (), "", (), "")), point_text((160, 425), Record("1", (), "", (), "",
    ...     {"model_family": "qwen3_vl", "image_wh": (640, 425)}))
    ('(160.5, 0)', '(250, 1000)')
    """
    frame = coordinate_frame(record)
    if frame["space"] == "original":
        return f"({point[0]:.10g}, {point[1]:.10g})"
    first, second = rounded(from_original((*point, *point), **frame)[:2], frame["space"])
    return f"({first}, {second})"


def point_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """A rhombus around the answered point on its picture. Raises DataError as the rewards.

    >>> row = Record("1", ("a.png",), "", (), "[0, 0, 9, 9]", {"image_wh": [200, 100]})
    >>> point_outlines("(100, 50)", row)[0].points
    ((0.49, 0.5), (0.5, 0.48), (0.51, 0.5), (0.5, 0.52))
    """
    found = _answered(completion, record)
    return () if found is None else (_rhombus(*found),)


def gold_box_outlines(record: Record) -> tuple[Outline, ...]:
    """The gold boxes on their picture."""
    return tuple(box_outline(box, record) for box in gold_boxes(record))


def gold_target_outlines(record: Record) -> tuple[Outline, ...]:
    """The gold box, or a rhombus around the gold point, on its picture."""
    target = _gold_target(record)
    return (box_outline(target, record) if len(target) == 4 else _rhombus((target[0], target[1]), record),)


def _rhombus(point: Point, record: Record) -> Outline:
    (x, y), wh = point, image_wh(record)
    reach = MARK * min(wh)
    return outline([(x - reach, y), (x, y - reach), (x + reach, y), (x, y + reach)], wh, image=box_picture(record) - 1)


def _target(record: Record) -> tuple[Point, Point]:
    """(the gold point, σ along x and y), both in pixels."""
    target = _gold_target(record)
    if len(target) == 4:
        x1, y1, x2, y2 = target
        return ((x1 + x2) / 2, (y1 + y2) / 2), (SIGMA_OF_BOX * (x2 - x1), SIGMA_OF_BOX * (y2 - y1))
    sigma = _sigma(record)
    return (target[0], target[1]), (sigma, sigma)


def _gold_target(record: Record) -> Sequence[float]:
    """The one box, or the one point, of the solution."""
    box_picture(record)
    text = gold_text(record)
    boxes = [box.xyxy for box in stated_boxes(text, loose=False)]
    if len(boxes) == 1 and has_area(boxes[0]):
        return boxes[0]
    point = None if boxes else last_point(text)
    if point is None:
        raise bad_gold(record, "one point [x, y] or one box [x1, y1, x2, y2] in pixels of the original image")
    return point.xy


def _sigma(record: Record) -> float:
    value = record.extra.get("point_sigma")
    if value is None:
        return SIGMA_OF_DIAGONAL * math.hypot(*image_wh(record))
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    remedy = f"remove the field for {SIGMA_OF_DIAGONAL:.0%} of the image's diagonal"
    raise data_error(record.where, "point_sigma", shorten(value), "a positive number of pixels", remedy)
