"""The task `counting`, after R1-V: count all items of a picture, or those of one colour and shape.

Rows 2k and 2k+1 share picture k: all items, then one kind. The number of all items is uniform in 1..`most`. R1-V's own
data (CLEVR) is read by `grpo.py` and `grpo_jsonl.py --task_type counting` as it is; the generator is for machines
without it. Difficulty: `most`, `overlap`, `distractors`. Split "ood": pairs of colour and shape that are not in
"train" and "heldout" (`open_r1.tasks.shapes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from open_r1.tasks.shapes import SIZES, SPLITS, Kind, Pair, pairs, random_scene
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

MOST_LARGE = 4
COUNT_ALL_QUESTION = "How many different items are there in the image?"


def plural(pair: Pair) -> str:
    """A pair in words, plural.

    >>> plural(("red", "circle")), plural(("blue", "cross"))
    ('red circles', 'blue crosses')
    """
    color, shape = pair
    return f"{color} {shape}{'es' if shape.endswith('s') else 's'}"


def kind_question(pair: Pair) -> str:
    """The question about one kind.

    >>> kind_question(("red", "circle"))
    'How many red circles are there in the image?'
    """
    return f"How many {plural(pair)} are there in the image?"


def similar_pairs(pair: Pair, pool: Sequence[Pair]) -> list[Pair]:
    """The pairs of `pool` that share either the colour or the shape with `pair`, not both.

    >>> similar_pairs(("red", "circle"), [("red", "circle"), ("red", "cross"), ("blue", "circle"), ("blue", "cross")])
    [('red', 'cross'), ('blue', 'circle')]
    """
    return [other for other in pool if (other[0] == pair[0]) != (other[1] == pair[1])]


@dataclass(frozen=True)
class CountingImages:
    """One to `most` items in a picture, and two questions about their number."""

    splits: ClassVar[tuple[str, ...]] = SPLITS
    most: int = field(default=4, metadata={"help": "Largest number of items in a picture."})
    distractors: int = field(
        default=2,
        metadata={"help": "So many of the items not asked for, where there are, share colour or shape with those."},
    )
    overlap: float = field(default=0.0, metadata={"help": "Largest IoU of two items' boxes, in [0, 1)."})
    size: int = field(default=112, metadata={"help": "Side of a picture in pixels."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        number = int(rng.integers(1, self.most + 1))
        target, count = self._pick(rng, pairs(split)), int(rng.integers(0, number + 1))
        items_to_draw = [target] * count + self._others(rng, target, number - count, pairs(split))
        sizes = self._sizes(rng, number)
        kinds = [Kind(*pair, size) for pair, size in zip(rng.permutation(items_to_draw).tolist(), sizes, strict=True)]
        image, items = random_scene(rng, kinds, self.size, self.overlap)
        names = [str(item.kind) for item in sorted(items, key=lambda item: item.box)]
        questions = (
            TaskQuestion(COUNT_ALL_QUESTION, str(number), {"kind": "all", "items": names}),
            TaskQuestion(kind_question(target), str(count), {"kind": "one", "items": names}),
        )
        return DrawnExample((image,), questions)

    def _others(self, rng: np.random.Generator, target: Pair, number: int, pool: Sequence[Pair]) -> list[Pair]:
        alike = similar_pairs(target, pool)
        unlike = [pair for pair in pool if pair != target and pair not in alike]
        return [self._pick(rng, alike if k < self.distractors else unlike) for k in range(number)]

    @staticmethod
    def _sizes(rng: np.random.Generator, number: int) -> list[str]:
        """Random sizes with at most `MOST_LARGE` large ones, since more do not fit."""
        drawn = [list(SIZES)[rng.integers(len(SIZES))] for _ in range(number)]
        return [size if drawn[:k].count("large") < MOST_LARGE else "small" for k, size in enumerate(drawn)]

    @staticmethod
    def _pick(rng: np.random.Generator, pool: Sequence[Pair]) -> Pair:
        return pool[rng.integers(len(pool))]


COUNTING = Task(
    name="counting",
    method="default",
    prompts={
        "think": "{question}  Output the thinking process in <think> </think> and final answer (number) in <answer> "
        "</answer> tags.",
        "direct": "{question} Output the final answer (number) in <answer> </answer> tags.",
    },
    generator=CountingImages,
)
