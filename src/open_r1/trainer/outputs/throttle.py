"""Throttle: run periodic work at most every N seconds, and within a share of the run's time."""

import math
import time


class Throttle:
    """`with throttle:` times the work, `due` again after `seconds`, or later to stay within `share` of the time.

    >>> throttle = Throttle(seconds=0, share=0.5)
    >>> throttle.due()
    True
    """

    def __init__(self, seconds: float, share: float):
        self.seconds, self.share = seconds, share
        self.start = self.end = -math.inf if seconds == 0 else time.monotonic()
        self.cost = 0.0

    def due(self) -> bool:
        """Whether the work may run again."""
        return time.monotonic() - self.end >= max(self.seconds, self.cost / self.share - self.cost)

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.end = time.monotonic()
        self.cost = self.end - self.start
