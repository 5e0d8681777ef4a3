"""Weights that are no longer those of the last finished optimizer step, as the next one was begun and did not end.

Between the two lie an error in the step itself (out of memory half way), one of what follows it, and DeepSpeed's
steps, which are made within `backward`, before anybody can look at a loss or gradient. Nothing can be saved then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from open_r1.trainer.protocols import RunTrainer


@contextmanager
def marking_steps(trainer: RunTrainer) -> Iterator[None]:
    """Within it each optimizer step is marked as it begins, for `step_is_partial`: torch calls the hook before any
    optimizer's step, DeepSpeed's inner one included."""

    def begun(*_: Any) -> None:
        trainer.begun_from = trainer.state.global_step

    hook = register_optimizer_step_pre_hook(begun)
    try:
        yield
    finally:
        hook.remove()


def step_is_partial(trainer: RunTrainer) -> bool:
    """Whether the step that follows the last finished one has begun to change the weights."""
    return getattr(trainer, "begun_from", None) == trainer.state.global_step
