"""Errors for wrong input, as users read them: `file:line: field: got, expected, remedy`, many at once."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

MAX_SHOWN = 50
_T = TypeVar("_T")


@dataclass(frozen=True)
class Problem:
    """One defect of the input.

    >>> print(Problem("train.jsonl:17", "image", "'cat.jpg'", "an existing file under /data", "fix the path"))
    train.jsonl:17: image: got 'cat.jpg', expected an existing file under /data; fix the path
    """

    where: str  # "train.jsonl:17", or a flag or a file name where there is no line
    field: str
    got: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: got {self.got}, expected {self.expected}; {self.remedy}"


class UsageError(ValueError):
    """A setting that cannot work; the message names what was got, what was expected, and what to set."""


class RunEnded(UsageError):
    """A run that cannot continue; raised on all ranks together, so that they can save a checkpoint."""


class DataError(UsageError):
    """Input that cannot be used, with every `Problem` found; the message shows the first `MAX_SHOWN`."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems[:MAX_SHOWN])) + self._rest())

    def _rest(self) -> str:
        hidden = len(self.problems) - MAX_SHOWN
        return f"\n... and {hidden} more" if hidden > 0 else ""


def shorten(value: object, limit: int = 80) -> str:
    """`repr` of a value for a message, at most `limit` characters, cut in the middle.

    >>> shorten("a" * 200, 20)
    "'aaaaaaaa...aaaaaaaa'"
    """
    text = repr(value)
    half = (limit - 3) // 2 + 1
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def data_error(where: str, name: str, got: str, expected: str, remedy: str) -> DataError:
    """A DataError of one problem."""
    return DataError([Problem(where, name, got, expected, remedy)])


def look_up(name: str, table: Mapping[str, _T], kind: str) -> _T:
    """`table[name]`; raises ValueError that names all entries and the nearest one.

    >>> look_up("formt", {"accuracy": 1, "format": 2}, "reward")
    Traceback (most recent call last):
    ValueError: reward: got 'formt', expected one of accuracy, format; did you mean 'format'?
    """
    if name in table:
        return table[name]
    raise ValueError(f"{kind}: got {name!r}, expected one of {', '.join(table)}; {nearest_hint(name, table)}")


def nearest_hint(name: str, table: Mapping[str, object]) -> str:
    """The remedy for an unknown name: the nearest name of the table."""
    nearest = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else "correct the name"
