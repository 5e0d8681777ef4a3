"""Runs math-verify in a worker process with a deadline, since a completion can block sympy or fill its memory.

Inside a worker, which has its own limits, it is called directly. $OPEN_R1_GRADE_SECONDS (default 2) is the deadline of
one grading; a grading that exceeds it is False and counted.
"""

import math
import os
from functools import lru_cache

from open_r1.rewards.parsing.values import Value
from open_r1.rewards.sandbox.math_verify_worker import same_formulas, same_latex
from open_r1.rewards.sandbox.worker_pool import OWN_REWARDS, LostCall, call_in_worker, count_lost, in_worker

START_SECONDS = 60.0


@lru_cache(maxsize=4_096)  # at most 16 MB of texts
def verify(gold: Value, answer: Value) -> bool:
    """Whether math-verify finds two values equal; False over the deadline or where its worker dies.

    Call it from many threads: they share the workers. Raises RuntimeError where workers do not start.
    """
    if in_worker():
        return same_formulas(gold, answer)
    try:
        return call_in_worker(OWN_REWARDS, deadline(), same_formulas, gold, answer)
    except LostCall as error:
        count_lost(error.reason)
        return False


def warm_up() -> None:
    """Starts the workers and waits for one grading, before CUDA starts, so that the first step is fast."""
    call_in_worker(OWN_REWARDS, START_SECONDS, same_latex, "1", "1")


def deadline() -> float:
    """The deadline of one grading in seconds. Raises ValueError for anything but a positive number."""
    value = os.environ.get("OPEN_R1_GRADE_SECONDS", "2")
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"OPEN_R1_GRADE_SECONDS: got {value!r}, expected a positive number of seconds")
    return seconds
