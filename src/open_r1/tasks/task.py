"""What a task declares: its prompts, its rewards with weights, the accuracy method that is also its metric, and, where
the task is synthetic, the generator of its examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from open_r1.data.chat import PROMPTS
from open_r1.data.record import Record


@dataclass(frozen=True)
class TaskQuestion:
    """One question about an example's pictures, and its gold answer.

    Pictures stand at the question's `<image>` tags, or first where it has none. `extra` fields reach the rewards.
    """

    question: str
    answer: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnExample:
    """Pictures and what is asked about them; each question becomes a row."""

    images: tuple[Image.Image, ...]
    asked: tuple[TaskQuestion, ...]


class Generator(Protocol):
    """Makes a task's examples: a frozen dataclass whose fields are its options (`local_scripts/make_dataset.py`).

    `splits` begin with "train". Every example of a generator asks the same number of questions.
    """

    splits: ClassVar[tuple[str, ...]]

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        """Example `index` of a split; it depends on the options and (seed, split, index) alone."""


def example_rng(seed: int, splits: tuple[str, ...], split: str, index: int) -> np.random.Generator:
    """The random numbers of one example: no other example's, whatever is drawn before or after it.

    >>> [int(example_rng(0, ("train", "heldout"), split, 3).integers(100)) for split in ("train", "heldout", "train")]
    [72, 12, 72]
    """
    return np.random.default_rng([seed, splits.index(split), index])


def full_score(score: float) -> bool:
    """Right when the accuracy method pays all of its 1.0."""
    return score >= 1.0


@dataclass(frozen=True)
class Task:
    """A recipe's declaration; `--task_type NAME` selects it and flags given by hand win over it.

    `prompts` map `--prompt_mode` to an instruction holding `{question}`. `rewards` and `weights` are parallel and
    name entries of `rewards.registry.REWARDS`. `method` names an entry of `rewards.registry.METHODS`; its score says
    through `is_right` whether an evaluated answer counts, which `metric` says in words. `measures` are what an
    evaluation reports beside it: (completion, record) -> a number, its mean taken over the rows that have one;
    `ratios` are quotients of the sums of two measures, which then have no mean of their own.
    """

    name: str
    method: str
    prompts: Mapping[str, str] = field(default_factory=lambda: dict(PROMPTS))
    rewards: tuple[str, ...] = ("accuracy", "format")
    weights: tuple[float, ...] = (1.0, 1.0)
    is_right: Callable[[float], bool] = full_score
    metric: str = "exact answers"
    measures: Mapping[str, Callable[[str, Record], float | None]] = field(default_factory=dict)
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    generator: type[Generator] | None = None
