"""The reward of segmentation: IoU of the answered polygon with the true mask, in original pixels. (VLM-R1's fork)

A row's gold answer is a polygon that `data.geometry.polygons` fitted to the true mask, which is in the extra field
`segmentation`. Polygon and mask differ, so the gold answer scores the extra field `ceiling` and not 1.
"""

from typing import Any

from open_r1.data.geometry.coordinates import MAX_ASPECT, frame_wh
from open_r1.data.geometry.masks import Rle, Size, mask_iou_of, mask_overlap, read_segmentation
from open_r1.data.geometry.polygons import Polygon, outline_points, to_rle
from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import Outline, bad_gold, gold_text, outline
from open_r1.rewards.parsing.polygons import last_polygon, parse_polygons
from open_r1.rewards.pictures import box_picture, coordinate_frame

MAX_MASK_PIXELS = 64_000_000  # of a mask, as of an image
_NO_SIZE = (0.0, 0.0)


def mask_iou(completion: str, record: Record) -> float:
    """IoU in [0, 1] of the last polygon of the answer with the true mask; 0.0 without one. By pycocotools.

    The true mask is the extra field `segmentation` (COCO polygons, or a run-length code), without it the decoded gold
    polygon, which is in pixels of the original image. The answer is in pixels of an image of the size that it states;
    without a size it is in the space of the model, as boxes are (`open_r1.rewards.referring`), but x first. Another
    basis than the gold's or another number of coefficients earns 0.0.

    Raises DataError (field `solution` or `segmentation`) for a gold or a mask that cannot be used, and (field
    `box_space` or `model_family`) for an unknown space.

    >>> gold = '{"centre": [50, 40], "coeffs": [20, 0], "size": [80, 100]}'
    >>> half = '{"centre": [25, 20], "coeffs": [10, 0], "size": [40, 50]}'  # of an image of half the size
    >>> [mask_iou(f"<answer>{text}</answer>", Record("1", (), "", (), gold)) for text in (gold, half, "20")]
    [1.0, 1.0, 0.0]
    """
    answer, truth = _masks(completion, record)
    return 0.0 if answer is None else mask_iou_of(answer, truth)


def intersection(completion: str, record: Record) -> float:
    """Pixels of the original image in both the answered polygon and the true mask; for cIoU."""
    answer, truth = _masks(completion, record)
    return 0.0 if answer is None else float(mask_overlap(answer, truth)[0])


def union(completion: str, record: Record) -> float:
    """Pixels of the original image in the answered polygon or the true mask; of the mask alone without an answer."""
    answer, truth = _masks(completion, record)
    return float(mask_overlap(truth if answer is None else answer, truth)[1])


def _masks(completion: str, record: Record) -> tuple[Rle | None, Rle]:
    """(mask of the answer, or None without a polygon of gold's basis and number of coefficients; true mask)."""
    gold = gold_polygon(record)
    size = (int(gold.size[0]), int(gold.size[1]))
    answer = last_polygon(completion, frame_size(record, size))
    truth = true_mask(record, gold, size)
    if answer is None or answer.basis != gold.basis or len(answer.coeffs) != len(gold.coeffs):
        return None, truth
    return to_rle(answer, size), truth


def answered_polygon(completion: str, record: Record) -> dict[str, Any] | None:
    """The fields of the polygon that `mask_iou` reads, in pixels of its `size`; None without a polygon."""
    polygon = _last_polygon(completion, record)
    return None if polygon is None else vars(polygon)


def polygon_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """The corners of the polygon that `mask_iou` reads, on its picture; DataError as there."""
    polygon = _last_polygon(completion, record)
    if polygon is None:
        return ()
    height, width = polygon.size
    return (outline(outline_points(polygon).tolist(), (width, height), image=box_picture(record) - 1),)


def _last_polygon(completion: str, record: Record) -> Polygon | None:
    gold = gold_polygon(record)
    return last_polygon(completion, frame_size(record, (int(gold.size[0]), int(gold.size[1]))))


def frame_size(record: Record, size: Size) -> tuple[float, float]:
    """(height, width) of the image in the record's space (default "original"); `size` is the original's.

    >>> frame_size(Record("1", (), "", (), "", {"model_family": "qwen3_vl"}), (425, 640))
    (1000, 1000)
    """
    height, width = size
    right, bottom = frame_wh(**coordinate_frame(record, (width, height)))
    return bottom, right


def gold_polygon(record: Record) -> Polygon:
    """The one polygon of a record's solution; raises DataError (field `solution`) where it is not one, and (field
    `box_image`) where its picture is not named."""
    box_picture(record)
    polygons = parse_polygons(gold_text(record), _NO_SIZE)
    if len(polygons) != 1 or not _is_image(polygons[0].size):
        expected = 'one {"centre": [x, y], "coeffs": [...], "size": [height, width]}, centre in pixels of that image'
        raise bad_gold(record, f"{expected}, which has at most {MAX_MASK_PIXELS} and sides within 1:{MAX_ASPECT}")
    return polygons[0]


def polygon_places(record: Record) -> list[tuple[float, ...]]:
    """The image of the gold polygon, which states its size, as the `places` of `mask_iou`."""
    height, width = gold_polygon(record).size
    return [(0, 0, width, height)]


def _is_image(size: tuple[float, float]) -> bool:
    whole = all(side % 1 == 0 for side in size)
    return whole and size[0] * size[1] <= MAX_MASK_PIXELS and max(size) <= MAX_ASPECT * min(size)


def true_mask(record: Record, gold: Polygon, size: Size) -> Rle:
    """The record's `segmentation`, else the decoded gold polygon; raises DataError (field `segmentation`)."""
    if record.extra.get("segmentation") is None:
        return to_rle(gold, size)
    try:
        return read_segmentation(record.extra["segmentation"], size)
    except ValueError as error:
        expected = f"COCO polygons or a run-length code on {size[0]} x {size[1]} pixels (height, width)"
        remedy = "correct it, or remove the field: then the gold polygon is the truth"
        raise data_error(record.where, "segmentation", str(error), expected, remedy) from error


def gold_ceiling(record: Record) -> float:
    """The score of the gold answer: the record's `ceiling` in (0, 1], or 1.0 without `segmentation`.

    Raises DataError (field `ceiling`) where it is missing beside a mask or no such number.
    """
    if record.extra.get("segmentation") is None:
        return 1.0
    value = record.extra.get("ceiling")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    expected = "the IoU in (0, 1] of the gold polygon with `segmentation`"
    remedy = "write open_r1.data.geometry.polygons.ceiling(polygon, mask)"
    raise data_error(record.where, "ceiling", shorten(value), expected, remedy)
