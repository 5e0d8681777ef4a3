"""Rewards under TRL's batch contract: own rewards graded in parallel, users' files in either signature."""

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from open_r1.rewards import REWARDS, judge, known, pool
from open_r1.rewards.pool import WORKERS
from open_r1.rows import Record

SIGNATURES = (
    "(completion: str, record: Record[, images]) -> float | None for one completion, "
    "or TRL's (completions, **columns) -> list of float | None"
)
Completion = str | list[dict[str, Any]]


class RewardError(RuntimeError):
    """A reward raised, or returned what is no reward; the message says which reward and which row."""


@dataclass(frozen=True)
class BatchReward:
    """A reward as TRL calls it. `fn` is a `Reward`, one that also takes `images`, or has TRL's own signature."""

    name: str
    fn: Callable[..., Any]

    @property
    def __name__(self) -> str:
        """What curves and logs call it: of a user's file the function alone."""
        return self.name.rpartition(":")[2]

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        completion_ids: Sequence[Any] | None = None,
        record: Sequence[Record] = (),
        images: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """One value, finite or None, for each completion. `completions` are texts or lists of chat messages.

        Raises RewardError, with the row's place where one row is at fault.
        """
        parameters = _parameters(self.fn)
        if "completions" in parameters:
            columns = {"prompts": prompts, "completion_ids": completion_ids, "images": images, **_columns(record)}
            return self._batch(completions, record, {**kwargs, **columns}, parameters)
        extra = (
            [(pictures,) for pictures in images or [None] * len(record)]
            if "images" in parameters
            else [()] * len(record)
        )
        rows = list(zip(map(completion_text, completions), record, extra, strict=True))
        with ThreadPoolExecutor(2 * WORKERS) as threads:  # they wait for the grading workers
            values = list(threads.map(self._one, rows))
        for name, count in lost_gradings().items() if "log_metric" in kwargs else ():
            kwargs["log_metric"](name, count)
        return values

    def _one(self, row: tuple[str, Record, tuple]) -> float | None:
        text, record, extra = row
        try:
            return _checked(self.fn(text, record, *extra))
        except Exception as error:
            raise RewardError(f"{record.where}: reward {self.name}: {type(error).__name__}: {error}") from error

    def _batch(
        self,
        completions: Sequence[Completion],
        record: Sequence[Record],
        columns: dict[str, Any],
        parameters: set[str],
    ) -> list[float | None]:
        wanted = columns if "**" in parameters else {key: columns[key] for key in columns if key in parameters}
        place = f"{record[0].where} and {len(record) - 1} more" if record else "an empty batch"
        try:
            values = list(self.fn(completions=completions, **wanted))
            if len(values) != len(completions):
                raise ValueError(f"got {len(values)} values, expected one for each of {len(completions)} completions")
            return [_checked(value) for value in values]
        except Exception as error:
            raise RewardError(f"{place}: reward {self.name}: {type(error).__name__}: {error}") from error


def lost_gradings() -> dict[str, float]:
    """Gradings without a verdict in this process so far, as metrics of a run; none of a kind that had none yet."""
    counts = {"grading": pool.stats(), "judge": judge.stats()}
    return {
        f"{kind}/{name}": float(count)
        for kind, stats in counts.items()
        if any(stats.values())
        for name, count in stats.items()
    }


def completion_text(completion: Completion) -> str:
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


def load_reward(name_or_path: str) -> Callable[..., Any]:
    """A reward by name, or `path/to/file.py:function` of a user.

    Raises ValueError for an unknown name, a file without the function, or a function of another signature (see
    SIGNATURES), and FileNotFoundError.

    >>> load_reward("format").__name__
    'format_reward'
    """
    path, colon, function = name_or_path.rpartition(":")
    if not colon or not path.endswith(".py"):
        if name_or_path.endswith(".py"):
            raise ValueError(f"reward: got {name_or_path!r}, expected {name_or_path}:function")
        return known(name_or_path, REWARDS, "reward")
    fn = getattr(_import_file(Path(path)), function, None)
    if not callable(fn):
        raise ValueError(f"reward {name_or_path}: {path} has no function {function!r}")
    parameters = _parameters(fn)
    if "completions" in parameters or {"completion", "record"} <= parameters:
        return fn
    raise ValueError(f"reward {name_or_path}: got {function}{inspect.signature(fn)}, expected {SIGNATURES}")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"reward file: got {path}, expected a Python file; correct the path")
    spec = importlib.util.spec_from_file_location(f"user_reward_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look modules up there
    spec.loader.exec_module(module)
    return module


def _parameters(fn: Callable[..., Any]) -> set[str]:
    """Parameter names, and "**" where the function takes any keyword."""
    parameters = inspect.signature(fn).parameters.values()
    return {"**" if parameter.kind is parameter.VAR_KEYWORD else parameter.name for parameter in parameters}


def _columns(record: Sequence[Record]) -> dict[str, list]:
    """Records as TRL's columns: `solution` and every extra field that any of them has, None where one has not."""
    names = dict.fromkeys(name for row in record for name in row.extra)
    columns = {name: [row.extra.get(name) for row in record] for name in names}
    return {**columns, "record": list(record), "solution": [row.solution for row in record]}


def _checked(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or not math.isfinite(float(value)):
        raise ValueError(f"returned {value!r}, expected a finite number or None")
    return float(value)
