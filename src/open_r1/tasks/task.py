"""`Task`, the declaration of a task: prompts, rewards, metric, and the generator of a synthetic task's examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from open_r1.data.chat import PROMPTS
from open_r1.data.record import Record
from open_r1.data.video.types import VideoFrames


@dataclass(frozen=True)
class TaskQuestion:
    """One question about an example's pictures and videos, and its gold answer.

    They stand at the question's `<image>` and `<video>` tags, or first where it has none. The rewards get the `extra`
    fields.
    """

    question: str
    answer: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnExample:
    """Pictures and videos, and the questions about them; each question becomes a row."""

    images: tuple[Image.Image, ...]
    questions: tuple[TaskQuestion, ...]
    videos: tuple[VideoFrames, ...] = ()


class Generator(Protocol):
    """Makes a task's examples: a frozen dataclass whose fields are its options (`local_scripts/make_dataset.py`).

    `splits` begin with "train". All examples of a generator have the same number of questions.
    """

    splits: ClassVar[tuple[str, ...]]

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        """Example `index` of a split; depends only on the options and (seed, split, index)."""


def example_rng(seed: int, splits: tuple[str, ...], split: str, index: int) -> np.random.Generator:
    """The random generator of one example, independent of all other examples.

    >>> [int(example_rng(0, ("train", "heldout"), split, 3).integers(100)) for split in ("train", "heldout", "train")]
    [72, 12, 72]
    """
    return np.random.default_rng([seed, splits.index(split), index])


def full_score(score: float) -> bool:
    """Whether a score of the accuracy method is the full 1.0."""
    return score >= 1.0


@dataclass(frozen=True)
class Task:
    """The declaration of a task; `--task_type NAME` selects it, and flags override it.

    - `method`: the accuracy method, a name in `rewards.registry.METHODS`.
    - `prompts`: for each `--prompt_mode` an instruction that holds `{question}`.
    - `rewards`, `weights`: names in `rewards.registry.REWARDS`, and a weight for each.
    - `is_right`: whether a score of `method` counts as right in an evaluation; `metric` explains it in words.
    - `measures`: further numbers of an evaluation, (completion, record) -> number or None; the mean is reported.
    - `ratios`: quotients of the sums of two measures, which are then not reported themselves.
    - `generator`: makes the examples of a synthetic task.
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
