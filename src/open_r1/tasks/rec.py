"""The task `rec`, referring expressions as in VLM-R1: answer with a box in JSON, scored by its IoU with the gold box.

The model answers in the coordinates of its family (`data.geometry.coordinates`); gold boxes are in pixels of the
original image. The real data are RefCOCO's rows; for machines without them the generator asks for one of several
coloured shapes. Split "ood": pairs of colour and shape that are not in "train" and "heldout" (`open_r1.tasks.shapes`).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from open_r1.rewards.referring import rec
from open_r1.tasks.shapes import SIZES, SPLITS, Kind, pairs, random_scene
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

REFERRING_QUESTION = "Please provide the bounding box coordinate of the region this sentence describes: {sentence}."


@dataclass(frozen=True)
class ReferredShapes:
    """A picture of shapes, and a question that describes exactly one of them."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    least: int = field(default=2, metadata={"help": "Smallest number of shapes in a picture."})
    most: int = field(default=3, metadata={"help": "Largest number of shapes in a picture; over 4 need some overlap."})
    distractors: int = field(
        default=1, metadata={"help": "So many of the other shapes differ in one of size, colour and shape only."}
    )
    overlap: float = field(default=0.0, metadata={"help": "Largest IoU of two shapes' boxes, in [0, 1)."})
    size: int = field(default=112, metadata={"help": "Side of a picture in pixels."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        pool = [Kind(color, shape, size) for color, shape in pairs(split) for size in SIZES]
        target = pool[rng.integers(len(pool))]
        others = int(rng.integers(self.least, self.most + 1)) - 1
        kinds = [target, *self._others(rng, target, others, pool)]
        image, items = random_scene(rng, kinds, self.size, self.overlap)
        extra = {"items": [{"name": str(item.kind), "box": list(item.box)} for item in items]}
        question = REFERRING_QUESTION.format(sentence=f"the {target}")
        return DrawnExample((image,), (TaskQuestion(question, str(list(items[0].box)), extra),))

    def _others(self, rng: np.random.Generator, target: Kind, number: int, pool: list[Kind]) -> list[Kind]:
        alike = [kind for kind in pool if kind_differences(kind, target) == 1]
        unlike = [kind for kind in pool if kind_differences(kind, target) > 1]
        pools = [alike if k < self.distractors else unlike for k in range(number)]
        return [kinds[rng.integers(len(kinds))] for kinds in pools]


def kind_differences(a: Kind, b: Kind) -> int:
    """The number of attributes (colour, shape, size) in which two kinds differ.

    >>> kind_differences(Kind("red", "circle", "large"), Kind("red", "cross", "small"))
    2
    """
    return sum(getattr(a, name) != getattr(b, name) for name in ("color", "shape", "size"))


REC = Task(
    name="rec",
    method="rec",
    prompts={
        "think": "{question} First output the thinking process in <think> </think> tags and then output the final "
        "answer in <answer> </answer> tags. Output the final answer in JSON format.",
        "direct": "{question} Output the final answer in JSON format in <answer> </answer> tags.",
    },
    is_right=lambda iou: iou > 0.5,
    metric="IoU > 0.5",
    measures={"mean_iou": rec},
    generator=ReferredShapes,
)
