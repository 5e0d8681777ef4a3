"""Tells in which numbers the boxes of a whole source are written, from the pictures they lie on. (torch-free)

A reading is taken where it alone fits all boxes. A wider frame is ruled out where all boxes would hardly have fallen
into the narrower one by chance (pixels of 640x480 against 0 to 1000). Where several remain, the user is asked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from open_r1.data.geometry.coordinates import Box
from open_r1.errors import data_error
from open_r1.rewards.places import EDGE_SLACK, FEW_GOLDS
from open_r1.tasks.importers.items import SizeWh

Placed = tuple[Sequence[float], SizeWh | None]  # four numbers as the source has them, the size of their picture
MAX_OUTSIDE = 0.1  # share of boxes that may leave their picture in the form that the format declares
CHANCE = 1e-3  # under this probability a wider frame is ruled out


@dataclass(frozen=True)
class Reading:
    """How four numbers are a box: `unit` is a whole side of the picture in these numbers, None for pixels."""

    words: str
    unit: float | None
    is_xywh: bool = False
    is_swapped: bool = False


# What users give to --boxes.
READINGS: dict[str, Reading] = {
    "pixels": Reading("corners in pixels", None),
    "xywh": Reading("x, y, width, height in pixels", None, is_xywh=True),
    "fractions": Reading("corners in fractions of the sides", 1),
    "per_mille": Reading("corners in 0 to 1000 of the sides", 1000),
    "percent": Reading("corners in percent of the sides", 100),
    "xywh_fractions": Reading("x, y, width, height in fractions of the sides", 1, is_xywh=True),
}
_SWAPPED = Reading("corners in pixels, the lower right one first", None, is_swapped=True)


@dataclass(frozen=True)
class Frame:
    """The reading of a source's boxes, with what the user is told of it ("" for nothing)."""

    name: str
    remark: str = ""

    def convert(self, box: Sequence[float], wh: SizeWh | None) -> Box | None:
        """The box as ordered corners in pixels, at the picture's edge cut; None outside of it or without an area.

        >>> Frame("xywh").convert((30, 40, 120, 80), (300, 200)), Frame("pixels").convert((150, 120, 30, 40), None)
        ((30.0, 40.0, 150.0, 120.0), (30.0, 40.0, 150.0, 120.0))
        """
        reading = READINGS[self.name]
        if reading.unit is not None and wh is None:
            return None
        a, b, c, d = _in_pixels(_corners(box, reading), reading, wh)
        x1, y1, x2, y2 = min(a, c), min(b, d), max(a, c), max(b, d)
        return inside((x1, y1, x2, y2), wh)


def choose_frame(
    boxes: Sequence[Placed], where: str, named: str = "", declared: str = "", among: Sequence[str] = tuple(READINGS)
) -> Frame:
    """The reading of all boxes of a source: `named` by the user, else the one of `among` that fits them.

    `declared` is the form that the format's own text declares; it is kept unless another one alone fits.

    Raises DataError (field --boxes) where several readings fit, or none.

    >>> size = (300, 200)
    >>> choose_frame([((200, 100, 280, 180), size), ((30, 40, 250, 120), size), ((9, 9, 299, 150), size)] * 3, "").name
    'pixels'
    """
    if named or not boxes:
        return Frame(named or declared or "pixels")
    kept = _kept(boxes, among)
    outside = {name: sum(not _fits(box, wh, READINGS[name]) for box, wh in boxes) for name in among}
    if declared and not outside[declared] and not _is_crowded(boxes, declared, kept):
        return Frame(declared)
    if len(kept) == 1:
        against = declared or ("xywh" if kept[0] == "pixels" and "xywh" in outside else "pixels")
        return Frame(kept[0].replace("swapped", "pixels"), _remark(kept[0], against, outside, len(boxes)))
    if not kept and all(_fits(box, wh, READINGS["pixels"]) or _fits(box, wh, _SWAPPED) for box, wh in boxes):
        swapped = sum(not _fits(box, wh, READINGS["pixels"]) for box, wh in boxes)
        return Frame("pixels", f"{swapped} of {len(boxes)} boxes have their corners swapped: put in order")
    if declared and 0 < outside[declared] <= MAX_OUTSIDE * len(boxes):
        return Frame(declared)
    raise _unclear(boxes, where, kept, outside)


def _kept(boxes: Sequence[Placed], among: Sequence[str]) -> list[str]:
    """The names of the readings that fit all boxes and are not ruled out by a narrower one."""
    table = {name: READINGS[name] for name in among} | {"swapped": _SWAPPED}
    fitting = [name for name, reading in table.items() if all(_fits(box, wh, reading) for box, wh in boxes)]
    return [name for name in fitting if not any(_is_ruled_out(boxes, table[name], table[o]) for o in fitting)]


def _is_ruled_out(boxes: Sequence[Placed], wide: Reading, narrow: Reading) -> bool:
    """Whether boxes of the frame `wide` would hardly all have fallen into that of `narrow` by chance."""
    total = 0.0
    for _, wh in boxes:
        for side in range(2):
            total += math.log(min(1.0, _side(narrow, wh, side) / _side(wide, wh, side)))
    return total < math.log(CHANCE)


def _side(reading: Reading, wh: SizeWh | None, side: int) -> float:
    return reading.unit or (wh[side] if wh else 1e4)


def _is_crowded(boxes: Sequence[Placed], declared: str, kept: Sequence[str]) -> bool:
    """Whether the declared reading puts all boxes into one corner: numbers up to 1, or many up to 100 or 1000."""
    if READINGS[declared].unit == 1 or declared in kept:
        return False
    return len(boxes) >= FEW_GOLDS or all(0 <= number <= 1 for box, _ in boxes for number in box)


def _corners(box: Sequence[float], reading: Reading) -> Box:
    a, b, c, d = map(float, box)
    if reading.is_xywh:
        return a, b, a + c, b + d
    return (c, d, a, b) if reading.is_swapped else (a, b, c, d)


def _in_pixels(box: Box, reading: Reading, wh: SizeWh | None) -> Box:
    if reading.unit is None or wh is None:
        return box
    x, y = wh[0] / reading.unit, wh[1] / reading.unit
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _fits(box: Sequence[float], wh: SizeWh | None, reading: Reading) -> bool:
    """Whether a box has an area and lies on its picture, but for a little over its edge."""
    x1, y1, x2, y2 = _corners(box, reading)
    if not (x1 < x2 and y1 < y2):
        return False
    limits = (reading.unit, reading.unit) if reading.unit else wh or (math.inf, math.inf)
    slack = 0.0 if reading.unit else 1.0  # a pixel; shares of a side have no pixels
    low = [-(slack + (EDGE_SLACK * side if side < math.inf else 0)) for side in limits]
    return all(low[i % 2] <= number <= limits[i % 2] - low[i % 2] for i, number in enumerate((x1, y1, x2, y2)))


def inside(box: Box, wh: SizeWh | None) -> Box | None:
    """A box cut at its picture's edge, rounded to 0.01 px; None where it leaves it by more than rounding, or where it
    has no area.

    >>> inside((-0.4, 0, 301, 90), (300, 200)), inside((0, 0, 400, 90), (300, 200)), inside((1, 1, 1, 9), None)
    ((0.0, 0.0, 300.0, 90.0), None, None)
    """
    if wh is not None:
        if not _fits(box, wh, READINGS["pixels"]):
            return None
        box = (max(box[0], 0), max(box[1], 0), min(box[2], wh[0]), min(box[3], wh[1]))
    x1, y1, x2, y2 = (round(float(side), 2) for side in box)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def four_numbers_of(value: object) -> tuple[float, ...] | None:
    """Four finite numbers, else None; numbers as text count, as some tools write them.

    >>> four_numbers_of([1, "2", 3.5, 4]), four_numbers_of([1, 2, 3]), four_numbers_of([1, 2, 3, float("nan")])
    ((1.0, 2.0, 3.5, 4.0), None, None)
    """
    if not isinstance(value, (list, tuple)) or len(value) != 4 or any(isinstance(side, bool) for side in value):
        return None
    try:
        numbers = tuple(float(side) for side in value)
    except (TypeError, ValueError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _remark(name: str, against: str, outside: dict[str, int], count: int) -> str:
    if name == "swapped":
        return f"all {count} boxes have their lower right corner first: put in order"
    words, other = READINGS[name].words, READINGS[against].words
    left = f"{outside[against]} of {count} leave their picture as {other}, none as {words}"
    if not outside[against]:
        left = f"as {other} all {count} would crowd in one corner of their pictures"
    return f"boxes are read as {words}: {left}; --boxes says otherwise"


def _unclear(boxes: Sequence[Placed], where: str, kept: Sequence[str], outside: dict[str, int]) -> Exception:
    (numbers, wh), count = boxes[0], len(boxes)
    example = f"such as [{', '.join(f'{number:g}' for number in numbers)}]" + (f" on {wh[0]}x{wh[1]}" if wh else "")
    names = ["pixels" if name == "swapped" else name for name in kept]
    if names:
        ways = " and as ".join((_SWAPPED if name == "swapped" else READINGS[name]).words for name in kept)
        got = f"{count} {'boxes' if count > 1 else 'box'} ({example}) that can be read as {ways}"
    else:
        names = sorted(outside, key=outside.__getitem__)[:2]
        left = " and ".join(f"{outside[name]} as {READINGS[name].words}" for name in names)
        got = f"{count} {'boxes' if count > 1 else 'box'} ({example}), of which {left} leave their picture"
    choice = " or ".join(f"--boxes {name}" for name in dict.fromkeys(names))
    return data_error(where, "--boxes", got, "one reading that fits all", f"say which: {choice}")
