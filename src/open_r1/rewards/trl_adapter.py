"""Adapts rewards to TRL's batch interface; each is graded in worker processes with deadlines.

Only the judge, and users' functions that need the training process, are graded in it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import RunEnded, UsageError
from open_r1.rewards.custom import TRAINER_ARGUMENTS, check_reward, load_reward, parameter_names, user_file
from open_r1.rewards.grading import (
    Grade,
    GradingRow,
    Job,
    batch_in_worker,
    grade_batch,
    grade_in_threads,
    grade_in_workers,
)
from open_r1.rewards.judge.group import asked_together
from open_r1.rewards.judge.method import judge_counts
from open_r1.rewards.registry import MINIMA, is_remote
from open_r1.rewards.sandbox import math_verify as verifier
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.rewards.turns import CompletionMessages, completion_text, messages_of

IN_PROCESS = "--rewards_in_process true computes it in the training process, without deadline and memory limit"

logger = logging.getLogger(__name__)
_warned: set[str] = set()


class RewardError(RunEnded):
    """A reward that raised, or returned no number; the message names the reward and the row."""


@dataclass(frozen=True)
class Bounds:
    """The limits of a user's reward, and what follows an error; see the flags `--reward_*`.

    `seconds` are for one call, `memory_gb` (10^9 bytes) for a worker beyond the size of the loaded file.
    """

    seconds: float = 30.0
    memory_gb: float = 4.0
    in_process: bool = False
    errors: str = "stop"


@dataclass(frozen=True)
class BatchReward:
    """A reward with TRL's call signature; `name` as `load_reward` takes it, so that workers can load it too."""

    name: str
    bounds: Bounds = Bounds()

    @cached_property
    def fn(self) -> Callable[..., Any]:
        """The function: a `Reward`, one that also takes `images`, or one of TRL's signature."""
        return load_reward(self.name)

    @property
    def __name__(self) -> str:
        """The name in curves and logs: for a user's file the function's name."""
        return self.name.rpartition(":")[2]

    @property
    def in_training_process(self) -> bool:
        """Whether a user's function runs in the training process: by its flag, or for arguments from TRL."""
        return not self.is_builtin and (self.bounds.in_process or bool(parameter_names(self.fn) & TRAINER_ARGUMENTS))

    @property
    def is_builtin(self) -> bool:
        """Whether the reward is one of this package."""
        return self.name in MINIMA

    def start(self) -> None:
        """Starts the workers, before CUDA starts. Raises UsageError where they cannot load the user's file."""
        if self.is_builtin:
            verifier.warm_up()
        elif not self.in_training_process:
            try:
                workers.call_in_worker(self._job.workers, self.bounds.seconds, check_reward, self.name)
            except (RuntimeError, workers.LostCall) as error:
                raise UsageError(
                    f"reward {self.name}: no worker process can load it: {error}\n{IN_PROCESS}"
                ) from error

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[CompletionMessages],
        completion_ids: Sequence[Any] | None = None,
        record: Sequence[Record] = (),
        images: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """One value, finite or None, for each completion. `completions` are texts or lists of chat messages.

        Raises RewardError, which names the row where one row causes it.
        """
        parameters = parameter_names(self.fn)
        batch = f"{record[0].where} and {len(record) - 1} more" if record else "an empty batch"
        try:
            if "completions" in parameters:
                columns = {"prompts": prompts, "completion_ids": completion_ids, "images": images, **_columns(record)}
                grades = self._grade_batch({**kwargs, **columns, "completions": completions}, record, parameters)
            else:
                optional = {
                    "images": images or [None] * len(record),
                    "trajectory": list(map(messages_of, completions)),
                }
                wanted = [(name, values) for name, values in optional.items() if name in parameters]
                extra = [{name: values[row] for name, values in wanted} for row in range(len(completions))]
                grades = self._grade_rows(list(zip(map(completion_text, completions), record, extra, strict=True)))
        except workers.WorkerError as error:
            raise RewardError(
                f"{batch}: reward {self.name}: {error}{'' if self.is_builtin else chr(10) + IN_PROCESS}"
            ) from error
        is_batch_error = "completions" in parameters and len(set(grades)) == 1
        places = [batch if is_batch_error else row.where for row in record]
        return [self._value(grade, place) for grade, place in zip(grades, places, strict=True)]

    @property
    def _job(self) -> Job:
        """The reward with its workers, deadline and minimum."""
        if self.is_builtin:
            return Job(self.name, workers.OWN_REWARDS, verifier.deadline(), MINIMA[self.name])
        kind = workers.WorkerKind(user_file(self.name)[0], self.bounds.memory_gb * 1e9)
        return Job(self.name, kind, self.bounds.seconds, lambda record: float(getattr(self.fn, "minimum", 0.0)))

    def _grade_rows(self, rows: Sequence[GradingRow]) -> list[Grade]:
        """A grade for each row, in workers, or in this process where the reward must run here."""
        if self.in_training_process:
            return grade_in_threads(self.fn, rows)
        if not self.is_builtin:
            return grade_in_workers(self._job, rows)
        keys = [(text, id(record), repr(extra)) for text, record, extra in rows]
        unique = dict(zip(keys, rows, strict=True))  # equal completions of a group are graded once
        remote = {key: row for key, row in unique.items() if is_remote(self.name, row[1])}
        local = {key: row for key, row in unique.items() if key not in remote}
        grades = dict(zip(local, grade_in_workers(self._job, list(local.values())), strict=True))
        with asked_together([(text, record) for text, record, _ in remote.values()]):
            grades |= zip(remote, grade_in_threads(self.fn, list(remote.values())), strict=True)
        return [grades[key] for key in keys]

    def _grade_batch(self, columns: dict[str, Any], record: Sequence[Record], parameters: set[str]) -> list[Grade]:
        """The grades of a function with TRL's signature."""
        arguments = columns if "**" in parameters else {key: columns[key] for key in columns if key in parameters}
        if self.in_training_process:
            return grade_batch(self.fn, arguments)
        plain = {key: value for key, value in arguments.items() if key not in TRAINER_ARGUMENTS}
        return batch_in_worker(self._job, plain, record)

    def _value(self, grade: Grade, place: str) -> float | None:
        """The value of a grade; raises RewardError for an error, or counts and logs it (--reward_errors skip)."""
        if grade.error is None:
            return grade.value
        message = f"{place}: reward {self.name}: {grade.error}"
        if self.bounds.errors == "stop" or (self.is_builtin and self.name != "environment"):  # it is the user's too
            raise RewardError(message)
        workers.count_lost("errors")
        if self.name not in _warned:
            _warned.add(self.name)
            logger.warning("%s\nIt scores None, as --reward_errors skip asks; more are counted, not shown", message)
        return None


def lost_gradings() -> dict[str, float]:
    """Numbers of gradings without a verdict in this process, as metrics; leaves out a kind without any."""
    return lost_metrics(workers.grading_counts(), judge_counts())


def lost_metrics(of_workers: Mapping[str, int], of_judge: Mapping[str, int]) -> dict[str, float]:
    """`lost_gradings` by the counts of the workers and of the judge, of this process or summed over several.

    >>> lost_metrics({"timeouts": 2, "crashes": 0}, {"failures": 0})
    {'grading/timeouts': 2.0, 'grading/crashes': 0.0}
    """
    counts = {"grading": of_workers, "judge": of_judge}
    return {
        f"{kind}/{name}": float(count)
        for kind, stats in counts.items()
        if any(stats.values())
        for name, count in stats.items()
    }


def _columns(record: Sequence[Record]) -> dict[str, list]:
    """Records as TRL's columns: `solution` and every extra field of any record, None where a record lacks it."""
    names = dict.fromkeys(name for row in record for name in row.extra)
    columns = {name: [row.extra.get(name) for row in record] for name in names}
    return {**columns, "record": list(record), "solution": [row.solution for row in record]}
