"""A training run with a planted fault: what `test_survival.py` and the trials start, alone or on each rank.

    python tests/helpers/faulty_run.py FAULT STEP [flags of grpo_jsonl.py]

The fault strikes the last rank once STEP optimizer steps are done; a full disk strikes all.
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
from open_r1.rollout import generation, prompts
from open_r1.trainer.checkpointing.resumable import Resumable
from open_r1.trainer.lifecycle.hooks import LifecycleHooks

LAST = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
done = 0  # optimizer steps
groups = itertools.count()


def sleep(*_: Any) -> None:
    time.sleep(10_000)


def pause(*_: Any) -> None:
    """A token a second."""
    time.sleep(1)


def sleep_with_the_interpreter(*_: Any) -> None:
    ctypes.PyDLL(None).sleep(10_000)  # unlike CDLL it keeps the interpreter's lock


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(*_: Any) -> None:
    raise RuntimeError("planted")


def run_out_of_memory(*_: Any) -> None:
    """At the second group of parameters: the first is the next step's already."""
    if next(groups):
        raise torch.OutOfMemoryError("planted")


def refuse(*_: Any) -> None:
    raise DataError([Problem("train.jsonl:7", "image", "a file that was removed", "an image", "restore it")])


def fill_the_disk(*_: Any) -> None:
    """No file may grow over a megabyte: to what writes it is as if the disk were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))


# name -> (where it strikes, what happens there)
FAULTS: dict[str, tuple[tuple[Any, str], Callable[..., None]]] = {
    "data hangs": ((prompts.PromptLoader, "take"), sleep),
    "reward hangs": ((BatchReward, "__call__"), sleep),
    "reward holds the interpreter": ((BatchReward, "__call__"), sleep_with_the_interpreter),
    "rollout takes minutes": ((generation.StopOnRequest, "__call__"), pause),
    "update hangs": ((LifecycleHooks, "training_step"), sleep),
    "dies": ((LifecycleHooks, "training_step"), die),
    "update fails": ((LifecycleHooks, "training_step"), fail),
    "reward fails": ((BatchReward, "__call__"), fail),
    "data is refused": ((prompts.PromptLoader, "take"), refuse),
    "step breaks off": ((torch.optim.AdamW, "_init_group"), run_out_of_memory),
    "disk is full": ((Resumable, "_save_checkpoint"), fill_the_disk),
}


def plant(place: tuple[Any, str], strike: Callable[..., None], step: int) -> None:
    owner, name = place
    whole = getattr(owner, name)

    def struck(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (LAST or strike is fill_the_disk) and done >= step:
            strike()
        return whole(self, *args, **kwargs)

    setattr(owner, name, struck)


def count(trainer: Any, *args: Any, **kwargs: Any) -> None:
    global done
    log(trainer, *args, **kwargs)
    done = trainer.state.global_step


log = Resumable._maybe_log_save_evaluate

if __name__ == "__main__":
    Resumable._maybe_log_save_evaluate = count
    plant(*FAULTS[sys.argv[1]], step=int(sys.argv[2]))
    grpo_jsonl.main(sys.argv[3:])
