"""Object detection: all boxes of an answer against all gold boxes, in pixels of the original image. (VLM-R1)

Gold is a JSON list of `{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}`, or "None" or `[]` where nothing is to be found.
All methods are in [0, 1]. They match boxes one to one and within a label, so a box said twice is a false alarm, and
a label that the gold answer has not counts against. Where nothing is to be found, saying so earns 1 and everything
else 0; an answer that is neither boxes nor that statement earns 0.

A model writes no confidences. The order of its answer is the ranking that average precision needs, which is also what
COCOeval does among equal scores; so what is surest comes first, and a false alarm after the last hit costs nothing in
`od_ap`. `odLength` and `weighted_sum` count every box, in any order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from pycocotools import mask

from open_r1.data.geometry.coordinates import to_original
from open_r1.data.record import Record
from open_r1.rewards.base import Outline, bad_gold, gold_text
from open_r1.rewards.parsing.answer import final_text, normalize
from open_r1.rewards.parsing.boxes import AnswerBox
from open_r1.rewards.parsing.detections import parse_detections, says_nothing, unfenced
from open_r1.rewards.referring import box_iou, box_outline, frame

# The three of COCOeval (pycocotools, Params.setDetParams), bit for bit.
THRESHOLDS_T = np.linspace(0.5, 0.95, 10)
RECALLS_R = np.linspace(0.0, 1.0, 101)
MAX_BOXES = 100  # of one label that are ranked, or as many as gold has

POSITION, COMPLETENESS = 0.7, 0.3  # weights of `weighted_sum`
MIN_IOU = 0.5
Options = list[tuple[float, int]]  # (IoU, gold index) of the gold boxes that one box may be matched with, best first


def od_ap(completion: str, record: Record) -> float:
    """COCO's mean average precision over IoU .5:.95 of the answered boxes, in [0, 1].

    The mean goes over the labels of gold and answer: a label that gold has not has precision 0 (COCOeval leaves it
    out). Boxes are converted from the frame of the extra field `model_family`, as in `rewards.boxes.rec`.

    Raises DataError (field `solution`) for a gold answer that is no list of labelled boxes, and ValueError where the
    size of the image is needed and absent, or the family is unknown.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> od_ap('<answer>[{"bbox_2d": [0, 0, 10, 8], "label": "Cat"}]</answer>', row)  # IoU .8: 7 of 10 thresholds
    0.7
    """
    return _score(completion, record, _mean_precision)


def od_ap50(completion: str, record: Record) -> float:
    """`od_ap` at the one IoU threshold .5. Raises DataError and ValueError as that does.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> od_ap50('[{"bbox_2d": [0, 0, 10, 5], "label": "cat"}, {"bbox_2d": [0, 0, 5, 5], "label": "dog"}]', row)
    0.5
    """
    return _score(completion, record, lambda gold, said: _mean_precision(gold, said, THRESHOLDS_T[:1]))


def od_length(completion: str, record: Record) -> float:
    """`od_ap` times min(1, gold boxes / answered boxes): boxes beyond the gold number cost, in any order.

    Raises DataError and ValueError as that does.
    """
    return _score(completion, record, lambda gold, said: _mean_precision(gold, said) * min(1, len(gold) / len(said)))


def weighted_sum(completion: str, record: Record) -> float:
    """0.7 position + 0.3 completeness over one-to-one matches of IoU > .5, the closest pairs first.

    Position is the sum of matched IoUs over the number of gold boxes, completeness 1 - (share of gold boxes missed +
    share of answered boxes without a match) / 2. In VLM-R1 a box of another label also made a match, of IoU 0.
    Raises DataError and ValueError as `od_ap`.

    >>> row = Record("1", (), "", (), '[{"bbox_2d": [0, 0, 10, 10], "label": "cat"}]')
    >>> round(weighted_sum('[{"bbox_2d": [0, 0, 10, 8], "label": "cat"}]', row), 6)  # .7 * .8 + .3 * 1
    0.86
    """
    return _score(completion, record, _weighted)


def gold_detections(record: Record) -> list[AnswerBox]:
    """The gold boxes, [] where nothing is to be found. Raises DataError (field `solution`) for another gold."""
    text = unfenced(gold_text(record))
    if says_nothing(text):
        return []
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError:
        rows = None
    if not isinstance(rows, list) or not all(map(_is_gold, rows)):
        expected = 'a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": "..."} with x1 < x2 and y1 < y2, or None'
        raise bad_gold(record, expected)
    return [AnswerBox(tuple(map(float, row["bbox_2d"])), row["label"]) for row in rows]


def answered_detections(completion: str, record: Record) -> list[AnswerBox] | None:
    """All boxes that a completion answers with, in pixels of the original image; None where it answers nothing."""
    where, boxes = frame(record), parse_detections(final_text(completion))
    return boxes and [AnswerBox(to_original(box.xyxy, **where), box.label) for box in boxes]


def show_detections(completion: str, record: Record) -> list[dict[str, Any]] | None:
    """`answered_detections` as JSON."""
    boxes = answered_detections(completion, record)
    return None if boxes is None else [{"bbox_2d": list(box.xyxy), "label": box.label} for box in boxes]


def detection_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """`answered_detections` on the first picture, with their labels; raises DataError and ValueError as `od_ap`."""
    return tuple(box_outline(box.xyxy, record, box.label) for box in answered_detections(completion, record) or ())


def average_precision(gold_G4: np.ndarray, ranked_D4: np.ndarray, thresholds_T: np.ndarray = THRESHOLDS_T) -> float:
    """COCO's average precision of one label, mean over IoU thresholds: COCOeval's own number in a tenth of its time.

    Boxes are (x1, y1, x2, y2) in one frame, the surest first; those after the first 100 are left out, where there are
    not more gold boxes (COCOeval would then pay no answer in full).

    >>> average_precision(np.array([[0, 0, 10, 10]]), np.array([[5, 5, 9, 9], [0, 0, 10, 10]]))  # a false alarm first
    0.5
    """
    options = _options(gold_G4, ranked_D4[: max(MAX_BOXES, len(gold_G4))])
    return float(np.mean([_precision(_hits(options, least), len(gold_G4)) for least in thresholds_T]))


def _score(completion: str, record: Record, measure: Callable[[list[AnswerBox], list[AnswerBox]], float]) -> float:
    gold, said = gold_detections(record), answered_detections(completion, record)
    if said is None:
        return 0.0
    return measure(gold, said) if gold and said else float(gold == said)


def _mean_precision(gold: list[AnswerBox], said: list[AnswerBox], thresholds_T: np.ndarray = THRESHOLDS_T) -> float:
    wanted, found = _by_label(gold), _by_label(said)
    scores = [average_precision(boxes, found[name], thresholds_T) for name, boxes in wanted.items() if name in found]
    return sum(scores) / len(wanted.keys() | found.keys())


def _weighted(gold: list[AnswerBox], said: list[AnswerBox]) -> float:
    wanted, found = _by_label(gold), _by_label(said)
    matched = [near for name in wanted if name in found for near in _closest_pairs(wanted[name], found[name])]
    missed, false_alarms = 1 - len(matched) / len(gold), 1 - len(matched) / len(said)
    return POSITION * (sum(matched) / len(gold)) + COMPLETENESS * (1 - (missed + false_alarms) / 2)


def _by_label(boxes: Sequence[AnswerBox]) -> Mapping[str, np.ndarray]:
    """Arrays (N, 4) of the boxes of each label, in the order of the answer."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for box in boxes:
        groups.setdefault(normalize(box.label or ""), []).append(box.xyxy)
    return {label: np.array(group) for label, group in groups.items()}


def _options(gold_G4: np.ndarray, said_D4: np.ndarray) -> list[Options]:
    """For each answered box; among equal IoUs the later gold box first, as in COCOeval."""
    iou_DG = mask.iou(_xywh(said_D4), _xywh(gold_G4), [0] * len(gold_G4))
    return [
        sorted(((near, g) for g, near in enumerate(row) if near >= MIN_IOU), reverse=True) for row in iou_DG.tolist()
    ]


def _xywh(boxes_N4: np.ndarray) -> np.ndarray:
    """pycocotools' boxes; one without an area overlaps nothing."""
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return np.hstack([boxes_N4[:, :2], np.where((sides_N2 > 0).all(axis=1, keepdims=True), sides_N2, 0)]).astype(float)


def _hits(options: Sequence[Options], threshold: float) -> list[bool]:
    """Whether each box, in the order of ranks, finds a gold box that none before it took."""
    free = {g for choices in options for _, g in choices}
    hits = []
    for choices in options:
        match = next((g for near, g in choices if near >= threshold and g in free), None)
        free.discard(match)
        hits.append(match is not None)
    return hits


def _precision(hits_D: Sequence[bool], gold_count: int) -> float:
    """The mean over `RECALLS_R` of the best precision at that recall or a higher one; 0 where it is not reached."""
    found_D = np.cumsum(hits_D)
    precision_D = found_D / np.arange(1, len(found_D) + 1)
    best_D = np.maximum.accumulate(precision_D[::-1])[::-1]
    return float(np.append(best_D, 0.0)[np.searchsorted(found_D / gold_count, RECALLS_R)].mean())


def _closest_pairs(gold_G4: np.ndarray, said_D4: np.ndarray) -> list[float]:
    """IoUs of a one-to-one matching within a label, the closest pair first, down to IoU > .5."""
    options = enumerate(_options(gold_G4, said_D4))
    pairs = sorted(((near, d, g) for d, choices in options for near, g in choices if near > MIN_IOU), reverse=True)
    matches: dict[int, int] = {}  # gold box -> answered box
    taken: set[int] = set()  # of the answered boxes
    for _, d, g in pairs:
        if g not in matches and d not in taken:
            matches[g] = d
            taken.add(d)
    # pycocotools' IoU of two equal boxes may be 1 - 1e-16
    return [float(box_iou(gold_G4[g], said_D4[d])) for g, d in matches.items()]


def _is_gold(row: object) -> bool:
    box, label = (row.get("bbox_2d"), row.get("label")) if isinstance(row, dict) else (None, None)
    is_box = isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
    return is_box and box[0] < box[2] and box[1] < box[3] and isinstance(label, str) and bool(label.strip())
