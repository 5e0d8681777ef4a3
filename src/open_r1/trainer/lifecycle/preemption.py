"""SIGTERM and SIGINT: a run that is told to stop saves a checkpoint and ends with status 0; a second signal ends it.

A signal reaches one rank, or all. A rank that is told breaks its rollout off, which could take minutes; ranks ask each
other after each rollout and before each micro-batch, so that they stop at the same place. What the unfinished step has
done is taken back (`resume.save_checkpoint_now`). transformers 5.17 saves nothing by default, and its own
`enable_jit_checkpoint` overwrites the newest checkpoint without asking the other ranks.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from accelerate import Accelerator

from open_r1.errors import RunEnded

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME = 1.0  # seconds within which signals are one: terminals, clusters and launchers send one to several processes


class RunStopped(RunEnded):
    """Somebody asked the run to stop."""


class StopSignals:
    """Which signal asked this rank to stop, and when; nothing so far."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler. The second signal ends the process as if there were none."""
        name = signal.Signals(number).name
        if self.received is None:
            self.received, self.at = signal.Signals(number), time.monotonic()
            write_stderr(
                f"{name}: the run stops after its token or micro-batch, and saves; a second signal ends it at once"
            )
        elif time.monotonic() - self.at > SAME:
            write_stderr(f"{name}: ended at once, without saving")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def asked(self) -> bool:
        """Whether this rank was asked to stop; others may know nothing of it."""
        return self.received is not None

    def look(self) -> None:
        """Raises Stopped on this rank where it was asked."""
        if self.received is not None:
            raise run_stopped(self.received)

    def check(self, accelerator: Accelerator) -> None:
        """Raises RunStopped on all ranks where any was asked to stop; all call it."""
        numbers = torch.tensor([int(self.received or 0)], device=accelerator.device)
        number = int(accelerator.gather(numbers).max()) if accelerator.num_processes > 1 else numbers
        if number:
            raise run_stopped(int(number))

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Within it signals ask; before and afterwards they do what they did."""
        before = {number: signal.signal(number, self) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_stopped(number: int) -> RunStopped:
    return RunStopped(f"{signal.Signals(number).name}: the run was asked to stop")


def write_stderr(text: str) -> None:
    """To stderr by the operating system alone: a handler may run within a write of the same stream."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
