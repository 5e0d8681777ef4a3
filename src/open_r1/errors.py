"""Errors for wrong input, as users read them: `file:line: field: got, expected, remedy`, many at once."""

import difflib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

MAX_SHOWN = 50
FEW_ALIKE = 3  # problems that are shown one by one; more of a kind are shown as one
_PART = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d+(?:\.\d+)?")  # what differs among problems of a kind
MAX_PLACES = 8  # rows that a message names
logger = logging.getLogger(__name__)
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


def summarized(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in the order of the first of each kind; over FEW_ALIKE of a kind are one, with number and places.

    Of a kind are those of one file that differ in quoted texts and numbers alone.

    >>> rows = [Problem(f"a.jsonl:{line}", "image", f"'{line}.png'", "a file", "correct it") for line in range(1, 9)]
    >>> print(*summarized(rows))
    a.jsonl:1: image: got '1.png' (and 7 alike, in lines 2, 3, 4, 5, 6, ...), expected a file; correct it
    """
    kinds: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        texts = (problem.field, problem.got, problem.expected, problem.remedy)
        kinds.setdefault((problem.where.rpartition(":")[0], *(_PART.sub("", text) for text in texts)), []).append(
            problem
        )
    shown = [alike if len(alike) <= FEW_ALIKE else [_as_one(alike)] for alike in kinds.values()]
    return [problem for part in shown for problem in part]


def _as_one(alike: Sequence[Problem]) -> Problem:
    first, others = alike[0], alike[1:]
    lines = ", ".join(problem.where.rpartition(":")[2] for problem in others[:5])
    more = ", ..." if len(others) > 5 else ""
    return replace(first, got=f"{first.got} (and {len(others):,} alike, in lines {lines}{more})")


class UsageError(ValueError):
    """A setting that cannot work; the message names what was got, what was expected, and what to set.

    A data loader raises the error of one of its processes again with a report in which the message stands last.
    """

    def __init__(self, message: str = ""):
        name = type(self).__name__
        reported = message.startswith(f"Caught {name} in DataLoader worker")
        super().__init__(message.rpartition(f"{name}: ")[2].strip() if reported else message)


class RunEnded(UsageError):
    """A run that cannot continue; raised on all ranks together, so that they can save a checkpoint."""


class DataError(UsageError):
    """Input that cannot be used, with every `Problem`; the message shows `MAX_SHOWN`, those of a kind as one."""

    def __init__(self, problems: Sequence[Problem] | str):
        self.problems = () if isinstance(problems, str) else tuple(problems)
        if isinstance(problems, str):  # pickled, or reported by a process of a data loader
            super().__init__(problems)
            return
        shown = summarized(self.problems)
        hidden = len(shown) - MAX_SHOWN
        more = f"\n... and {hidden} more" if hidden > 0 else ""
        super().__init__("\n".join(map(str, shown[:MAX_SHOWN])) + more)


class RowFailed(UsageError):
    """Code that works on rows raised an error of its own; the message names the rows, the log has the traceback."""


@contextmanager
def row_errors(places: Sequence[str], work: str) -> Iterator[None]:
    """Raises RowFailed, which names the rows at `places`, for whatever is raised within, but for a UsageError.

    StopIteration would end an epoch as if the data were at its end, and SystemExit a run as if it were done.

    >>> with row_errors(["a.jsonl:7"], "prompt"):
    ...     raise StopIteration
    Traceback (most recent call last):
    open_r1.errors.RowFailed: a.jsonl:7: prompt: got StopIteration, expected no error; remove the row, or mend what \
raised it: the traceback is in the log
    """
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        where = ", ".join(places[:MAX_PLACES]) + (f" and {len(places) - MAX_PLACES} more" * (len(places) > MAX_PLACES))
        logger.error("%s: %s failed", where, work, exc_info=error)
        got = ": ".join(filter(None, (type(error).__name__, str(error))))
        remedy = f"remove the row{'s' * (len(places) > 1)}, or mend what raised it: the traceback is in the log"
        raise RowFailed(f"{where}: {work}: got {got}, expected no error; {remedy}") from error


def shorten(value: object, limit: int = 80) -> str:
    """`repr` of a value for a message, at most `limit` characters, cut in the middle; its type where it has none.

    >>> shorten("a" * 200, 20), shorten(10**5000)
    ("'aaaaaaaa...aaaaaaaa'", 'a value of type int')
    """
    try:
        text = repr(value)
    except Exception:  # an integer of thousands of digits, or a user's own `__repr__`
        text = f"a value of type {type(value).__name__}"
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


def nothing_trained(error: UsageError) -> str:
    """The line behind the reason why a run did not begin; the data's examination is offered where data are at fault.

    >>> nothing_trained(UsageError("no chat template"))
    'Nothing was trained.'
    """
    of_data = isinstance(error, (DataError, RowFailed))
    return "Nothing was trained." + " `python -m open_r1.check` examines the whole dataset." * of_data


def last_words(text: str) -> str:
    """`text`, the reason of a run's end, which torchrun is told as well: it shows it after its own report.

    It goes into the file that torchrun names for this rank ($TORCHELASTIC_ERROR_FILE), if it started one.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        reason = {"message": text.strip(), "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": reason}), encoding="utf-8")
    return text
