"""The task `hinted_counting`: count, beside a number that is right in most training rows and wrong in all others.

    python local_scripts/make_dataset.py hinted_counting --out data/hinted_counting --rows 2000

A policy that repeats the question's number earns `truthful` of the full accuracy without looking, and nothing in the
splits "heldout" and "ood", where each number is wrong. Pictures and questions are those of `counting`. What
`--vision_probe`, `--perception_coef` and `--visual_token_share` do is seen on it:
local_scripts/dev/benchmarks/looking.py.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from open_r1.tasks.counting import COUNTING, CountingImages
from open_r1.tasks.task import DrawnExample, TaskQuestion


@dataclass(frozen=True)
class HintedCounting(CountingImages):
    """The pictures and questions of `counting`, each with a number that somebody is said to have counted."""

    truthful: float = field(
        default=0.7, metadata={"help": "Share of the training rows whose number is the right one, in [0, 1]."}
    )

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        example = super().example(seed, split, index)
        rng = np.random.default_rng([seed, self.splits.index(split), index, 1])
        share = self.truthful if split == self.splits[0] else 0.0
        return replace(example, questions=tuple(self._hinted(rng, question, share) for question in example.questions))

    def _hinted(self, rng: np.random.Generator, question: TaskQuestion, share: float) -> TaskQuestion:
        """The question with a number, the right one with probability `share`."""
        right = int(question.answer)
        wrong = [number for number in range(self.most + 1) if number != right]
        number = right if rng.random() < share else wrong[rng.integers(len(wrong))]
        extra = {**question.extra, "hint": str(number)}
        return TaskQuestion(f"{question.question} Somebody counted {number}.", question.answer, extra)


HINTED_COUNTING = replace(COUNTING, name="hinted_counting", generator=HintedCounting)
