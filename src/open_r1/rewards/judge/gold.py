"""Which rows of a judge a verifiable method could grade: advice of the doctor. (torch-free)

Such a method is exact, costs nothing and cannot be talked to; the judge is for what none can grade.
"""

from collections import Counter
from dataclasses import dataclass, field

from open_r1.data.record import Record
from open_r1.data.rubric import FIELD
from open_r1.rewards.base import gold_text
from open_r1.rewards.judge.settings import unknown_variables
from open_r1.rewards.math import is_math
from open_r1.rewards.multiple_choice import is_option
from open_r1.rewards.parsing.boxes import stated_boxes
from open_r1.rewards.parsing.points import last_point
from open_r1.rewards.parsing.yes_no import says_only
from open_r1.rewards.text_distance import has_accepted_texts

MIN_SHARE = 0.1  # of the rows of a judge, from which on the doctor speaks
ALIKE = ("rubrics", "criteria", "judge_rubric", "grading_criteria", "rubric_text")


def verifiable_method(record: Record) -> str | None:
    """The accuracy method that can grade a row of the judge; None where only its words can be compared.

    Raises DataError for a blank gold.

    >>> [verifiable_method(Record("1", (), "", (), gold)) for gold in ("(B)", "No", "3/4", "[1, 2, 30, 40]", "a cat")]
    ['mcq', 'yes_no', 'math', 'rec', None]
    """
    if record.extra.get(FIELD) is not None:
        return None
    gold = gold_text(record)
    if is_option(gold, record):
        return "mcq"
    if says_only(gold):
        return "yes_no"
    if has_accepted_texts(record):
        return "anls"
    if boxes := stated_boxes(gold):
        return "rec" if len(boxes) == 1 else "od_ap"
    if "click" in gold and last_point(gold):
        return "point_in_box"
    return "math" if is_math(gold) else None


@dataclass
class JudgedRows:
    """Counts over the rows whose method is `llm`, for the doctor."""

    rows: int = 0
    rubrics: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)  # fields that look like the rubric and are not read

    def add(self, record: Record) -> None:
        """Counts one sound row; rows of other methods are left alone."""
        if record.accu_reward_method != "llm":
            return
        self.rows += 1
        self.rubrics += record.extra.get(FIELD) is not None
        self.alike.update(name for name in ALIKE if name in record.extra)
        if method := verifiable_method(record):
            self.methods[method] += 1

    def hints(self) -> tuple[str, ...]:
        """What is to be said of them, in sentences."""
        said = unknown_variables() if self.rows else []
        if self.rubrics:
            said.append(f"{self.rubrics} of {self.rows} rows judged by llm have a {FIELD!r} of their own")
        for name, count in self.alike.items():
            said.append(
                f"{count} rows judged by llm have a field {name!r}, which is not read; the judge reads {FIELD!r}"
            )
        if self.methods.total() > MIN_SHARE * self.rows:
            kinds = ", ".join(f"{name} {count}" for name, count in self.methods.most_common())
            said.append(
                f"{self.methods.total()} of {self.rows} rows judged by llm have a gold that a verifiable method "
                f"grades ({kinds}): name it as their accu_reward_method; it is exact, free, and cannot be talked to"
            )
        return tuple(said)
