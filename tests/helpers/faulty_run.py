"""Runs training with a planted fault; `test_survival.py` and the trials start it, alone or on each rank.

    python tests/helpers/faulty_run.py FAULT STEP [flags of grpo_jsonl.py]

The fault acts on the last rank after STEP optimizer steps; a full disk acts on all.
"""

import ctypes
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from open_r1 import grpo_jsonl
from open_r1.errors import DataError, Problem
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rollout import generation, prompt_loader
from open_r1.trainer.checkpointing.resumable import Resumable
from open_r1.trainer.lifecycle.hooks import LifecycleHooks

IS_LAST_RANK = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
steps_done = 0
parameter_groups = itertools.count()


def sleep(*_: Any) -> None:
    time.sleep(10_000)


def pause(*_: Any) -> None:
    """Slow generation down to a token a second."""
    time.sleep(1)


def sleep_with_the_interpreter(*_: Any) -> None:
    ctypes.PyDLL(None).sleep(10_000)  # unlike CDLL it keeps the interpreter's lock


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail(*_: Any) -> None:
    raise RuntimeError("planted")


def run_out_of_memory(*_: Any) -> None:
    """Out of memory at the second group of parameters, when the first has been updated."""
    if next(parameter_groups):
        raise torch.OutOfMemoryError("planted")


def refuse(*_: Any) -> None:
    raise DataError([Problem("train.jsonl:7", "image", "a file that was removed", "an image", "restore it")])


def fill_the_disk(*_: Any) -> None:
    """Limit files to a megabyte, which acts like a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))


# name -> ((class, method), what happens before the method runs)
FAULTS: dict[str, tuple[tuple[Any, str], Callable[..., None]]] = {
    "data hangs": ((prompt_loader.PromptLoader, "take"), sleep),
    "reward hangs": ((BatchReward, "__call__"), sleep),
    "reward holds the interpreter": ((BatchReward, "__call__"), sleep_with_the_interpreter),
    "rollout takes minutes": ((generation.StopOnRequest, "__call__"), pause),
    "update hangs": ((LifecycleHooks, "training_step"), sleep),
    "dies": ((LifecycleHooks, "training_step"), die),
    "stands still": ((LifecycleHooks, "training_step"), stand_still),
    "dies in a save": ((Resumable, "_save_rng_state"), die),
    "update fails": ((LifecycleHooks, "training_step"), fail),
    "reward fails": ((BatchReward, "__call__"), fail),
    "data is refused": ((prompt_loader.PromptLoader, "take"), refuse),
    "step breaks off": ((torch.optim.AdamW, "_init_group"), run_out_of_memory),
    "disk is full": ((Resumable, "_save_checkpoint"), fill_the_disk),
}


def plant(place: tuple[Any, str], fault: Callable[..., None], step: int) -> None:
    """Make a method call `fault` first, once `step` steps are done."""
    owner, name = place
    method = getattr(owner, name)

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (IS_LAST_RANK or fault is fill_the_disk) and steps_done >= step:
            fault()
        return method(self, *args, **kwargs)

    setattr(owner, name, faulty)


def count(trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Log as the trainer does, and record the number of finished steps."""
    global steps_done
    log(trainer, *args, **kwargs)
    steps_done = trainer.state.global_step


log = Resumable._maybe_log_save_evaluate

if __name__ == "__main__":
    Resumable._maybe_log_save_evaluate = count
    plant(*FAULTS[sys.argv[1]], step=int(sys.argv[2]))
    grpo_jsonl.main(sys.argv[3:])
