"""What watches a run must not slow it down: how often, and what a line of `metrics.jsonl` holds."""

import math
import time
from typing import Any

from open_r1.report.checks import MUST_BE_FINITE


class Throttle:
    """`with pace:` times the work; it is `due` again after `seconds`, and after as long as keeps it at `share` of all.

    >>> pace = Throttle(seconds=0, share=0.5)
    >>> pace.due()
    True
    """

    def __init__(self, seconds: float, share: float):
        self.seconds, self.share = seconds, share
        self.began = self.ended = -math.inf if seconds == 0 else time.monotonic()
        self.cost = 0.0

    def due(self) -> bool:
        return time.monotonic() - self.ended >= max(self.seconds, self.cost / self.share - self.cost)

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.ended = time.monotonic()
        self.cost = self.ended - self.began


def metrics_line(step: int, logs: dict[str, Any]) -> dict[str, Any]:
    """A log as JSON can hold it: NaN means that a metric did not apply, unless it always does (`not_finite`).

    >>> metrics_line(3, {"reward": 1.0, "loss": float("nan"), "rewards/mine/mean": float("nan")})
    {'step': 3, 'reward': 1.0, 'not_finite': ['loss']}
    """
    infinite = [key for key, value in logs.items() if isinstance(value, float) and not math.isfinite(value)]
    line = {"step": step, **{key: value for key, value in logs.items() if key not in infinite}}
    bad = [key for key in infinite if key in MUST_BE_FINITE]
    return line | ({"not_finite": bad} if bad else {})
