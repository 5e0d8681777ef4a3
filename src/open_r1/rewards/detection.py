"""Rewards of object detection: all boxes of an answer against all gold boxes, in pixels of the original. (VLM-R1)

Gold is a JSON list of `{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}` (or `bbox`, or `box`), or one such object, or
"None" or `[]` for an image without objects.
All methods are in [0, 1]. They match boxes one to one and within a label, so a repeated box is a false alarm, and a
label that gold lacks lowers the score. For an image without objects, an answer that states so scores 1 and any other
0; an answer with neither boxes nor that statement scores 0.

A model writes no confidences. Average precision ranks the boxes by their order in the answer, as COCOeval does among
equal scores: the surest box comes first, and a false alarm after the last hit costs nothing in `od_ap`. `odLength` and
`weighted_sum` count every box, in any order.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from open_r1.data.geometry.coordinates import Y_FIRST
from open_r1.data.record import Record
from open_r1.rewards.average_precision import THRESHOLDS_T, average_precision, closest_pairs
from open_r1.rewards.base import Outline, bad_gold, gold_text
from open_r1.rewards.parsing.absence import states_no_object, without_fence
from open_r1.rewards.parsing.answer import final_text, normalize
from open_r1.rewards.parsing.boxes import AnswerBox, plain_but_labels
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.detections import parse_detections
from open_r1.rewards.pictures import answer_picture, box_in_pixels, box_picture, box_space, coordinate_frame
from open_r1.rewards.referring import box_outline, in_frame

POSITION, COMPLETENESS = 0.7, 0.3  # weights of `weighted_sum`
GOLD_KEYS = ("bbox_2d", "bbox", "box")  # of a gold object, which has one of them


def od_ap(completion: str, record: Record) -> float:
    """COCO's mean average precision over IoU .5:.95 of the answered boxes, in [0, 1].

    The mean goes over the labels of gold and answer: a label that gold lacks has precision 0 (COCOeval leaves it
    out). Boxes are converted from the space of the model, as in `rewards.referring.rec`.

    Raises DataError (field `solution`) for a gold answer that is no list of labelled boxes, and as `rec` does.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> od_ap('<answer>[{"bbox_2d": [0, 0, 10, 8], "label": "Cat"}]</answer>', row)  # IoU .8: 7 of 10 thresholds
    0.7
    """
    return _score(completion, record, _mean_precision)


def od_ap50(completion: str, record: Record) -> float:
    """`od_ap` at the one IoU threshold .5. Raises DataError as that does.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> od_ap50('[{"bbox_2d": [0, 0, 10, 5], "label": "cat"}, {"bbox_2d": [0, 0, 5, 5], "label": "dog"}]', row)
    0.5
    """
    return _score(completion, record, lambda gold, answer: _mean_precision(gold, answer, THRESHOLDS_T[:1]))


def od_length(completion: str, record: Record) -> float:
    """`od_ap` times min(1, gold boxes / answered boxes): more boxes than gold lower the score, in any order.

    Raises DataError as that does.
    """
    return _score(
        completion, record, lambda gold, answer: _mean_precision(gold, answer) * min(1, len(gold) / len(answer))
    )


def weighted_sum(completion: str, record: Record) -> float:
    """0.7 position + 0.3 completeness over one-to-one matches of IoU > .5, the closest pairs first.

    Position is the sum of matched IoUs over the number of gold boxes, completeness 1 - (share of gold boxes missed +
    share of answered boxes without a match) / 2. (VLM-R1 also matches boxes of another label, with IoU 0.)
    Raises DataError as `od_ap`.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> round(weighted_sum('[{"bbox_2d": [0, 0, 10, 8], "label": "cat"}]', row), 6)  # .7 * .8 + .3 * 1
    0.86
    """
    return _score(completion, record, _weighted)


def gold_detections(record: Record) -> list[AnswerBox]:
    """The gold boxes, [] for an image without objects. Raises DataError (field `solution`) for any other gold, and
    (field `box_image`) where their picture is not named."""
    box_picture(record)
    text = without_fence(gold_text(record))
    if states_no_object(text):
        return []
    try:
        rows = orjson.loads(plain_but_labels(text))
    except orjson.JSONDecodeError:
        rows = None
    boxes = list(map(_gold_box, [rows] if isinstance(rows, dict) else rows if isinstance(rows, list) else [None]))
    if None in boxes:
        expected = 'a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": "..."} with x1 < x2 and y1 < y2, or None'
        raise bad_gold(record, expected)
    return [box for box in boxes if box is not None]


def detection_places(record: Record) -> list[tuple[float, ...]]:
    """The gold boxes without labels, as the `places` of the methods."""
    return [box.xyxy for box in gold_detections(record)]


def answered_detections(completion: str, record: Record) -> list[AnswerBox] | None:
    """All boxes of a completion's answer in pixels of the original image; None where it neither has boxes nor states
    that there are none. A box of another picture than the gold's has no area."""
    frame, boxes = coordinate_frame(record), parse_detections(final_text(completion))
    return boxes and [_in_pixels(box, record, frame) for box in boxes]


def _in_pixels(box: AnswerBox, record: Record, frame: dict[str, Any]) -> AnswerBox:
    if box.image is None:
        return AnswerBox(box_in_pixels(box, frame), box.label)
    placed = answer_picture(record, box.image)
    xyxy = box_in_pixels(box, coordinate_frame(placed)) if placed else (0.0, 0.0, 0.0, 0.0)
    return AnswerBox(xyxy, box.label, box.image)


def detection_answer(record: Record) -> str:
    """The gold boxes as their row writes them, or, in another frame than the original's, in that one, rounded."""
    gold = gold_detections(record)
    space = box_space(record)
    if not gold or space == "original":
        return gold_text(record)
    key = "box_2d" if space in Y_FIRST else "bbox_2d"
    boxes = [{key: in_frame(box.xyxy, record), "label": box.label} for box in gold]
    return json.dumps(boxes, ensure_ascii=False)


def detections_json(completion: str, record: Record) -> list[dict[str, Any]] | None:
    """`answered_detections` as JSON; the `parse` of the methods."""
    boxes = answered_detections(completion, record)
    return None if boxes is None else [{"bbox_2d": list(box.xyxy), "label": box.label} for box in boxes]


def detection_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """`answered_detections` on their picture, with their labels; raises DataError as `od_ap`."""
    boxes = answered_detections(completion, record) or ()
    placed = [(box, answer_picture(record, box.image)) for box in boxes]
    return tuple(box_outline(box.xyxy, picture, box.label) for box, picture in placed if picture is not None)


def _score(completion: str, record: Record, measure: Callable[[list[AnswerBox], list[AnswerBox]], float]) -> float:
    gold, answer = gold_detections(record), answered_detections(completion, record)
    if answer is None:
        return 0.0
    return measure(gold, answer) if gold and answer else float(gold == answer)


def _mean_precision(gold: list[AnswerBox], answer: list[AnswerBox], thresholds_T: np.ndarray = THRESHOLDS_T) -> float:
    gold_boxes, answer_boxes = _by_label(gold), _by_label(answer)
    scores = [
        average_precision(boxes, answer_boxes[name], thresholds_T)
        for name, boxes in gold_boxes.items()
        if name in answer_boxes
    ]
    return sum(scores) / len(gold_boxes.keys() | answer_boxes.keys())


def _weighted(gold: list[AnswerBox], answer: list[AnswerBox]) -> float:
    gold_boxes, answer_boxes = _by_label(gold), _by_label(answer)
    ious = [
        iou
        for name in gold_boxes
        if name in answer_boxes
        for iou in closest_pairs(gold_boxes[name], answer_boxes[name])
    ]
    missed, false_alarms = 1 - len(ious) / len(gold), 1 - len(ious) / len(answer)
    return POSITION * (sum(ious) / len(gold)) + COMPLETENESS * (1 - (missed + false_alarms) / 2)


def _by_label(boxes: Sequence[AnswerBox]) -> Mapping[str, np.ndarray]:
    """Arrays (N, 4) of the boxes of each label, in the order of the answer."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for box in boxes:
        groups.setdefault(normalize(plain_characters(box.label or "")), []).append(box.xyxy)
    return {label: np.array(group) for label, group in groups.items()}


def _gold_box(row: object) -> AnswerBox | None:
    """The box of a gold object; None where it has not one box with an area and a label."""
    found = [row[key] for key in GOLD_KEYS if key in row] if isinstance(row, dict) else []
    if len(found) != 1 or not isinstance(label := row.get("label"), str) or not label.strip():
        return None
    (box,) = found
    is_box = isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
    return AnswerBox(tuple(map(float, box)), label) if is_box and box[0] < box[2] and box[1] < box[3] else None
