"""The task `mixture`: rows as people have them, most hopeless or trivial for `assets/tiny-vlm` from start to end.

    python local_scripts/make_dataset.py mixture --out data/mixture --rows 4000 --heldout_rows 1024

It measures ways of choosing rows (`local_scripts/dev/benchmarks/bench_row_choice.py`). Nothing in a row's text or
picture names its part; the field `part` does, for measuring:

- hopeless: coded messages, which the model cannot read, and lists of digits with another picture's answer, as in data
  with wrong labels;
- trivial: one digit, by a method that takes each of the model's ways of writing it;
- learnable: two or three digits, listed or added, which the model reads and answers as asked in a part of its samples.

Only accuracy is paid, so that a group of a hopeless or trivial row has no spread.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

import numpy as np

from open_r1.tasks.decode_words import CodedWords
from open_r1.tasks.digits import DIGITS, DigitImages
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

MIXED_PARTS = ("hopeless", "trivial", "learnable")
LIST, SUM = 0, 1  # the questions of an example of digits
EXAMPLES_OF_ROW = 10_000  # of one row: examples of digits between two rows' own


@dataclass(frozen=True)
class MixedRows:
    """One question a picture, of a part drawn by the shares."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    hopeless: float = field(default=0.60, metadata={"help": "Share of rows that the tiny model never gets right."})
    trivial: float = field(default=0.25, metadata={"help": "Share of rows that it gets right from the start."})

    def __post_init__(self) -> None:
        if not (self.hopeless >= 0 and self.trivial >= 0 and self.hopeless + self.trivial <= 1):
            raise ValueError(
                f"got hopeless {self.hopeless:g} and trivial {self.trivial:g}, expected shares of at most 1 in all"
            )

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        shares = (self.hopeless, self.trivial, max(0.0, 1 - self.hopeless - self.trivial))
        part = MIXED_PARTS[rng.choice(3, p=shares)]
        if part == "hopeless" and rng.random() < 0.5:
            coded = CodedWords(alphabet=6, size=84, dark=True).example(seed, split, index)
            return one_row(coded, coded.questions[0].question, coded.questions[0].answer, part, "coded", "default")
        if part == "trivial":
            drawn = digits_of(seed, split, index, counts=(1,))
            question = drawn.questions[rng.integers(2)]
            return one_row(drawn, question.question, question.answer, part, "one_digit", "default")
        drawn = digits_of(seed, split, index, counts=(3,) if part == "hopeless" else (2, 3))
        if part == "hopeless":
            answer = wrong_list(rng, drawn.questions[LIST].extra["digits"])
            return one_row(drawn, drawn.questions[LIST].question, answer, part, "wrong_label", "digits")
        kind = (LIST, SUM)[rng.integers(2)]
        question = drawn.questions[kind]
        return one_row(drawn, question.question, question.answer, part, ("list", "sum")[kind], "digits")


def digits_of(seed: int, split: str, index: int, counts: tuple[int, ...]) -> DrawnExample:
    """The first example of digits of a row's own range that has one of these numbers of digits."""
    drawn = (DigitImages().example(seed, split, index * EXAMPLES_OF_ROW + k) for k in count())
    return next(example for example in drawn if len(example.questions[0].extra["digits"]) in counts)


def wrong_list(rng: np.random.Generator, digits: list[int]) -> str:
    """A sorted list of three digits, none of which is in the picture."""
    others = [digit for digit in range(10) if digit not in digits]
    return str(sorted(rng.choice(others, size=3).tolist()))


def one_row(example: DrawnExample, question: str, answer: str, part: str, kind: str, method: str) -> DrawnExample:
    """A row of a mixture: `method` checks it, `part` and `kind` are for measuring."""
    extra = {"part": part, "kind": kind, "accu_reward_method": method}
    return DrawnExample(example.images, (TaskQuestion(question, answer, extra),))


MIXTURE = Task(
    name="mixture",
    method="digits",
    prompts=DIGITS.prompts,
    rewards=("accuracy",),
    weights=(1.0,),
    generator=MixedRows,
)
