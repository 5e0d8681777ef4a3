"""Seconds of a phase on a card, from its kernels; an estimate, whose assumptions `ASSUMED_TIMES` names.

Each kernel takes as long as its operations at the stated share of the card's peak, or as its bytes at the card's
bandwidth, whichever is longer (Williams et al. 2009, the roofline model); and a phase not less than the host needs to
launch its kernels.
"""

from collections import Counter

from open_r1.plan.gpus import Gpu
from open_r1.rehearse.step import Step

LAUNCH_SECONDS = 8e-6  # of Python and torch for one kernel, of eager torch on a server's core
ASSUMED_TIMES = (
    "every kernel at the stated share of the card's peak or at its whole bandwidth; 8 microseconds of the host a "
    "kernel; nothing waits for rewards, pictures, other ranks or a network; completions all of the stated length"
)


def seconds(kernels: Counter[tuple[int, int]], card: Gpu, utilisation: float) -> float:
    """Seconds of kernels, (operations, bytes) -> how often, on a card.

    >>> card = Gpu(80, teraflops=100, bandwidth=1000)
    >>> seconds(Counter({(5 * 10**13, 0): 1, (0, 10**12): 2}), card, utilisation=0.5)
    3.0
    """
    peak, bandwidth = card.teraflops * 1e12 * utilisation, card.bandwidth * 1e9
    device = sum(n * max(operations / peak, moved / bandwidth) for (operations, moved), n in kernels.items())
    return max(device, kernels.total() * LAUNCH_SECONDS)


def phase_seconds(step: Step, card: Gpu, utilisation: float) -> dict[str, float]:
    """Phase -> seconds in a step. The last token reads all keys and values of a completion, the first only those of
    its prompt: half of the difference is added to every token."""
    kernels = step.books.work.kernels
    times = {
        phase: seconds(kernels[phase], card, utilisation) * step.repeats.get(phase, 1.0) for phase in step.phases()
    }
    if "tokens" in times:
        times["tokens"] += step.run.completion_tokens * step.later_cache_bytes() / 2 / (card.bandwidth * 1e9)
    return times
