"""math-verify on two texts, where it can be killed: a completion can make sympy run for ever or eat all memory.

It runs in `workers`; within one, which grades whole completions and is bounded itself, it is called directly.

$OPEN_R1_GRADE_SECONDS (default 2) is the deadline of one grading; what exceeds it is graded False and counted.
"""

import math
import os
from functools import lru_cache

from open_r1.rewards.sandbox.math_verify_worker import DEFAULT_SETTINGS, MathVerifySettings, equal
from open_r1.rewards.sandbox.worker_pool import OWN_REWARDS, Lost, call, count, inside

START_SECONDS = 60.0
MAX_MATH_CHARS = 2_000  # of each side; 1 MB of digits takes sympy 622 MB


def verify(gold: str, answer: str, settings: MathVerifySettings = DEFAULT_SETTINGS) -> bool:
    """math-verify's verdict on the ends of two texts (`clip`); False where it takes too long or kills its worker.

    Safe to call from many threads, and faster so. Raises RuntimeError where workers do not start.
    """
    return _verdict(clip(gold), clip(answer), settings)


@lru_cache(maxsize=4_096)  # at most 16 MB of texts
def _verdict(gold: str, answer: str, settings: MathVerifySettings) -> bool:
    if inside():
        return equal(gold, answer, settings)
    try:
        return call(OWN_REWARDS, deadline(), equal, gold, answer, settings)
    except Lost as lost:
        count(lost.how)
        return False


def warm_up() -> None:
    """Start the workers and wait for one grading: before CUDA starts, and so that the first step is not slow."""
    call(OWN_REWARDS, START_SECONDS, equal, "$1$", "$1$", DEFAULT_SETTINGS)


def deadline() -> float:
    """Seconds one grading may take. Raises ValueError where the environment holds no positive number."""
    value = os.environ.get("OPEN_R1_GRADE_SECONDS", "2")
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"OPEN_R1_GRADE_SECONDS: got {value!r}, expected a positive number of seconds")
    return seconds


def clip(text: str) -> str:
    """At most MAX_CHARS: from the last `\\boxed` on where there is one, else the end.

    >>> clip("7" * 5000 + r" so \\boxed{8}" + "." * 9000)[:9], len(clip("7" * 5000))
    ('\\\\boxed{8}', 2000)
    """
    if len(text) <= MAX_MATH_CHARS:
        return text
    boxed = text.rfind(r"\boxed")
    return text[boxed : boxed + MAX_MATH_CHARS] if boxed >= 0 else text[-MAX_MATH_CHARS:]
