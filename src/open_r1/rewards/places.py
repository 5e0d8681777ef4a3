"""Checks of gold boxes, points and polygons against their picture: named among several, in pixels, inside.

A gold outside its picture never earns its full reward, and one of fractions or of 0 to 1000 none at all: each is
refused with what it looks like and what to write.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.errors import DataError, Problem, UsageError, shorten
from open_r1.rewards.pictures import image_wh
from open_r1.rewards.registry import METHODS, method_of

EDGE_SLACK = 0.01  # of a side, plus a pixel, that a gold may reach beyond its picture: annotations are rounded
LARGE_SIDE = 1_500  # px of the longer side of pictures on which boxes of at most 1000 are suspicious
FEW_DISORDERED = 0.1  # of the boxes, from which they are suspected to be x, y, width, height
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?![\w\"])")
FEW_GOLDS = 20  # golds by which a whole dataset is judged


def place_problems(record: Record) -> list[Problem]:
    """The problems of a record's gold places, empty for a method without places and a row without gold answer; a place
    is on a picture, or on what has a size in the row.

    Sizes come from `image_wh` (or `width` and `height`), as `open_r1.rewards.pictures` reads it; without one, only
    what needs none is checked: that the picture is named, that the gold can be read and that it is in pixels.

    >>> row = Record("1", ("a.png",), "", (), "[0.1, 0.2, 0.5, 0.6]", {"image_wh": [640, 425]}, "a.jsonl:1", "rec")
    >>> print(place_problems(row)[0])
    a.jsonl:1: solution: got '[0.1, 0.2, 0.5, 0.6]', which looks like fractions of the sides, expected pixels of the \
original image of 640x425; multiply by its sides: [64, 85, 320, 255]
    """
    if not has_places(record) or not has_gold(record):
        return []
    try:
        boxes = method_of(record).places(record)
        wh = image_wh(record) if _has_size(record) else None
    except DataError as error:
        return list(error.problems)
    if boxes and wh is None and record.videos and not record.images:
        got, remedy = "a video alone", "add the picture, or 'image_wh', the size in pixels that the gold is in"
        return [Problem(record.where, "image", got, f"a picture for {record.accu_reward_method}", remedy)]
    return _outside(record, boxes, wh) if boxes else []


def place_check(missing: str) -> Callable[[Record], list[Problem]]:
    """`place_problems`, which raises UsageError(`missing`), where that is set, for a record whose gold is a place."""

    def problems(record: Record) -> list[Problem]:
        if missing and has_places(record):
            raise UsageError(missing)
        return place_problems(record)

    return problems


def has_places(record: Record) -> bool:
    """Whether the gold of the record is a place on its pictures; False for an unknown method, a defect of its own."""
    method = METHODS.get(record.accu_reward_method or "default")
    return method is not None and method.places is not None


def refuse_misplaced(records: Iterable[Record]) -> None:
    """Raises DataError with the `place_problems` of all records."""
    refuse_problems(place_problems, records)


def refuse_problems(check: Callable[[Record], list[Problem]], records: Iterable[Record]) -> None:
    """Raises DataError with the problems that a check finds in all records."""
    if problems := [problem for record in records for problem in check(record)]:
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
    elif _reach(boxes) == wh[::-1] or (high > 1000 and _fits(boxes, wh[::-1])):
        scales, got, remedy = None, "a picture on its side", "swap x and y, or turn the picture (EXIF)"
    elif high <= 1000 and all(side >= 0 for box in boxes for side in box):
        scales = wh[0] / 1000, wh[1] / 1000
        got, remedy = "0 to 1000 of the sides", "divide by 1000 and multiply by its sides"
    else:
        scales, got, remedy = None, "a place outside of its image", "correct it, or name its image in `box_image`"
    size = f" of {wh[0]:g}x{wh[1]:g}" if wh else ""
    example = f": {_scaled(boxes[0], scales)}" if scales else ""
    got = f"{shorten(record.solution)}, which looks like {got}"
    return [Problem(record.where, "solution", got, f"pixels of the original image{size}", remedy + example)]


def _fits(boxes: Iterable[Sequence[float]], wh: tuple[float, float]) -> bool:
    reach = [side * (1 + EDGE_SLACK) + 1 for side in wh]
    slack = [side * EDGE_SLACK + 1 for side in wh]
    return all(-slack[i % 2] <= side <= reach[i % 2] for box in boxes for i, side in enumerate(box))


def _reach(boxes: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The largest x and y."""
    return max(max(box[::2]) for box in boxes), max(max(box[1::2]) for box in boxes)


def _scaled(box: Sequence[float], scales: tuple[float, float]) -> list[int]:
    numbers = box[:2] if tuple(box[:2]) == tuple(box[2:]) else box
    return [round(side * scales[i % 2]) for i, side in enumerate(numbers)]


@dataclass
class PlaceStatistics:
    """How golds lie on their pictures over a dataset; for a hint where all look like 0 to 1000."""

    largest: list[tuple[float, float]] = field(default_factory=list)  # (largest coordinate, longer side) of each gold
    boxes: int = 0  # golds of four numbers on a picture of known size
    within: int = 0  # of them, those that lie inside as x, y, width, height
    swapped: int = 0  # of them, those whose second corner is above and left of the first
    disordered: int = 0  # of them, those whose second corner is not below and right of the first

    def add(self, record: Record, is_sound: bool = True) -> None:
        """Counts one record; `is_sound`: whether its gold has no problem."""
        if not has_places(record) or not has_gold(record) or not _has_size(record):
            return
        self._add_box(record)
        if not is_sound:
            return
        if boxes := method_of(record).places(record):
            self.largest.append((max(side for box in boxes for side in box), max(image_wh(record))))

    def _add_box(self, record: Record) -> None:
        numbers = [float(number) for number in _NUMBERS.findall(record.solution)]
        if len(numbers) != 4:
            return
        try:
            width, height = image_wh(record)
        except DataError:  # a defect of its own
            return
        x, y, w, h = numbers
        self.boxes += 1
        self.within += _fits([(x, y, x + w, y + h)], (width, height)) and w > 0 and h > 0
        self.disordered += w <= x or h <= y
        self.swapped += w <= x and h <= y

    def hints(self) -> tuple[str, ...]:
        """What is suspicious, as sentences."""
        return (*self._corner_hints(), *self._scale_hints())

    def _corner_hints(self) -> tuple[str, ...]:
        if self.boxes < FEW_GOLDS or self.within < self.boxes or self.swapped == self.boxes:
            return ()
        if self.disordered < FEW_DISORDERED * self.boxes:
            return ()
        return (
            f"all {self.boxes} boxes lie within their pictures as x, y, width, height (xywh), and {self.disordered} "
            "have no x1 < x2 and y1 < y2: if they are xywh, write [x, y, x + width, y + height]",
        )

    def _scale_hints(self) -> tuple[str, ...]:
        high = max((number for number, _ in self.largest), default=0)
        if len(self.largest) < FEW_GOLDS or high > 1000 or min(side for _, side in self.largest) < LARGE_SIDE:
            return ()
        return (
            f"all {len(self.largest)} golds lie within 1000, on images of {LARGE_SIDE} px and more: if they are 0 to "
            "1000 of the sides, convert them to pixels",
        )
