"""The task `motion`: clips of a shape that moves, turns, changes its colour, or comes and goes; questions about time.

Whatever changes goes round: the shape leaves on one side and comes in on the other, the arrow turns on, colours come
in a circle; and each begins anywhere on its circle. So each frame is as likely with every answer, all frames without
their order are as likely with the opposite answer, and the reversed clip has that answer. A shape that comes and goes
is seen in half of the frames however often it comes. Who sees the frames in another order is right in 1/2 of the first
three kinds at best, as two ways are left of eight, and in 1/4 of the fourth.

The frames of a clip are as far apart as those that a run samples by default (`--video_fps 2`). Rows 4k to 4k+3 ask the
four kinds of questions, about a clip each; row i depends only on (size, seed, split, i). Sizes of shapes are even
numbers of pixels in "train", odd ones in "heldout", so that no clip is in both.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from open_r1.data.video.types import VideoFrames
from open_r1.tasks.shapes import COLORS, DRAWERS, Color
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

CLIP_FRAMES, CLIP_RATE = 8, 2  # frames, frames a second
LEAST_SIDE = 56  # pixels of a clip's side
SHAPE_SHARE = (0.25, 0.34)  # side of a shape as a share of the clip's side
ARROW_SHARE = 1.3  # radius of an arrow as a share of a shape's side
SPEED_SHARE = (0.09, 0.16)  # of the clip's side, a frame
TURN_DEGREES = (30, 46)  # a frame
COLOR_FRAMES = 2  # frames of each colour
MOST_VISITS = CLIP_FRAMES // 2

WAYS = {  # steps to the right and down
    "up": (0, -1),
    "down": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "up left": (-1, -1),
    "up right": (1, -1),
    "down left": (-1, 1),
    "down right": (1, 1),
}
TURNS = {"clockwise": 1, "counterclockwise": -1}
WAY_QUESTION = "Which way does the shape move? Name up, down, left, right, or two of them, for example up left."
TURN_QUESTION = "Which way does the arrow turn, clockwise or counterclockwise?"
NEXT_QUESTION = (
    "The shape changes its colour again and again in the same order. Which colour comes right after {color}?"
)
VISITS_QUESTION = "The shape comes and goes. How often is it seen?"


# -------------------------------------------------------------------------------------------------- what frames show


def places(start: tuple[int, int], way: str, speed: int, side: int) -> list[tuple[int, int]]:
    """(x, y) of a shape in each frame, in pixels, that moves on a ring of `side` pixels.

    >>> places((50, 3), "right", 4, 56)[:4]
    [(50, 3), (54, 3), (2, 3), (6, 3)]
    """
    dx, dy = WAYS[way]
    return [((start[0] + k * speed * dx) % side, (start[1] + k * speed * dy) % side) for k in range(CLIP_FRAMES)]


def turned_degrees(start: int, turn: str, step: int) -> list[int]:
    """Degrees clockwise from up in each frame.

    >>> turned_degrees(10, "counterclockwise", 40)[:3]
    [10, 330, 290]
    """
    return [(start + k * step * TURNS[turn]) % 360 for k in range(CLIP_FRAMES)]


def color_round(colors: Sequence[str], offset: int) -> list[str]:
    """The colour in each frame, `offset` frames into the round.

    >>> color_round(["red", "green", "blue"], 1)
    ['red', 'green', 'green', 'blue', 'blue', 'red', 'red', 'green']
    """
    return [colors[(k + offset) // COLOR_FRAMES % len(colors)] for k in range(CLIP_FRAMES)]


def visits(seen: Sequence[int], hidden: Sequence[int], is_seen_first: bool) -> list[bool]:
    """Whether the shape is seen in each frame: for so many frames at a time, and hidden for so many between.

    >>> visits([1, 3], [2, 2], False)
    [False, False, True, False, False, True, True, True]
    """
    runs = [part for pair in zip(seen, hidden, strict=True) for part in (pair if is_seen_first else pair[::-1])]
    return [(number % 2 == 0) == is_seen_first for number, length in enumerate(runs) for _ in range(length)]


def random_parts(rng: np.random.Generator, number: int) -> list[int]:
    """`number` positive lengths whose sum is half a clip, each choice alike.

    >>> sorted(random_parts(np.random.default_rng(0), 3))
    [1, 1, 2]
    """
    cuts = sorted(rng.choice(np.arange(1, MOST_VISITS), size=number - 1, replace=False).tolist())
    return np.diff([0, *cuts, MOST_VISITS]).tolist()


# ------------------------------------------------------------------------------------------------------------ drawing


def blank(side: int) -> Image.Image:
    """A black picture, `side` pixels wide and high."""
    return Image.new("RGB", (side, side))


def shape_at_corner(side: int, shape: str, color: str, shape_side: int) -> np.ndarray:
    """(side, side, 3) uint8: a shape whose box begins at (0, 0)."""
    image = blank(side)
    DRAWERS[shape](ImageDraw.Draw(image), (0, 0, shape_side, shape_side), COLORS[color])
    return np.asarray(image)


def arrow(side: int, middle: tuple[float, float], radius: float, degrees: int, color: Color) -> np.ndarray:
    """(side, side, 3) uint8: an arrowhead of this radius that points `degrees` clockwise from up."""
    image, (x, y) = blank(side), middle
    corners = [
        (math.radians(degrees + turn), radius * share) for turn, share in ((0, 1), (140, 1), (180, 0.3), (220, 1))
    ]
    ImageDraw.Draw(image).polygon([(x + r * math.sin(a), y - r * math.cos(a)) for a, r in corners], fill=color)
    return np.asarray(image)


# ----------------------------------------------------------------------------------------------- clips and questions


@dataclass(frozen=True)
class Canvas:
    """What the kinds of a clip draw on: its side, the side of its shape, and the generator of what is random."""

    rng: np.random.Generator
    side: int
    shape_side: int

    def choice(self, names: Sequence[str]) -> str:
        """One of these names, each alike."""
        return names[self.rng.integers(len(names))]

    def place(self) -> tuple[int, int]:
        """A random place, (y, x), for the whole shape."""
        return tuple(self.rng.integers(0, self.side - self.shape_side + 1, size=2).tolist())

    def still(self, color: str | None = None) -> np.ndarray:
        """A random shape at its corner, in a random colour unless it is given."""
        color = color or self.choice(list(COLORS))
        return shape_at_corner(self.side, self.choice(list(DRAWERS)), color, self.shape_side)


Clip = tuple[list[np.ndarray], TaskQuestion]  # frames (side, side, 3) uint8


def moving(canvas: Canvas) -> Clip:
    """A shape that moves at one speed: which way."""
    rng, side, way = canvas.rng, canvas.side, canvas.choice(list(WAYS))
    speed = int(rng.integers(round(SPEED_SHARE[0] * side), round(SPEED_SHARE[1] * side) + 1))
    still, start = canvas.still(), tuple(rng.integers(0, side, size=2).tolist())
    frames = [np.roll(still, (y, x), axis=(0, 1)) for x, y in places(start, way, speed, side)]
    return frames, TaskQuestion(WAY_QUESTION, way, {"kind": "way"})


def turning(canvas: Canvas) -> Clip:
    """An arrow that turns at one speed: clockwise or counterclockwise."""
    rng, turn, color = canvas.rng, canvas.choice(list(TURNS)), COLORS[canvas.choice(list(COLORS))]
    radius = ARROW_SHARE * canvas.shape_side
    middle = tuple(rng.uniform(radius, canvas.side - radius, size=2).tolist())
    pointing = turned_degrees(int(rng.integers(360)), turn, int(rng.integers(*TURN_DEGREES)))
    frames = [arrow(canvas.side, middle, radius, degrees, color) for degrees in pointing]
    return frames, TaskQuestion(TURN_QUESTION, turn, {"kind": "turn"})


def changing_color(canvas: Canvas) -> Clip:
    """A shape that shows three colours in turn: which comes after one of them."""
    rng = canvas.rng
    colors = rng.permutation(list(COLORS))[:3].tolist()
    shape, place, asked = canvas.choice(list(DRAWERS)), canvas.place(), int(rng.integers(3))
    shown = color_round(colors, int(rng.integers(COLOR_FRAMES * len(colors))))
    frames = [np.roll(shape_at_corner(canvas.side, shape, c, canvas.shape_side), place, axis=(0, 1)) for c in shown]
    question = NEXT_QUESTION.format(color=colors[asked])
    return frames, TaskQuestion(question, colors[(asked + 1) % 3], {"kind": "next", "colors": colors})


def coming_and_going(canvas: Canvas) -> Clip:
    """A shape that is seen in half of the frames: how often it comes."""
    rng, number = canvas.rng, int(canvas.rng.integers(1, MOST_VISITS + 1))
    shape, nothing = np.roll(canvas.still(), canvas.place(), axis=(0, 1)), np.asarray(blank(canvas.side))
    seen = visits(random_parts(rng, number), random_parts(rng, number), bool(rng.integers(2)))
    return [shape if is_seen else nothing for is_seen in seen], TaskQuestion(
        VISITS_QUESTION, str(number), {"kind": "visits"}
    )


KINDS_OF_CLIPS: tuple[Callable[[Canvas], Clip], ...] = (moving, turning, changing_color, coming_and_going)


@dataclass(frozen=True)
class MotionClips:
    """A clip and its question; the kinds take turns."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    size: int = field(default=LEAST_SIDE, metadata={"help": f"Side of a clip in pixels, even, at least {LEAST_SIDE}."})

    def __post_init__(self) -> None:
        if self.size < LEAST_SIDE or self.size % 2:
            raise ValueError(f"size: got {self.size}, expected an even number of pixels from {LEAST_SIDE} on")

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        low, high = (round(share * self.size) for share in SHAPE_SHARE)
        sides = [side for side in range(low, high + 1) if side % 2 == self.splits.index(split)]
        frames, question = KINDS_OF_CLIPS[index % len(KINDS_OF_CLIPS)](
            Canvas(rng, self.size, sides[rng.integers(len(sides))])
        )
        seconds = tuple(k / CLIP_RATE for k in range(CLIP_FRAMES))
        return DrawnExample((), (question,), (VideoFrames(np.stack(frames), seconds, CLIP_FRAMES / CLIP_RATE),))


MOTION = Task(
    name="motion",
    method="default",
    prompts={
        "think": "{question} First think in <think> </think> tags, then give the final answer in <answer> </answer> "
        "tags.",
        "direct": "{question} Give the final answer in <answer> </answer> tags.",
    },
    generator=MotionClips,
)
