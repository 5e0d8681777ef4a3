"""Object detection, after VLM-R1: the answer is a JSON list of labelled boxes, the reward COCO's average precision.

`--reward_method odLength` or `weighted_sum` also charge for superfluous boxes (`open_r1.rewards.detection`). The
generator asks for two labels in a picture of coloured shapes; what carries another label is a distractor, and where
neither label is there the answer is None. Split "ood": pairs of colour and shape that no other split shows
(`open_r1.tasks.shapes`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from open_r1.rewards.detection import od_ap, od_ap50
from open_r1.tasks.shapes import SIZES, SPLITS, Item, Kind, pairs, scene
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

DETECTION_QUESTION = "Find every {first} and every {second} in the image and give the box of each with its label."
FORM = (
    'as a JSON list such as [{"bbox_2d": [x1, y1, x2, y2], "label": "object name"}], or None where there is nothing '
    "to find"
)


@dataclass(frozen=True)
class DetectedShapes:
    """Shapes of which those of two labels, such as "red circle", are to be found."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    most: int = field(default=4, metadata={"help": "Largest number of shapes in a picture, at least 1."})
    empty: float = field(default=0.1, metadata={"help": "Share of pictures, in [0, 1], without anything to find."})
    overlap: float = field(default=0.0, metadata={"help": "Largest IoU of two shapes' boxes, in [0, 1)."})
    size: int = field(default=112, metadata={"help": "Side of a picture in pixels."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        labels = [f"{color} {shape}" for color, shape in pairs(split)]
        wanted = rng.permutation(labels)[:2].tolist()
        others = [label for label in labels if label not in wanted]
        shown = rng.choice(labels, size=rng.integers(1, self.most + 1)).tolist()
        if rng.random() < self.empty:
            shown = rng.choice(others, size=len(shown)).tolist()
        elif not set(shown) & set(wanted):
            shown[0] = wanted[0]
        kinds = [Kind(*label.split(), list(SIZES)[rng.integers(len(SIZES))]) for label in shown]
        image, items = scene(rng, kinds, self.size, self.overlap)
        question = DETECTION_QUESTION.format(first=wanted[0], second=wanted[1])
        return DrawnExample((image,), (TaskQuestion(question, detections_text(items, wanted), {"labels": wanted}),))


def detections_text(items: Sequence[Item], wanted: Sequence[str]) -> str:
    """The gold answer: the items of these labels from left to right, in pixels of the picture.

    >>> detections_text([Item(Kind("red", "circle", "small"), (3, 4, 20, 21))], ["red circle", "blue cross"])
    '[{"bbox_2d": [3, 4, 20, 21], "label": "red circle"}]'
    >>> detections_text([], ["red circle", "blue cross"])
    'None'
    """
    named = [(list(item.box), f"{item.kind.color} {item.kind.shape}") for item in items]
    found = [{"bbox_2d": box, "label": label} for box, label in sorted(named) if label in wanted]
    return json.dumps(found) if found else "None"


OD = Task(
    name="od",
    method="od_ap",
    prompts={
        "think": "{question} First output the thinking process in <think> </think> tags and then output the final "
        f"answer in <answer> </answer> tags, {FORM}.",
        "direct": f"{{question}} Output the final answer in <answer> </answer> tags, {FORM}.",
    },
    is_right=lambda precision: precision >= 0.5,
    metric="mean average precision of the picture at least 0.5",
    measures={"ap": od_ap, "ap50": od_ap50},
    generator=DetectedShapes,
)
