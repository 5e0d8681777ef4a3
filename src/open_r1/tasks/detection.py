"""The task `od`, object detection after VLM-R1: answer with a JSON list of labelled boxes, scored by COCO's AP.

`--reward_method odLength` or `weighted_sum` also penalize extra boxes (`open_r1.rewards.detection`). The generator
asks for two labels in a picture of coloured shapes; shapes of other labels are distractors, and where neither label
occurs the answer is None. Split "ood": pairs of colour and shape that no other split has (`open_r1.tasks.shapes`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from open_r1.rewards.detection import od_ap, od_ap50
from open_r1.tasks.shapes import SIZES, SPLITS, Item, Kind, pairs, random_scene
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

DETECTION_QUESTION = "Find every {first} and every {second} in the image and give the box of each with its label."
FORM = (
    'as a JSON list such as [{"bbox_2d": [x1, y1, x2, y2], "label": "object name"}], or None where there is nothing '
    "to find"
)


@dataclass(frozen=True)
class DetectedShapes:
    """Shapes in a picture, and the question for those of two labels, such as "red circle"."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    most: int = field(default=4, metadata={"help": "Largest number of shapes in a picture, at least 1."})
    empty: float = field(default=0.1, metadata={"help": "Share of pictures, in [0, 1], without anything to find."})
    overlap: float = field(default=0.0, metadata={"help": "Largest IoU of two shapes' boxes, in [0, 1)."})
    size: int = field(default=112, metadata={"help": "Side of a picture in pixels."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        labels = [f"{color} {shape}" for color, shape in pairs(split)]
        targets = rng.permutation(labels)[:2].tolist()
        others = [label for label in labels if label not in targets]
        drawn_labels = rng.choice(labels, size=rng.integers(1, self.most + 1)).tolist()
        if rng.random() < self.empty:
            drawn_labels = rng.choice(others, size=len(drawn_labels)).tolist()
        elif not set(drawn_labels) & set(targets):
            drawn_labels[0] = targets[0]
        kinds = [Kind(*label.split(), list(SIZES)[rng.integers(len(SIZES))]) for label in drawn_labels]
        image, items = random_scene(rng, kinds, self.size, self.overlap)
        question = DETECTION_QUESTION.format(first=targets[0], second=targets[1])
        return DrawnExample((image,), (TaskQuestion(question, detections_text(items, targets), {"labels": targets}),))


def detections_text(items: Sequence[Item], labels: Sequence[str]) -> str:
    """The gold answer: the items of these labels from left to right, in pixels of the picture.

    >>> detections_text([Item(Kind("red", "circle", "small"), (3, 4, 20, 21))], ["red circle", "blue cross"])
    '[{"bbox_2d": [3, 4, 20, 21], "label": "red circle"}]'
    >>> detections_text([], ["red circle", "blue cross"])
    'None'
    """
    named = [(list(item.box), f"{item.kind.color} {item.kind.shape}") for item in items]
    boxes = [{"bbox_2d": box, "label": label} for box, label in sorted(named) if label in labels]
    return json.dumps(boxes) if boxes else "None"


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
