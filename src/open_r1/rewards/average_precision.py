"""Boxes of one label matched with gold boxes: COCO's average precision, and the closest pairs. (torch-free)"""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask

from open_r1.rewards.referring import box_iou

# As in COCOeval (pycocotools, Params.setDetParams), bit for bit.
THRESHOLDS_T = np.linspace(0.5, 0.95, 10)
RECALLS_R = np.linspace(0.0, 1.0, 101)
MAX_BOXES = 100  # ranked boxes of one label, or as many as gold has
MIN_IOU = 0.5
Options = list[tuple[float, int]]  # (IoU, gold index) of the gold boxes that one box may match, best first


def average_precision(gold_G4: np.ndarray, ranked_D4: np.ndarray, thresholds_T: np.ndarray = THRESHOLDS_T) -> float:
    """COCO's average precision of one label, mean over IoU thresholds: COCOeval's number in a tenth of its time.

    Boxes are (x1, y1, x2, y2) in one frame, the surest first; only the first 100 count, or as many as gold has (with
    COCOeval's limit of 100, no answer to more gold boxes could score 1).

    >>> average_precision(np.array([[0, 0, 10, 10]]), np.array([[5, 5, 9, 9], [0, 0, 10, 10]]))  # a false alarm first
    0.5
    """
    options = _options(gold_G4, ranked_D4[: max(MAX_BOXES, len(gold_G4))])
    return float(np.mean([_precision(_hits(options, least), len(gold_G4)) for least in thresholds_T]))


def _options(gold_G4: np.ndarray, answer_D4: np.ndarray) -> list[Options]:
    """The Options of each answered box; among equal IoUs the later gold box comes first, as in COCOeval."""
    iou_DG = mask.iou(_xywh(answer_D4), _xywh(gold_G4), [0] * len(gold_G4))
    return [sorted(((iou, g) for g, iou in enumerate(row) if iou >= MIN_IOU), reverse=True) for row in iou_DG.tolist()]


def _xywh(boxes_N4: np.ndarray) -> np.ndarray:
    """Boxes (x, y, width, height) for pycocotools; one without an area gets width and height 0."""
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    return np.hstack([boxes_N4[:, :2], np.where((sides_N2 > 0).all(axis=1, keepdims=True), sides_N2, 0)]).astype(float)


def _hits(options: Sequence[Options], threshold: float) -> list[bool]:
    """Whether each box, by rank, matches a gold box that no earlier box has matched."""
    free = {g for choices in options for _, g in choices}
    hits = []
    for choices in options:
        match = next((g for iou, g in choices if iou >= threshold and g in free), None)
        free.discard(match)
        hits.append(match is not None)
    return hits


def _precision(hits_D: Sequence[bool], gold_count: int) -> float:
    """The mean over `RECALLS_R` of the best precision at this or a higher recall; 0 for recalls not reached."""
    true_D = np.cumsum(hits_D)
    precision_D = true_D / np.arange(1, len(true_D) + 1)
    best_D = np.maximum.accumulate(precision_D[::-1])[::-1]
    return float(np.append(best_D, 0.0)[np.searchsorted(true_D / gold_count, RECALLS_R)].mean())


def closest_pairs(gold_G4: np.ndarray, answer_D4: np.ndarray) -> list[float]:
    """IoUs of a one-to-one matching within a label, the closest pair first, down to IoU > .5."""
    options = enumerate(_options(gold_G4, answer_D4))
    pairs = sorted(((iou, d, g) for d, choices in options for iou, g in choices if iou > MIN_IOU), reverse=True)
    matches: dict[int, int] = {}  # gold box -> answered box
    matched: set[int] = set()  # of the answered boxes
    for _, d, g in pairs:
        if g not in matches and d not in matched:
            matches[g] = d
            matched.add(d)
    # pycocotools' IoU of two equal boxes may be 1 - 1e-16
    return [float(box_iou(gold_G4[g], answer_D4[d])) for g, d in matches.items()]
