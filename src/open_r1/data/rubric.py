"""Rubrics of a judge: how a row, or a file, says what an answer is worth. (torch-free)

A text tells the judge when an answer is right. A list of criteria, each with points, makes a score from 0 to 1:

    "rubric": "Right if it names the breed; the colour does not matter."
    "rubric": [{"criterion": "names the breed", "points": 2}, {"criterion": "invents a second dog", "points": -1}]
    "rubric": ["names the breed", "names the colour"]
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from open_r1.errors import DataError, data_error, shorten

FIELD = "rubric"
MAX_RUBRIC_CHARS = 8_000  # of a rubric
MAX_CRITERIA = 24
_FORM = 'a text, or a list of criteria such as {"criterion": "names the breed", "points": 2}'


@dataclass(frozen=True)
class Criterion:
    """What an answer may meet, and the points that it then gets; below 0 for a fault."""

    text: str
    points: float = 1.0


@dataclass(frozen=True)
class Rubric:
    """A text that says when an answer is right, or criteria with points."""

    text: str = ""
    criteria: tuple[Criterion, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Its text, or those of its criteria."""
        return tuple(each.text for each in self.criteria) or (self.text,)

    def score(self, met: Sequence[bool]) -> float:
        """The score in [0, 1] of an answer that meets these criteria: its points over all points above 0. Of a text,
        `met` has the one verdict.

        >>> rubric = Rubric(criteria=(Criterion("breed", 2), Criterion("colour"), Criterion("second dog", -1)))
        >>> rubric.score([True, True, False]), rubric.score([False, True, True]), Rubric("...").score([True])
        (1.0, 0.0, 1.0)
        """
        points = [criterion.points for criterion in self.criteria] or [1.0]
        earned = sum(point for point, is_met in zip(points, met, strict=True) if is_met)
        return min(max(earned / sum(point for point in points if point > 0), 0.0), 1.0)


def read_rubric(value: Any, where: str, name: str = FIELD) -> Rubric:
    """The rubric that a row or a file holds. Raises DataError (field `name`) for anything else.

    >>> read_rubric(["names the breed"], "a.jsonl:3").criteria
    (Criterion(text='names the breed', points=1.0),)
    """
    if isinstance(value, str) and value.strip():
        _check_length(value, where, name)
        return Rubric(text=value.strip())
    if not isinstance(value, list) or not value:
        raise data_error(where, name, shorten(value), _FORM, "write one of the two, or remove the field")
    if len(value) > MAX_CRITERIA:
        raise data_error(where, name, f"{len(value)} criteria", f"at most {MAX_CRITERIA}", "join some")
    criteria = tuple(_criterion(each, where, f"{name}[{number}]") for number, each in enumerate(value))
    _check_length("".join(each.text for each in criteria), where, name)
    if not any(each.points > 0 for each in criteria):
        raise data_error(where, name, "no points above 0", "a criterion that earns some", "give one points above 0")
    return Rubric(criteria=criteria)


def rubric_problems(row: dict, where: str) -> Sequence[Any]:
    """The problems of a row's rubric; empty where it has none, or a good one."""
    try:
        if row.get(FIELD) is not None:
            read_rubric(row[FIELD], where)
    except DataError as error:
        return error.problems
    return ()


def _criterion(value: Any, where: str, name: str) -> Criterion:
    """A criterion of a list: a text, worth 1 point, or an object with both."""
    fields = {"criterion": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not {"criterion"} <= set(fields) <= {"criterion", "points"}:
        raise data_error(where, name, shorten(value), _FORM, "write each criterion so")
    text, points = fields["criterion"], fields.get("points", 1)
    if not isinstance(text, str) or not text.strip():
        raise data_error(where, f"{name}.criterion", shorten(text), "a text", "say what an answer must do")
    is_number = isinstance(points, int | float) and not isinstance(points, bool)
    if not is_number or not math.isfinite(points) or points == 0:
        raise data_error(where, f"{name}.points", shorten(points), "a number other than 0", "give it its points")
    return Criterion(text.strip(), float(points))


def _check_length(text: str, where: str, name: str) -> None:
    if len(text) > MAX_RUBRIC_CHARS:
        raise data_error(where, name, f"{len(text)} characters", f"at most {MAX_RUBRIC_CHARS}", "shorten the rubric")
