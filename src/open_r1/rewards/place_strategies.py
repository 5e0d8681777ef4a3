"""Cheap strategies whose answers are places on a picture: boxes, points and outlines. (torch-free)"""

import json
from collections.abc import Sequence

from open_r1.data.geometry.polygons import Polygon
from open_r1.data.record import Record
from open_r1.rewards.gold import gold_answer, in_format
from open_r1.rewards.gold_table import GoldTable, is_place
from open_r1.rewards.parsing.boxes import parse_boxes
from open_r1.rewards.parsing.polygons import parse_polygons
from open_r1.rewards.pictures import image_wh

GRID_SIDE = 4  # boxes, or points, a side of a grid


def whole_image(record: Record, golds: GoldTable) -> str | None:
    """a box around the whole picture"""
    return boxes_completion([(0, 0, 1, 1)], record)


def centre_box(record: Record, golds: GoldTable) -> str | None:
    """a box of half the sides in the centre"""
    return boxes_completion([(0.25, 0.25, 0.75, 0.75)], record)


def box_grid(record: Record, golds: GoldTable) -> str | None:
    """a grid of boxes all over the picture"""
    cells = [
        (x / GRID_SIDE, y / GRID_SIDE, (x + 1) / GRID_SIDE, (y + 1) / GRID_SIDE)
        for y in range(GRID_SIDE)
        for x in range(GRID_SIDE)
    ]
    return boxes_completion(cells, record)


def centre_point(record: Record, golds: GoldTable) -> str | None:
    """the point in the centre"""
    size = place_frame(record)
    return in_format(f"[{size[0] // 2}, {size[1] // 2}]", record) if size else None


def point_grid(record: Record, golds: GoldTable) -> str | None:
    """a grid of points all over the picture"""
    if (size := place_frame(record)) is None:
        return None
    steps = [(2 * k + 1) / (2 * GRID_SIDE) for k in range(GRID_SIDE)]
    points = (f"[{round(x * size[0])}, {round(y * size[1])}]" for y in steps for x in steps)
    return in_format(", ".join(points), record)


def centre_circle(record: Record, golds: GoldTable) -> str | None:
    """a circle in the centre, half as wide as the picture, as an outline"""
    if (gold := gold_polygon_of(record)) is None:
        return None
    height, width = gold.size
    coeffs = [round(min(gold.size) / 4), *[0] * (len(gold.coeffs) - 1)]
    fields = {"centre": [width / 2, height / 2], "coeffs": coeffs, "size": [height, width], "basis": gold.basis}
    return in_format(json.dumps(fields), record)


def gold_polygon_of(record: Record) -> Polygon | None:
    """The outline that the gold answer of a place is; None for boxes, points and other answers."""
    polygons = parse_polygons(gold_answer(record), (1.0, 1.0)) if is_place(record) else []
    return polygons[0] if polygons else None


def place_frame(record: Record) -> tuple[int, int] | None:
    """(width, height) in pixels of the picture whose boxes or points are asked for; None where none are."""
    if not record.extra.get("image_wh") or not is_place(record) or gold_polygon_of(record):
        return None
    width, height = image_wh(record)
    return int(width), int(height)


def boxes_completion(boxes: Sequence[tuple[float, ...]], record: Record) -> str | None:
    """A completion with boxes in shares of the picture's sides, in the form of the gold: bare, or with its labels."""
    if (size := place_frame(record)) is None:
        return None
    pixels = [[round(share * size[i % 2]) for i, share in enumerate(box)] for box in boxes]
    labels = list(dict.fromkeys(box.label for box in parse_boxes(gold_answer(record)) if box.label))
    if not labels:
        return in_format(", ".join(map(str, pixels)), record)
    return in_format(json.dumps([{"bbox_2d": box, "label": label} for label in labels for box in pixels]), record)
