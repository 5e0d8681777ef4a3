"""Draws coloured shapes on black ground and lists them, for `counting`, `rec` and `od`. (torch-free)

Eight of the sixteen pairs of colour and shape are reserved for the split "ood"; each colour and each shape occurs
twice in both halves, so that only the pairs are new there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from open_r1.rewards.referring import box_iou

COLORS = {"red": (255, 40, 40), "green": (40, 220, 60), "blue": (70, 110, 255), "yellow": (255, 230, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": (0.16, 0.21), "large": (0.29, 0.36)}  # side of an item's box as a share of the picture's side
SPLITS = ("train", "heldout", "ood")
MIN_VISIBLE = 0.5  # no item is covered more than this by later ones
TRIES = 200

Pair = tuple[str, str]  # colour, shape
Color = tuple[int, int, int]  # red, green, blue, each 0 to 255
PixelBox = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the picture, x2 and y2 just outside


@dataclass(frozen=True)
class Kind:
    """The colour, shape and size of an item.

    >>> str(Kind("red", "circle", "large"))
    'large red circle'
    """

    color: str
    shape: str
    size: str

    def __str__(self) -> str:
        return f"{self.size} {self.color} {self.shape}"


@dataclass(frozen=True)
class Item:
    """An item of a picture: its tight box, and the share of its pixels, in (0, 1], that no later item covers."""

    kind: Kind
    box: PixelBox
    visible: float = 1.0


def pairs(split: str) -> tuple[Pair, ...]:
    """The eight pairs of colour and shape that a split draws from: one half for "ood", the other half for the other
    splits.

    >>> pairs("train")[:3], len(set(pairs("train")) | set(pairs("ood")))
    ((('red', 'circle'), ('red', 'cross'), ('green', 'circle')), 16)
    """
    diagonals = (2, 3) if split == "ood" else (0, 1)
    return tuple(
        (color, shape) for c, color in enumerate(COLORS) for s, shape in enumerate(SHAPES) if (c - s) % 4 in diagonals
    )


def random_scene(
    rng: np.random.Generator, kinds: Sequence[Kind], side: int = 112, overlap: float = 0.0
) -> tuple[Image.Image, tuple[Item, ...]]:
    """A picture (side, side) RGB of items of these kinds at random places; items are in the order of `kinds`.

    `overlap` is the largest IoU of two items' boxes, in [0, 1); with 0 boxes do not touch. Smaller items are drawn
    over larger ones.

    Raises ValueError where no layout fits in TRIES tries.
    """
    order = sorted(range(len(kinds)), key=lambda k: list(SIZES).index(kinds[k].size), reverse=True)
    for _ in range(TRIES):
        boxes = _boxes(rng, [kinds[k] for k in order], side, overlap)
        if boxes is None:
            continue
        image, visible = draw_scene([kinds[k] for k in order], boxes, side)
        if min(visible, default=1.0) >= MIN_VISIBLE:
            items = {k: Item(kinds[k], b, v) for k, b, v in zip(order, boxes, visible, strict=True)}
            return image, tuple(items[k] for k in range(len(kinds)))
    raise ValueError(
        f"scene: got {len(kinds)} items of which no layout was found in {TRIES} tries on {side}x{side} pixels with "
        f"overlap {overlap}; ask for fewer or smaller items, or allow more overlap"
    )


def draw_scene(kinds: Sequence[Kind], boxes: Sequence[PixelBox], side: int) -> tuple[Image.Image, list[float]]:
    """(picture, visible share of each item); later items cover earlier ones.

    >>> kinds = [Kind("red", "square", "large"), Kind("blue", "square", "small")]
    >>> draw_scene(kinds, [(0, 0, 20, 20), (10, 10, 20, 20)], 112)[1]  # 100 of 400 pixels covered
    [0.75, 1.0]
    """
    image, owners = Image.new("RGB", (side, side)), Image.new("L", (side, side))
    brush, owner_brush = ImageDraw.Draw(image), ImageDraw.Draw(owners)
    drawn_masks = []
    for number, (kind, box) in enumerate(zip(kinds, boxes, strict=True), start=1):
        DRAWERS[kind.shape](brush, box, COLORS[kind.color])
        DRAWERS[kind.shape](owner_brush, box, number)
        x1, y1, x2, y2 = box
        drawn_masks.append(np.asarray(owners)[y1:y2, x1:x2] == number)
    last = np.asarray(owners)
    visible = [(last == number).sum() for number in range(1, len(drawn_masks) + 1)]
    return image, [float(s / w.sum()) for s, w in zip(visible, drawn_masks, strict=True)]


def _boxes(rng: np.random.Generator, kinds: Sequence[Kind], side: int, overlap: float) -> list[PixelBox] | None:
    """A random box for each kind, or None where one does not fit beside those before it."""
    boxes: list[PixelBox] = []
    for kind in kinds:
        free = (box for box in (_box(rng, kind, side) for _ in range(20)) if _fits(box, boxes, overlap))
        if (box := next(free, None)) is None:
            return None
        boxes.append(box)
    return boxes


def _box(rng: np.random.Generator, kind: Kind, side: int) -> PixelBox:
    low, high = SIZES[kind.size]
    width = round(float(rng.uniform(low, high)) * side)
    x, y = rng.integers(0, side - width + 1, size=2).tolist()
    return x, y, x + width, y + width


def _fits(box: PixelBox, others: Sequence[PixelBox], overlap: float) -> bool:
    if overlap:
        return all(box_iou(box, other) <= overlap for other in others)
    x1, y1, x2, y2 = box
    return all(x2 < a1 or a2 < x1 or y2 < b1 or b2 < y1 for a1, b1, a2, b2 in others)


def _circle(brush: ImageDraw.ImageDraw, box: PixelBox, fill: int | tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    brush.ellipse((x1, y1, x2 - 1, y2 - 1), fill=fill)


def _square(brush: ImageDraw.ImageDraw, box: PixelBox, fill: int | tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    brush.rectangle((x1, y1, x2 - 1, y2 - 1), fill=fill)


def _triangle(brush: ImageDraw.ImageDraw, box: PixelBox, fill: int | tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    brush.polygon(((x1, y2 - 1), (x2 - 1, y2 - 1), ((x1 + x2 - 1) / 2, y1)), fill=fill)


def _cross(brush: ImageDraw.ImageDraw, box: PixelBox, fill: int | tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    arm = (x2 - x1) // 3
    brush.rectangle((x1 + arm, y1, x2 - 1 - arm, y2 - 1), fill=fill)
    brush.rectangle((x1, y1 + arm, x2 - 1, y2 - 1 - arm), fill=fill)


DRAWERS: dict[str, Callable[[ImageDraw.ImageDraw, PixelBox, int | tuple[int, ...]], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
