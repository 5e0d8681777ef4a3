"""Detects a partial optimizer step: one that began to change the weights and is not finished, so nothing can be saved.

Causes are an error within the step (out of memory half way), an error right after it, and DeepSpeed's steps, which
happen within `backward`, before loss and gradient can be checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from open_r1.trainer.protocols import RunTrainer


@contextmanager
def record_step_begins(trainer: RunTrainer) -> Iterator[None]:
    """Context that records the begin of each optimizer step, for `step_is_partial`: torch calls the hook before any
    optimizer's step, DeepSpeed's inner one included."""

    def record(*_: Any) -> None:
        trainer.newest_step_base = trainer.state.global_step

    hook = register_optimizer_step_pre_hook(record)
    try:
        yield
    finally:
        hook.remove()


def step_is_partial(trainer: RunTrainer) -> bool:
    """Whether the step after the last finished one has begun to change the weights."""
    return getattr(trainer, "newest_step_base", None) == trainer.state.global_step
