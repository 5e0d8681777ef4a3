"""Ranks that end together: what one rank alone met is raised on all of them.

A rank that raises alone leaves the others in their next collective until `--ddp_timeout`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from open_r1.errors import RunEnded, UsageError
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)
_Value = TypeVar("Value")


def on_all_ranks(call: Callable[[], _Value]) -> _Value:
    """What `call` returns here. All ranks call it, and none waits for another within `call`.

    What it raises on a lone rank passes. Of several, where it raises on any, all raise RunEnded, or the kind of it
    that was raised, with the words of those that failed.
    """
    if PartialState().num_processes == 1:
        return call()
    value, error = None, None
    try:
        value = call()
    except Exception as raised:
        error = raised
        if not isinstance(raised, UsageError):
            logger.exception("rank %d failed", PartialState().process_index)
    found = [(kind, words) for kind, words in gather_object([error_summary(error)]) if words is not None]
    if found:
        kind = min((kind for kind, _ in found), key=lambda kind: len(kind.mro()))
        raise kind("\n".join(dict.fromkeys(words for _, words in found))) from error
    return value  # type: ignore[return-value]


def error_summary(error: Exception | None) -> tuple[type[RunEnded], str | None]:
    """What to raise on all ranks for an error of one, and its words; without an error no words."""
    kind = type(error) if isinstance(error, RunEnded) else RunEnded
    return kind, None if error is None else text_for_all_ranks(error)


def text_for_all_ranks(error: Exception) -> str:
    """
    >>> text_for_all_ranks(KeyError("x")), text_for_all_ranks(UsageError("--flag: got 1, expected 2"))
    ("KeyError: 'x'", '--flag: got 1, expected 2')
    """
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class CollectiveReward:
    """A reward as TRL calls it, on all ranks; what it raises on one, all raise."""

    reward: Callable[..., list[float | None]]

    @property
    def __name__(self) -> str:
        return self.reward.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        return on_all_ranks(lambda: self.reward(*args, **kwargs))


def weights_are_sharded(trainer: RunTrainer) -> bool:
    """Whether each rank holds a part of the weights only."""
    return is_zero3(trainer.accelerator) or trainer.is_fsdp_enabled


def is_zero3(accelerator: Accelerator) -> bool:
    plugin = accelerator.state.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3
