"""Handles SIGTERM and SIGINT: the run saves a checkpoint and ends with status 0; a second signal ends it at once.

A signal reaches one rank, or all. That rank cuts its rollout short, which could take minutes; ranks exchange signals
after each rollout and before each micro-batch, so that they stop at the same place. The unfinished step is taken back
(`resumable.save_checkpoint_now`). transformers 5.17 saves nothing by default, and its own `enable_jit_checkpoint`
overwrites the newest checkpoint without agreement of the ranks.
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
SAME_SIGNAL_SECONDS = 1.0  # signals so close are one: terminals, clusters and launchers send it to several processes


class RunStopped(RunEnded):
    """A signal requested the run to stop."""


class StopSignals:
    """The handler of stop signals, with the first one that this rank received and its time."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.received_at = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. The second one ends the process as without a handler."""
        name = signal.Signals(number).name
        if self.received is None:
            self.received, self.received_at = signal.Signals(number), time.monotonic()
            write_stderr(
                f"{name}: the run stops after its token or micro-batch, and saves; a second signal ends it at once"
            )
        elif time.monotonic() - self.received_at > SAME_SIGNAL_SECONDS:
            write_stderr(f"{name}: ended at once, without saving")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def stop_requested(self) -> bool:
        """Whether this rank received a stop signal; others may have received none."""
        return self.received is not None

    def raise_if_requested(self) -> None:
        """Raises RunStopped on this rank if it received a stop signal."""
        if self.received is not None:
            raise run_stopped(self.received)

    def check(self, accelerator: Accelerator) -> None:
        """Raises RunStopped on all ranks if any received a stop signal; all call it."""
        number = int(self.received or 0)
        if accelerator.num_processes > 1:
            number = int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())
        if number:
            raise run_stopped(number)

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Context in which this object handles the signals; afterwards the earlier handlers are back."""
        earlier = {number: signal.signal(number, self) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


def run_stopped(number: int) -> RunStopped:
    """The error for a signal of this number."""
    return RunStopped(f"{signal.Signals(number).name}: the run was asked to stop")


def write_stderr(text: str) -> None:
    """Write to stderr by a system call: a handler may run within a write of the same Python stream."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
