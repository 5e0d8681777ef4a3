"""torchrun for runs that can be told to stop: SIGTERM and SIGINT go to the ranks, which save and end with status 0.

torchrun itself ends its ranks after 30 seconds then, and fails. A second signal ends all at once, and so does a rank
that fails, as ever.
"""

import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import psutil
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException

from open_r1.trainer.lifecycle.preemption import SAME


class ForwardSignal:
    """The handler of SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is not None and now - self.first > SAME:
            raise SignalException("a second signal", signal.Signals(number))
        if self.first is None:
            self.first = now
            for rank in psutil.Process().children():
                rank.send_signal(number)


def main(argv: Sequence[str]) -> None:
    """`argv` is torchrun's."""
    handler = ForwardSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    run.main(["--signals-to-handle=SIGHUP,SIGQUIT", *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
