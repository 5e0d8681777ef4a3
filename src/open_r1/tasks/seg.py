"""The task `seg`, as in VLM-R1's fork: answer with a polygon of few numbers in JSON, scored by its IoU with the mask.

The real data are COCO's rows (`local_scripts/download_coco_dataset.py`); for machines without them the generator draws
one shape on black ground.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from open_r1.data.geometry.masks import encode_rle
from open_r1.data.geometry.polygons import angles, ceiling, fit_polygon, polygon_json
from open_r1.rewards.segmentation import gold_ceiling, intersection, mask_iou, union
from open_r1.tasks.shapes import COLORS
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

RADIUS_FORMULAS = {
    "chebyshev": "c0 + c1 cos(t) + c2 cos(2t) + ...",
    "fourier": "a0 + a1 cos(t) + b1 sin(t) + a2 cos(2t) + b2 sin(2t) + ...",
}


def outline_question(target: str, basis: str, terms: int) -> str:
    """The question for the outline of one object, with the form of the answer.

    >>> outline_question("the second dog from the left", "chebyshev", 8)
    'Outline the second dog from the left: its centre, and the radius r(t) = c0 + c1 cos(t) + c2 cos(2t) + ... at the \
angle t (0 is right, clockwise) by 8 coefficients.'
    """
    named = "" if basis == "chebyshev" else f' Add "basis": "{basis}".'
    return (
        f"Outline {target}: its centre, and the radius r(t) = {RADIUS_FORMULAS[basis]} at the angle t "
        f"(0 is right, clockwise) by {terms} coefficients.{named}"
    )


@dataclass(frozen=True)
class OutlinedShapes:
    """One coloured shape on black ground: an ellipse, a bar at an angle, an L, a star or a blob."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    size: int = field(default=112, metadata={"help": "Side of a picture in pixels."})
    basis: str = field(default="chebyshev", metadata={"help": "Form of the outline: chebyshev or fourier."})
    terms: int = field(default=8, metadata={"help": "Number of coefficients."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        shape, color = (str(rng.choice(list(names))) for names in (MASK_SHAPES, COLORS))
        mask = draw_mask(shape, rng, self.size)
        picture = np.where(mask[..., None], np.array(COLORS[color], np.uint8), np.uint8(0))
        polygon = fit_polygon(mask, self.basis, self.terms)
        extra = {
            "segmentation": encode_rle(mask),
            "category": shape,
            "ceiling": ceiling(polygon, mask),
            "basis": self.basis,
        }
        question = TaskQuestion(
            outline_question(f"the {color} {shape}", self.basis, self.terms), polygon_json(polygon), extra
        )
        return DrawnExample((Image.fromarray(picture),), (question,))


def draw_mask(shape: str, rng: np.random.Generator, side: int) -> np.ndarray:
    """The mask (side, side) of a shape of random measures, angle and place, fully inside."""
    outline_N2 = MASK_SHAPES[shape](rng)
    turn = rng.uniform(0, 2 * np.pi)
    outline_N2 = outline_N2 @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outline_N2 *= rng.uniform(0.22, 0.42) * side / np.hypot(*outline_N2.T).max()
    low, high = -outline_N2.min(axis=0) + 1, side - 2 - outline_N2.max(axis=0)
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in outline_N2 + rng.uniform(low, high)], fill=1)
    return np.asarray(canvas).astype(bool)


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    return _around(np.ones(90)) * [1, rng.uniform(0.4, 1)]


def _bar(rng: np.random.Generator) -> np.ndarray:
    half = rng.uniform(0.15, 0.35)
    return np.array([[-1, -half], [1, -half], [1, half], [-1, half]])


def _l_shape(rng: np.random.Generator) -> np.ndarray:
    arm, other = rng.uniform(0.3, 0.5), rng.uniform(0.7, 1)
    corners = np.array([[0, 0], [arm, 0], [arm, 1 - arm], [other, 1 - arm], [other, 1], [0, 1]])
    return corners - [other / 2, 0.5]


def _star(rng: np.random.Generator) -> np.ndarray:
    return _around(np.tile([1.0, rng.uniform(0.4, 0.6)], int(rng.integers(4, 7))))


def _blob(rng: np.random.Generator) -> np.ndarray:
    waves = [np.cos(k * angles(90) + rng.uniform(0, 2 * np.pi)) * rng.uniform(0, 0.35) / k for k in (1, 2, 3, 4)]
    return _around(1 + np.sum(waves, axis=0))


def _around(radius_N: np.ndarray) -> np.ndarray:
    theta = angles(len(radius_N))
    return np.stack([np.cos(theta), np.sin(theta)], axis=1) * radius_N[:, None]


MASK_SHAPES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "ellipse": _ellipse,
    "bar": _bar,
    "L": _l_shape,
    "star": _star,
    "blob": _blob,
}

_FORM = '{"centre": [x, y], "coeffs": [...], "size": [height, width]}'

SEG = Task(
    name="seg",
    method="mask_iou",
    prompts={
        "think": "{question} First output the thinking process in <think> </think> tags and then output the final "
        f"answer in <answer> </answer> tags as JSON with these keys: {_FORM}, in pixels of an image of that size.",
        "direct": "{question} Output the final answer in <answer> </answer> tags as JSON with these keys: "
        f"{_FORM}, in pixels of an image of that size.",
    },
    is_right=lambda iou: iou > 0.5,
    metric="IoU > 0.5",
    measures={
        "gIoU": mask_iou,
        "intersection": intersection,
        "union": union,
        "ceiling": lambda completion, record: gold_ceiling(record),
    },
    ratios={"cIoU": ("intersection", "union")},
    generator=OutlinedShapes,
)
