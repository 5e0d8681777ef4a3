"""Rewards under TRL's batch contract: own ones and users', each in worker processes that a completion cannot hang.

What cannot leave the training process stays in it: the judge, and users' functions that need what is there.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.rewards import judge
from open_r1.rewards.custom import TRAINER_ARGUMENTS, load_reward, parameter_names, user_file
from open_r1.rewards.grading import (
    Grade,
    GradingRow,
    Job,
    batch_in_worker,
    grade_batch,
    grade_in_threads,
    grade_in_workers,
)
from open_r1.rewards.registry import MINIMA, is_remote
from open_r1.rewards.sandbox import math_verify as pool
from open_r1.rewards.sandbox import worker_pool as workers

CompletionMessages = str | list[dict[str, Any]]
IN_PROCESS = "--rewards_in_process true computes it in the training process, without deadline and memory limit"

logger = logging.getLogger(__name__)
_warned: set[str] = set()


class RewardError(RuntimeError):
    """A reward raised, or returned what is no reward; the message says which reward and which row."""


@dataclass(frozen=True)
class Bounds:
    """What a user's reward may take, and what happens where it raises; see the flags of these names.

    `seconds` are for one call, `memory_gb` (10^9 bytes) for a worker beyond what loading the user's file took.
    """

    seconds: float = 30.0
    memory_gb: float = 4.0
    in_process: bool = False
    errors: str = "stop"


@dataclass(frozen=True)
class BatchReward:
    """A reward as TRL calls it, by its name as `load_reward` takes it: that is how a worker finds it too."""

    name: str
    bounds: Bounds = Bounds()

    @cached_property
    def fn(self) -> Callable[..., Any]:
        """A `Reward`, one that also takes `images`, or one of TRL's own signature."""
        return load_reward(self.name)

    @property
    def __name__(self) -> str:
        """What curves and logs call it: of a user's file the function alone."""
        return self.name.rpartition(":")[2]

    @property
    def here(self) -> bool:
        """A user's function that needs the training process: by its flag, or for what TRL hands to it."""
        return not self.own and (self.bounds.in_process or bool(parameter_names(self.fn) & TRAINER_ARGUMENTS))

    @property
    def own(self) -> bool:
        return self.name in MINIMA

    def start(self) -> None:
        """Start the workers, before CUDA does. Raises UsageError where they cannot load the user's file."""
        if self.own:
            pool.warm_up()
        elif not self.here:
            try:
                workers.call(self._job.crew, self.bounds.seconds, load_reward, self.name)
            except (RuntimeError, workers.Lost) as error:
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

        Raises RewardError, with the row's place where one row is at fault.
        """
        wanted = parameter_names(self.fn)
        batch = f"{record[0].where} and {len(record) - 1} more" if record else "an empty batch"
        try:
            if "completions" in wanted:
                columns = {"prompts": prompts, "completion_ids": completion_ids, "images": images, **_columns(record)}
                grades = self._batch({**kwargs, **columns, "completions": completions}, record, wanted)
            else:
                pictures = images or [None] * len(record)
                extra = [(seen,) if "images" in wanted else () for seen in pictures]
                grades = self._rows(list(zip(map(completion_text, completions), record, extra, strict=True)))
        except workers.WorkerError as error:
            raise RewardError(
                f"{batch}: reward {self.name}: {error}{'' if self.own else chr(10) + IN_PROCESS}"
            ) from error
        whole = "completions" in wanted and len(set(grades)) == 1
        places = [batch if whole else row.where for row in record]
        return [self._value(grade, place) for grade, place in zip(grades, places, strict=True)]

    @property
    def _job(self) -> Job:
        if self.own:
            return Job(self.name, workers.OWN_REWARDS, pool.deadline(), MINIMA[self.name])
        crew = workers.Crew(user_file(self.name)[0], self.bounds.memory_gb * 1e9)
        return Job(self.name, crew, self.bounds.seconds, lambda record: float(getattr(self.fn, "minimum", 0.0)))

    def _rows(self, rows: Sequence[GradingRow]) -> list[Grade]:
        if self.here:
            return grade_in_threads(self.fn, rows)
        if not self.own:
            return grade_in_workers(self._job, rows)
        keys = [(text, id(record)) for text, record, _ in rows]
        unique = dict(zip(keys, rows, strict=True))  # what a group says twice is graded once
        remote = {key: row for key, row in unique.items() if is_remote(self.name, row[1])}
        local = {key: row for key, row in unique.items() if key not in remote}
        grades = dict(zip(local, grade_in_workers(self._job, list(local.values())), strict=True))
        grades |= zip(remote, grade_in_threads(self.fn, list(remote.values())), strict=True)
        return [grades[key] for key in keys]

    def _batch(self, columns: dict[str, Any], record: Sequence[Record], wanted: set[str]) -> list[Grade]:
        given = columns if "**" in wanted else {key: columns[key] for key in columns if key in wanted}
        if self.here:
            return grade_batch(self.fn, given)
        sent = {key: value for key, value in given.items() if key not in TRAINER_ARGUMENTS}
        return batch_in_worker(self._job, sent, record)

    def _value(self, grade: Grade, place: str) -> float | None:
        if grade.error is None:
            return grade.value
        message = f"{place}: reward {self.name}: {grade.error}"
        if self.own or self.bounds.errors == "stop":
            raise RewardError(message)
        workers.count("errors")
        if self.name not in _warned:
            _warned.add(self.name)
            logger.warning("%s\nIt scores None, as --reward_errors skip asks; more are counted, not shown", message)
        return None


def lost_gradings() -> dict[str, float]:
    """Gradings without a verdict in this process so far, as metrics of a run; none of a kind that had none yet."""
    counts = {"grading": workers.grading_counts(), "judge": judge.judge_counts()}
    return {
        f"{kind}/{name}": float(count)
        for kind, stats in counts.items()
        if any(stats.values())
        for name, count in stats.items()
    }


def completion_text(completion: CompletionMessages) -> str:
    """The text of a completion: itself, or the contents of its chat messages one after another.

    >>> completion_text("a"), completion_text([{"role": "assistant", "content": "b"}])
    ('a', 'b')
    """
    if isinstance(completion, str):
        return completion
    contents = [message["content"] or "" for message in completion]
    return "".join(
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        for content in contents
    )


def _columns(record: Sequence[Record]) -> dict[str, list]:
    """Records as TRL's columns: `solution` and every extra field that any of them has, None where one has not."""
    names = dict.fromkeys(name for row in record for name in row.extra)
    columns = {name: [row.extra.get(name) for row in record] for name in names}
    return {**columns, "record": list(record), "solution": [row.solution for row in record]}
