"""Checks of gold boxes, points and polygons against their picture: named among several, in pixels, inside.

A gold outside its picture never earns its full reward, and one of fractions or of 0 to 1000 none at all: each is
refused with what it looks like and what to write.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.errors import DataError, Problem, shorten
from open_r1.rewards.pictures import box_picture, image_wh
from open_r1.rewards.registry import METHODS

SLACK = 0.01  # of a side, plus a pixel, that a gold may reach beyond its picture: annotations are rounded
LARGE = 1_500  # px of the longer side of pictures on which boxes of at most 1000 are suspicious
FEW = 20  # golds by which a whole dataset is judged


def place_problems(record: Record) -> list[Problem]:
    """The problems of a record's gold places, empty for a method without places and a row without gold answer.

    Sizes come from `image_wh` (or `width` and `height`), as `open_r1.rewards.pictures` reads it; without one, only
    what needs none is checked: that the picture is named, that the gold can be read and that it is in pixels.

    >>> row = Record("1", ("a.png",), "", (), "[0.1, 0.2, 0.5, 0.6]", {"image_wh": [640, 425]}, "a.jsonl:1", "rec")
    >>> print(place_problems(row)[0])
    a.jsonl:1: solution: got '[0.1, 0.2, 0.5, 0.6]', which looks like fractions of the sides, expected pixels of the \
original image of 640x425; multiply by its sides: [64, 85, 320, 255]
    """
    method = METHODS.get(record.accu_reward_method or "default")
    if method is None or method.places is None or not has_gold(record):
        return []
    try:
        box_picture(record)
        boxes = method.places(record)
        wh = image_wh(record) if _has_size(record) else None
    except DataError as error:
        return list(error.problems)
    return _outside(record, boxes, wh) if boxes else []


def refuse_misplaced(records: Iterable[Record]) -> None:
    """Raises DataError with the `place_problems` of all records."""
    if problems := [problem for record in records for problem in place_problems(record)]:
        raise DataError(problems)


def _has_size(record: Record) -> bool:
    return any(record.extra.get(name) for name in ("image_wh", "image_sizes", "width"))


def _outside(record: Record, boxes: Sequence[Sequence[float]], wh: tuple[float, float] | None) -> list[Problem]:
    """The problem of places that are no pixels of a picture of `wh`."""
    high = max(side for box in boxes for side in box)
    if high <= 1 and all(side >= 0 for box in boxes for side in box):
        scales, got, remedy = wh, "fractions of the sides", "multiply by its sides"
    elif wh is None or _fits(boxes, wh):
        return []
    elif high <= 1000 and all(side >= 0 for box in boxes for side in box):
        scales = wh[0] / 1000, wh[1] / 1000
        got, remedy = "0 to 1000 of the sides", "divide by 1000 and multiply by its sides"
    elif _fits(boxes, wh[::-1]):
        scales, got, remedy = None, "a picture on its side", "swap x and y, or turn the picture (EXIF)"
    else:
        scales, got, remedy = None, "a place outside of its image", "correct it, or name its image in `box_image`"
    size = f" of {wh[0]:g}x{wh[1]:g}" if wh else ""
    example = f": {_scaled(boxes[0], scales)}" if scales else ""
    got = f"{shorten(record.solution)}, which looks like {got}"
    return [Problem(record.where, "solution", got, f"pixels of the original image{size}", remedy + example)]


def _fits(boxes: Iterable[Sequence[float]], wh: tuple[float, float]) -> bool:
    reach = [side * (1 + SLACK) + 1 for side in wh]
    slack = [side * SLACK + 1 for side in wh]
    return all(-slack[i % 2] <= side <= reach[i % 2] for box in boxes for i, side in enumerate(box))


def _scaled(box: Sequence[float], scales: tuple[float, float]) -> list[int]:
    numbers = box[:2] if tuple(box[:2]) == tuple(box[2:]) else box
    return [round(side * scales[i % 2]) for i, side in enumerate(numbers)]


@dataclass
class PlaceStatistics:
    """How golds lie on their pictures over a dataset; `hint` is a sentence where all of them look like 0 to 1000."""

    largest: list[tuple[float, float]] = field(default_factory=list)  # (largest coordinate, longer side) of each gold

    def add(self, record: Record) -> None:
        """Counts one record whose places have no problem."""
        method = METHODS.get(record.accu_reward_method or "default")
        if method is None or method.places is None or not has_gold(record) or not _has_size(record):
            return
        if boxes := method.places(record):
            self.largest.append((max(side for box in boxes for side in box), max(image_wh(record))))

    def hint(self) -> str | None:
        """The warning, or None where nothing is suspicious."""
        large = [number for number, side in self.largest if side >= LARGE]
        if len(large) < FEW or max(large) > 1000 or min(side for _, side in self.largest) < LARGE:
            return None
        return (
            f"all {len(large)} golds lie within 1000, on images of {LARGE} px and more: if they are 0 to 1000 of the "
            "sides, convert them to pixels"
        )
