"""Raises an error of one rank on all ranks, so that they end together; knows and gathers sharded weights.

A rank that raises alone leaves the others waiting in their next collective until `--ddp_timeout`.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled

from open_r1.errors import RunEnded, UsageError
from open_r1.models.model_parts import bare_model
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)
_Value = TypeVar("Value")


def on_all_ranks(call: Callable[[], _Value]) -> _Value:
    """What `call` returns on this rank. All ranks call it; within `call` no rank waits for another.

    A single rank raises what `call` raises. With several, if it raises on any, all raise RunEnded, or its subclass
    that was raised, with the messages of the ranks that failed.
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
    failures = [(kind, text) for kind, text in gather_object([error_summary(error)]) if text is not None]
    if failures:
        kind = min((kind for kind, _ in failures), key=lambda kind: len(kind.mro()))
        raise kind("\n".join(dict.fromkeys(text for _, text in failures))) from error
    return value  # type: ignore[return-value]


def error_summary(error: Exception | None) -> tuple[type[RunEnded], str | None]:
    """The class to raise on all ranks for an error of one, and its message; None without an error."""
    kind = type(error) if isinstance(error, RunEnded) else RunEnded
    return kind, None if error is None else text_for_all_ranks(error)


def text_for_all_ranks(error: Exception) -> str:
    """An error's message; with its class, unless it is a UsageError.

    >>> text_for_all_ranks(KeyError("x")), text_for_all_ranks(UsageError("--flag: got 1, expected 2"))
    ("KeyError: 'x'", '--flag: got 1, expected 2')
    """
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class CollectiveReward:
    """A reward that TRL calls on all ranks; an error on one is raised on all."""

    reward: Callable[..., list[float | None]]

    @property
    def __name__(self) -> str:
        return self.reward.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        return on_all_ranks(lambda: self.reward(*args, **kwargs))


def weights_are_sharded(trainer: RunTrainer) -> bool:
    """Whether each rank holds only a part of the weights (ZeRO-3, FSDP)."""
    return is_zero3(trainer.accelerator) or trainer.is_fsdp_enabled


def is_zero3(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed shards the weights."""
    plugin = accelerator.state.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3


def networks_of(trainer: RunTrainer) -> list[PreTrainedModel]:
    """The policy and, where there is one, the reference model, without wrappers and adapters."""
    networks = filter(None, (trainer.model, getattr(trainer, "ref_model", None)))
    return [bare_model(trainer.accelerator.unwrap_model(network)) for network in networks]


def gathered(parameters: Iterable[torch.nn.Parameter]) -> AbstractContextManager[Any]:
    """A context in which these parameters are whole on each rank, also where ZeRO-3 shards them."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters))
