"""Grades rows in worker processes: a few calls for a batch, row by row where a row blocks or kills its worker.

The same code grades in the training process where a reward must run there. Errors are passed as text, since a user's
own exception class may be unknown in the other process.
"""

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import UsageError, shorten
from open_r1.rewards.base import UnusableReward
from open_r1.rewards.custom import MAX_REWARD, TRAINER_ARGUMENTS, load_reward
from open_r1.rewards.registry import REWARDS
from open_r1.rewards.sandbox.worker_pool import WORKERS, LostCall, WorkerKind, call_in_worker, count_lost, in_worker

BATCH_SECONDS = 1.0  # a worker returns its grades after this, so a call of many rows takes hardly longer than of one

GradingRow = tuple[str, Record, dict[str, Any]]  # text of a completion, its record, what else the reward takes
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
    """The grade of one completion; a user's function gets copies, so that it changes no other row's and reward's."""
    text, record, extra = row if fn in REWARDS.values() else deepcopy(row)
    try:
        return grade_of(fn(text, record, **extra))
    except (Exception, SystemExit) as error:
        return Grade(error=error_with_traceback(error))


def grade_batch(fn: Callable[..., Any] | str, columns: dict[str, Any]) -> list[Grade]:
    """The grades of all `columns["completions"]` by a function of TRL's signature, or by the reward of this name.

    The function gets copies of all columns but those of the trainer.
    """
    number = len(columns["completions"])
    shared = {key: value for key, value in columns.items() if key in TRAINER_ARGUMENTS}
    try:
        own = deepcopy({key: value for key, value in columns.items() if key not in shared})
        returned = (load_reward(fn) if isinstance(fn, str) else fn)(**own, **shared)
        values = batch_values(returned, number)
    except (Exception, SystemExit) as error:
        return [Grade(error=error_with_traceback(error))] * number
    return [grade_of(value) for value in values]


def batch_values(returned: Any, number: int) -> list[Any]:
    """What a batch reward returned, as a list of `number` values. Raises UnusableReward for anything else."""
    expected = f"expected a list of {number} values, one for each completion"
    if isinstance(returned, (str, bytes, Mapping, Set)):
        raise UnusableReward(f"returned the {type(returned).__name__} {shorten(returned)}, {expected}")
    try:
        values = list(returned)
    except TypeError:  # a number, a tensor without dimensions, a coroutine
        raise UnusableReward(f"returned {shorten(returned)}, {expected}") from None
    if len(values) != number:
        raise UnusableReward(f"returned {len(values)} values, {expected}")
    return values


def grade_of(value: Any) -> Grade:
    """The Grade of what a reward returned; an error for anything but None or a number of at most MAX_REWARD in size.

    >>> grade_of(1), grade_of(-0.0), grade_of(None)
    (Grade(value=1.0, error=None), Grade(value=0.0, error=None), Grade(value=None, error=None))
    >>> grade_of("1").error
    "returned '1', expected a number from -1e+06 to 1e+06, or None"
    """
    if value is None:
        return Grade()
    number = number_of(value)
    if abs(number) <= MAX_REWARD:
        return Grade(number + 0.0)  # -0.0 becomes 0.0
    bounds = f"from {-MAX_REWARD:g} to {MAX_REWARD:g}"
    return Grade(error=f"returned {shorten(value)}, expected a number {bounds}, or None")


def number_of(value: Any) -> float:
    """A value as a number; NaN for texts and all that is no single number."""
    try:
        return math.nan if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") else float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf
    except Exception:  # a tensor of several numbers, or what a user's own `__float__` raises
        return math.nan


def error_with_traceback(error: BaseException) -> str:
    """The text of an error, with the traceback from the reward's own frame on for other errors than UsageError.

    In a worker that is out of memory it raises the error again, which ends the worker.
    """
    if isinstance(error, MemoryError) and in_worker():
        raise error
    if isinstance(error, UnusableReward):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, UsageError):
        return text
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return f"{text}\n{''.join(traceback.format_exception(type(error), error, frames)).rstrip()}"
