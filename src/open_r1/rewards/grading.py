"""Rows graded in workers: a few calls for a batch, and row by row where one of them keeps or kills its worker.

The same code grades in the training process what cannot leave it. A grade says what came of a row; what a reward
raised travels as text, since the exception of a user's own class need not be known on the other side.
"""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import UsageError, shorten
from open_r1.rewards.custom import load_reward
from open_r1.rewards.sandbox.worker_pool import WORKERS, Crew, Lost, call, count, inside

AT_ONCE_SECONDS = (
    1.0  # after which a worker hands back what it has: a call of many rows takes hardly longer than one's
)

GradingRow = tuple[str, Record, tuple]  # a completion's text, its record, what else the reward takes
Minimum = Callable[[Record], float]


@dataclass(frozen=True)
class Grade:
    """A value (None: does not apply), or else why there is none: what was raised, with its traceback."""

    value: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """A reward in workers: its name, who computes it, the seconds that a call may take, what a lost row scores."""

    name: str
    crew: Crew
    seconds: float
    minimum: Minimum


def grade_in_workers(job: Job, rows: Sequence[GradingRow]) -> list[Grade]:
    """A grade for each row; one that is over the deadline or kills its worker scores the minimum, and is counted."""
    if not rows:
        return []
    size = math.ceil(len(rows) / WORKERS)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(len(parts)) as threads:  # they wait for the workers
        return list(chain.from_iterable(threads.map(partial(_part, job), parts)))


def _part(job: Job, rows: Sequence[GradingRow]) -> list[Grade]:
    grades: list[Grade] = []
    while len(rest := rows[len(grades) :]) > 1:
        try:
            grades += call(job.crew, job.seconds + AT_ONCE_SECONDS, grade_some, job.name, rest)
        except Lost:  # by which row?
            grades += [_alone(job, row) for row in rest]
    return grades + [_alone(job, row) for row in rest]


def _alone(job: Job, row: GradingRow) -> Grade:
    try:
        return call(job.crew, job.seconds, grade_some, job.name, [row])[0]
    except Lost as lost:
        count(lost.how)
        return Grade(job.minimum(row[1]))


def batch_in_worker(job: Job, columns: dict[str, Any], records: Sequence[Record]) -> list[Grade]:
    """The grades of a function of TRL's signature, one call for all rows; all score the minimum where it is lost."""
    try:
        return call(job.crew, job.seconds, grade_batch, job.name, columns)
    except Lost as lost:
        count(lost.how, len(records))
        return [Grade(job.minimum(record)) for record in records]


def grade_some(name: str, rows: Sequence[GradingRow]) -> list[Grade]:
    """The grades of the first rows: of all that begin within AT_ONCE_SECONDS."""
    fn, until, grades = load_reward(name), time.monotonic() + AT_ONCE_SECONDS, []
    for row in rows:
        grades.append(grade_row(fn, row))
        if time.monotonic() > until:
            break
    return grades


def grade_in_threads(fn: Callable[..., Any], rows: Sequence[GradingRow]) -> list[Grade]:
    """A grade for each row, in this process: nothing but the reward itself bounds it."""
    with ThreadPoolExecutor(2 * WORKERS) as threads:  # it may wait for another machine
        return list(threads.map(partial(grade_row, fn), rows))


def grade_row(fn: Callable[..., Any], row: GradingRow) -> Grade:
    """What the reward says of one completion."""
    text, record, extra = row
    try:
        return grade_of(fn(text, record, *extra))
    except (Exception, SystemExit) as error:
        return Grade(error=explained(error))


def grade_batch(fn: Callable[..., Any] | str, columns: dict[str, Any]) -> list[Grade]:
    """What a function of TRL's signature, or the one of this name, says of each of `columns["completions"]`."""
    number = len(columns["completions"])
    try:
        values = list((load_reward(fn) if isinstance(fn, str) else fn)(**columns))
        if len(values) == number:
            return [grade_of(value) for value in values]
    except (Exception, SystemExit) as error:
        return [Grade(error=explained(error))] * number
    return [
        Grade(error=f"ValueError: got {len(values)} values, expected one for each of {number} completions")
    ] * number


def grade_of(value: Any) -> Grade:
    """
    >>> grade_of(1), grade_of(None), grade_of("1").error
    (Grade(value=1.0, error=None), Grade(value=None, error=None), \
"ValueError: returned '1', expected a finite number or None")
    """
    if value is None:
        return Grade()
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
        return Grade(error=f"ValueError: returned {shorten(value)}, expected a finite number or None")
    return Grade(float(value))


def explained(error: BaseException) -> str:
    """What was raised, and the traceback from the reward's own frame on where the message does not say it all.

    In a worker that is out of memory it raises the error again, which ends the worker.
    """
    if isinstance(error, MemoryError) and inside():
        raise error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, UsageError):
        return text
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return f"{text}\n{''.join(traceback.format_exception(type(error), error, frames)).rstrip()}"
