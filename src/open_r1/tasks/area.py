"""The task `area`, after VLM Area: give the area of one filled shape on 50x50 axes as a number.

    python local_scripts/make_dataset.py area --out data/area --rows 8000
    python local_scripts/make_dataset.py area --out data/rotated --rows 8000 --rotation 45
    python local_scripts/make_dataset.py area --out data/wide --rows 8000 --low 5                    # 30 wide, not 15
    python local_scripts/make_dataset.py area --out data/small --rows 2000 --size 112 --dark         # a tiny model's

The shape is a rectangle, square, circle or triangle with dimensions uniform in [low, high], fully inside the axes.
Splits use disjoint streams of random numbers; dimensions are continuous, so no shape occurs in two splits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from open_r1.rewards.area import is_within_tolerance, relative_error
from open_r1.tasks.shapes import Color
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

AXIS = 50.0  # both axes run from 0 to here
TICK_PIXELS = 10
SUPER = 4  # drawn this many times larger and averaged down
AREA_SHAPES = ("rectangle", "square", "circle", "triangle")
AREA_QUESTION = "What is the area of the shape in the image, in square units of the axes?"

Outline2D = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class DrawnShape:
    """`outline` in units of the axes, x to the right, y up; `width` and `height` before `rotation`, in degrees
    counter-clockwise. A circle's width and height are its diameter."""

    kind: str
    width: float
    height: float
    rotation: float
    outline: Outline2D

    @property
    def area(self) -> float:
        """The exact area in square units (the drawn outline of a circle is a polygon).

        >>> DrawnShape("triangle", 20.0, 30.0, 0.0, ()).area, round(DrawnShape("circle", 20.0, 20.0, 0.0, ()).area, 2)
        (300.0, 314.16)
        """
        share = {"circle": math.pi / 4, "triangle": 0.5}.get(self.kind, 1.0)
        return share * self.width * self.height


@dataclass(frozen=True)
class Areas:
    """One shape on axes, and its area."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")

    size: int = field(default=224, metadata={"help": "Side of the square picture in pixels."})
    low: float = field(default=20.0, metadata={"help": "Smallest dimension, in units of the axes."})
    high: float = field(default=35.0, metadata={"help": "Largest dimension; the axes are 50 long."})
    rotation: float = field(default=0.0, metadata={"help": "Turn shapes by up to so many degrees either way: 45."})
    dark: bool = field(default=False, metadata={"help": "Black ground with a dim grid and a white edge."})

    def __post_init__(self) -> None:
        turn = math.radians(min(abs(self.rotation), 45))
        most = AXIS / (math.cos(turn) + math.sin(turn))  # a square of this side, turned so, spans the axes
        if not (0 < self.low <= self.high <= most and self.size >= 28):
            raise ValueError(
                f"got low {self.low}, high {self.high}, rotation {self.rotation}, size {self.size}; expected "
                f"0 < low <= high <= {most:.4g}, so that every shape fits the axes, and a size of 28 or more"
            )

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        shape = self.shape(rng)
        fill = tuple(int(255 * level) for level in rng.uniform(0.1, 0.9, size=3))
        fields = {"shape": shape.kind, "width": shape.width, "height": shape.height, "rotation": shape.rotation}
        extra = {name: round(value, 2) if isinstance(value, float) else value for name, value in fields.items()}
        question = TaskQuestion(AREA_QUESTION, f"{shape.area:.2f}", extra)
        return DrawnExample((draw_area(shape.outline, fill, self.size, self.dark),), (question,))

    def shape(self, rng: np.random.Generator) -> DrawnShape:
        """A shape of random kind, size, rotation and place."""
        kind = AREA_SHAPES[rng.integers(len(AREA_SHAPES))]
        width, height = rng.uniform(self.low, self.high, size=2).tolist()
        height = width if kind in ("square", "circle") else height
        turn = float(rng.uniform(-self.rotation, self.rotation))
        outline = rotate_outline(shape_corners(kind, width, height, apex=rng.uniform()), turn)
        return DrawnShape(kind, width, height, turn, place_outline(outline, rng))


def shape_corners(kind: str, width: float, height: float, apex: float) -> Outline2D:
    """The outline (N, 2) from (0, 0) to (width, height); a triangle's apex stands over the share `apex` of its base.

    >>> shape_corners("triangle", 20.0, 30.0, apex=0.25)
    [(0.0, 0.0), (20.0, 0.0), (5.0, 30.0)]
    """
    if kind == "triangle":
        return [(0.0, 0.0), (width, 0.0), (apex * width, height)]
    if kind == "circle":
        steps = [2 * math.pi * k / 180 for k in range(180)]
        return [(width / 2 * (1 + math.cos(t)), height / 2 * (1 + math.sin(t))) for t in steps]
    return [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]


def rotate_outline(outline: Outline2D, degrees: float) -> Outline2D:
    """The outline rotated about the origin, counter-clockwise.

    >>> [(round(x, 9), round(y, 9)) for x, y in rotate_outline([(1.0, 0.0), (0.0, 2.0)], 90)]
    [(0.0, 1.0), (-2.0, 0.0)]
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cos * x - sin * y, sin * x + cos * y) for x, y in outline]


def place_outline(outline: Outline2D, rng: np.random.Generator) -> Outline2D:
    """The outline moved to a uniformly random place fully inside the axes."""
    xs, ys = zip(*outline, strict=True)
    dx = rng.uniform(-min(xs), AXIS - max(xs))
    dy = rng.uniform(-min(ys), AXIS - max(ys))
    return [(x + dx, y + dy) for x, y in outline]


def draw_area(outline: Outline2D, fill: Color, size: int, dark: bool) -> Image.Image:
    """RGB picture (size, size) of the axes with the filled outline on them."""
    large = _axes(size, dark).copy()
    points = [_pixel(x, y, size) for x, y in outline]
    edge = (255, 255, 255) if dark else (0, 0, 0)
    pen = ImageDraw.Draw(large)
    pen.polygon(points, fill=fill)
    pen.line([*points, *points[:2]], fill=edge, width=max(1, round(size / 112)) * SUPER, joint="curve")
    return large.reduce(SUPER)


def _pixel(x: float, y: float, size: int) -> tuple[float, float]:
    """Units of the axes -> pixels of the large drawing; margins are an eighth of the picture at the labels, else a
    sixteenth."""
    margin, span = size / 8, size * 13 / 16
    return (margin + x / AXIS * span) * SUPER, (size - margin - y / AXIS * span) * SUPER


@cache
def _axes(size: int, dark: bool) -> Image.Image:
    """Background, grid, frame and tick labels, `SUPER` times as large as the picture."""
    ground, lines, text = (0, 56, 150) if dark else (255, 205, 0)
    large = Image.new("RGB", (size * SUPER,) * 2, (ground,) * 3)
    pen, font = ImageDraw.Draw(large), ImageFont.load_default(max(8, size / 20) * SUPER)
    for tick in range(0, int(AXIS) + 1, TICK_PIXELS):
        for ends in (((tick, 0), (tick, AXIS)), ((0, tick), (AXIS, tick))):
            pen.line([_pixel(*end, size) for end in ends], fill=(lines,) * 3, width=SUPER)
        (x, y), gap = _pixel(tick, tick, size), size / 56 * SUPER
        left, bottom = _pixel(0, 0, size)
        pen.text((x, bottom + gap), str(tick), fill=(text,) * 3, font=font, anchor="mt")
        pen.text((left - gap, y), str(tick), fill=(text,) * 3, font=font, anchor="rm")
    frame = [_pixel(*corner, size) for corner in ((0, 0), (AXIS, 0), (AXIS, AXIS), (0, AXIS), (0, 0))]
    pen.line(frame, fill=(text,) * 3, width=SUPER)
    return large


AREA = Task(
    name="area",
    method="area",
    prompts={
        "think": "{question} First think in <think> </think> tags, then give the area with exactly two decimals in "
        "<answer> </answer> tags, for example <answer>123.45</answer>.",
        "direct": "{question} Give the area with exactly two decimals in <answer> </answer> tags, for example "
        "<answer>123.45</answer>.",
    },
    rewards=("accuracy", "two_decimals", "area_format"),
    weights=(1.0, 1.0, 1.0),
    is_right=is_within_tolerance,
    metric="within 10 %",
    measures={"relative_error": relative_error},
    generator=Areas,
)
