"""CPU seconds of a call, as the machine on which the tests' bounds were set would need them."""

import gc
import time
from collections.abc import Callable

REFERENCE = 0.0025  # least CPU seconds of `count_words` there: one core of an AMD EPYC, 2026-11-29
TRIES = 5


def cpu_seconds(call: Callable[[], object], limit: float) -> float:
    """The least CPU seconds of up to five calls, until one takes less than `limit`; no garbage is collected meanwhile.

    On a slower or busier machine they are divided by how much longer a known piece of work takes around the call.
    """
    least = float("inf")
    for _ in range(TRIES):
        around = timed(count_words)
        seconds = timed(call)
        least = min(least, seconds / max(1.0, (around + timed(count_words)) / 2 / REFERENCE))
        if least < limit:
            break
    return least


def timed(call: Callable[[], object]) -> float:
    """CPU seconds of this process for one call, without the collection of garbage, which is of all tests before."""
    collects = gc.isenabled()
    gc.disable()
    begin = time.process_time()
    try:
        call()
        return time.process_time() - begin
    finally:
        if collects:
            gc.enable()


def slowness() -> float:
    """By how much a known piece of work now takes longer than there, in seconds of the clock; at least 1."""
    begin = time.perf_counter()
    for _ in range(TRIES):
        count_words()
    return max(1.0, (time.perf_counter() - begin) / TRIES / REFERENCE)


def count_words() -> int:
    """The known piece of work: strings made, split and counted."""
    counts: dict[str, int] = {}
    for number in range(5_000):
        for word in f"{number % 97} of {number % 89}, a".split():
            counts[word] = counts.get(word, 0) + 1
    return len(counts)
