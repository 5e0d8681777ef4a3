"""torchrun that passes SIGTERM and SIGINT on to the ranks, which save a checkpoint and end with status 0.

Plain torchrun kills its ranks 30 seconds after a signal, and fails. A second signal ends all ranks at once; so does a
rank that fails, as in plain torchrun; its status becomes the launcher's, and its own reason stands last.
"""

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import psutil
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from open_r1.trainer.lifecycle.preemption import SAME_SIGNAL_SECONDS

SAME_FAULT_SECONDS = 10


class ForwardSignal:
    """The handler of SIGTERM and SIGINT in the launcher."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is not None and now - self.first > SAME_SIGNAL_SECONDS:
            raise SignalException("a second signal", signal.Signals(number))
        if self.first is None:
            self.first = now
            for rank in psutil.Process().children():
                rank.send_signal(number)


def main(argv: Sequence[str]) -> None:
    """Run torchrun with its arguments `argv`."""
    handler = ForwardSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    try:
        run.main(["--signals-to-handle=SIGHUP,SIGQUIT", *argv])
    except ChildFailedError as error:
        rank, failure = first_failure(error.failures)
        sys.stderr.write(f"\n{reason_of(rank, failure)}\n")
        sys.exit(max(1, failure.exitcode))


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The rank that ended the others, and its failure.

    torchrun takes the earliest time. But a rank that dies by a signal gets the time at which the launcher looks (every
    0.1 s), and the ranks that waited for it have written theirs before, so within SAME_FAULT_SECONDS the one that died
    is the first. The launcher's own SIGTERM ends the others, its SIGKILL comes 30 seconds later.
    """
    earliest = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, int]:
        failure = item[1]
        has_died = failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
        return not (has_died and failure.timestamp <= earliest + SAME_FAULT_SECONDS), failure.timestamp

    return min(failures.items(), key=order)


def reason_of(rank: int, failure: ProcessFailure) -> str:
    """Why a rank ended the run: its `errors.last_words`, or its signal or status."""
    how = f"by {failure.signal_name()}" if failure.exitcode < 0 else f"with status {failure.exitcode}"
    words = (
        failure.message["message"]
        if isinstance(failure.message, dict)
        else "what it said is above; --resume_from_checkpoint auto continues a run"
    )
    return f"rank {rank} ended {how}, and the others with it:\n{words}"


if __name__ == "__main__":
    main(sys.argv[1:])
