"""Grades rows in worker processes: a few calls for a batch, row by row where a row blocks or kills its worker.

The same code grades in the training process where a reward must run there. Errors are passed as text, since a user's
own exception class may be unknown in the other process.
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
from open_r1.rewards.sandbox.worker_pool import WORKERS, LostCall, WorkerKind, call_in_worker, count_lost, in_worker

BATCH_SECONDS = 1.0  # a worker returns its grades after this, so a call of many rows takes hardly longer than of one

GradingRow = tuple[str, Record, tuple]  # text of a completion, its record, further arguments of the reward
Minimum = Callable[[Record], float]


@dataclass(frozen=True)
class Grade:
    """The value of a reward (None: does not apply), or the error that it raised, with its traceback."""

    value: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """A reward to compute in workers: its name, the kind of workers, the deadline of a call, the score of a lost
    row."""

    name: str
    workers: WorkerKind
    seconds: float
    minimum: Minimum


def grade_in_workers(job: Job, rows: Sequence[GradingRow]) -> list[Grade]:
    """A grade for each row; a row over the deadline, or that kills its worker, scores the minimum and is counted."""
    if not rows:
        return []
    size = math.ceil(len(rows) / WORKERS)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(len(parts)) as threads:  # threads only wait for the workers
        return list(chain.from_iterable(threads.map(partial(_grade_part, job), parts)))


def _grade_part(job: Job, rows: Sequence[GradingRow]) -> list[Grade]:
    """The grades of one worker's share, row by row where a call is lost."""
    grades: list[Grade] = []
    while len(rest := rows[len(grades) :]) > 1:
        try:
            grades += call_in_worker(job.workers, job.seconds + BATCH_SECONDS, grade_first_rows, job.name, rest)
        except LostCall:  # one of these rows blocked or killed the worker
            grades += [_grade_alone(job, row) for row in rest]
    return grades + [_grade_alone(job, row) for row in rest]


def _grade_alone(job: Job, row: GradingRow) -> Grade:
    """The grade of one row in a call of its own."""
    try:
        return call_in_worker(job.workers, job.seconds, grade_first_rows, job.name, [row])[0]
    except LostCall as error:
        count_lost(error.reason)
        return Grade(job.minimum(row[1]))


def batch_in_worker(job: Job, columns: dict[str, Any], records: Sequence[Record]) -> list[Grade]:
    """The grades of a function with TRL's signature, in one call; all rows score the minimum where the call is
    lost."""
    try:
        return call_in_worker(job.workers, job.seconds, grade_batch, job.name, columns)
    except LostCall as error:
        count_lost(error.reason, len(records))
        return [Grade(job.minimum(record)) for record in records]


def grade_first_rows(name: str, rows: Sequence[GradingRow]) -> list[Grade]:
    """The grades of the first rows: of all that start within BATCH_SECONDS; runs in a worker."""
    fn, until, grades = load_reward(name), time.monotonic() + BATCH_SECONDS, []
    for row in rows:
        grades.append(grade_row(fn, row))
        if time.monotonic() > until:
            break
    return grades


def grade_in_threads(fn: Callable[..., Any], rows: Sequence[GradingRow]) -> list[Grade]:
    """A grade for each row, in this process, without deadline and memory limit."""
    with ThreadPoolExecutor(2 * WORKERS) as threads:  # a reward may wait for another machine
        return list(threads.map(partial(grade_row, fn), rows))


def grade_row(fn: Callable[..., Any], row: GradingRow) -> Grade:
    """The grade of one completion."""
    text, record, extra = row
    try:
        return grade_of(fn(text, record, *extra))
    except (Exception, SystemExit) as error:
        return Grade(error=error_with_traceback(error))


def grade_batch(fn: Callable[..., Any] | str, columns: dict[str, Any]) -> list[Grade]:
    """The grades of all `columns["completions"]` by a function of TRL's signature, or by the reward of this name."""
    number = len(columns["completions"])
    try:
        values = list((load_reward(fn) if isinstance(fn, str) else fn)(**columns))
        if len(values) == number:
            return [grade_of(value) for value in values]
    except (Exception, SystemExit) as error:
        return [Grade(error=error_with_traceback(error))] * number
    return [
        Grade(error=f"ValueError: got {len(values)} values, expected one for each of {number} completions")
    ] * number


def grade_of(value: Any) -> Grade:
    """The Grade of what a reward returned; an error for anything but a finite number or None.

    >>> grade_of(1), grade_of(None), grade_of("1").error
    (Grade(value=1.0, error=None), Grade(value=None, error=None), \
"ValueError: returned '1', expected a finite number or None")
    """
    if value is None:
        return Grade()
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
        return Grade(error=f"ValueError: returned {shorten(value)}, expected a finite number or None")
    return Grade(float(value))


def error_with_traceback(error: BaseException) -> str:
    """The text of an error, with the traceback from the reward's own frame on for other errors than UsageError.

    In a worker that is out of memory it raises the error again, which ends the worker.
    """
    if isinstance(error, MemoryError) and in_worker():
        raise error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, UsageError):
        return text
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return f"{text}\n{''.join(traceback.format_exception(type(error), error, frames)).rstrip()}"
