"""Confidence intervals of accuracies, pass@k, and tests of differences between two runs. (torch-free)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap, norm

Z = float(norm.ppf(0.975))  # two-sided 95 %
RESAMPLES = 10_000
NUMBERS_AT_ONCE = 10_000_000  # of resamples in memory: N may be a hundred thousand


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval, all in [0, 1], of n rows."""

    accuracy: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n})"


def wilson(right: float, n: int) -> Interval:
    """Wilson's score interval (1927) of `right` out of `n`; raises ValueError for n = 0.

    With several samples a row, `right` is the sum of the rows' shares and n still counts rows, as samples of one row
    depend on each other: the interval is then slightly too wide.

    >>> print(wilson(9, 10))
    0.900 [0.596, 0.982] (n = 10)
    """
    if n == 0:
        raise ValueError("an interval needs at least one row, got 0")
    share, shrink = right / n, 1 + Z * Z / n
    centre = (share + Z * Z / (2 * n)) / shrink
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / shrink
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def pass_at_k(right: int, n: int, k: int) -> float:
    """Probability that at least one of k answers is right, drawn without replacement from n with `right` right ones.

    1 - C(n - right, k) / C(n, k): the unbiased estimate of Chen et al. 2021 (arXiv:2107.03374), equation 1.

    >>> pass_at_k(1, n=4, k=1), pass_at_k(1, n=4, k=2), pass_at_k(3, n=4, k=2)
    (0.25, 0.5, 1.0)
    """
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of the hypothesis that two models answer the same rows equally well (McNemar 1947).

    Of the rows that only one model got right, each model then has half, as a fair coin would give.

    >>> mcnemar(0, 5), mcnemar(3, 3)  # 2 / 2**5
    (0.0625, 1.0)
    """
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


@dataclass(frozen=True)
class Difference:
    """Mean of B minus mean of A over the same rows, its 95 % interval, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired_difference(a_N: Sequence[float], b_N: Sequence[float], seed: int = 0) -> Difference:
    """Difference(b - a): interval by scipy's percentile bootstrap over rows, p by random signs (`RESAMPLES` each).

    The signs are drawn here, as scipy's permutation_test takes 7 minutes for 100,000 rows, for which all of this takes
    half a minute. Raises ValueError where the rows differ in number or there is none.

    >>> paired_difference([0, 0, 0, 0], [1, 1, 1, 1]).mean
    1.0
    """
    if len(a_N) != len(b_N) or not len(a_N):
        raise ValueError(f"paired rows: got {len(a_N)} and {len(b_N)}, expected the same rows, at least one")
    rng, d_N = np.random.default_rng(seed), np.asarray(b_N, float) - np.asarray(a_N, float)
    low = high = mean = float(d_N.mean())
    if len(d_N) > 1:  # scipy refuses one row, whose interval is a point
        batch = max(1, NUMBERS_AT_ONCE // len(d_N))
        resampled = bootstrap((d_N,), np.mean, n_resamples=RESAMPLES, batch=batch, method="percentile", rng=rng)
        low, high = map(float, resampled.confidence_interval)
    flipped = [(d_N * rng.choice((-1.0, 1.0), size=len(d_N))).mean() for _ in range(RESAMPLES)]
    extreme = np.sum(np.abs(flipped) >= abs(mean) - 1e-12)
    return Difference(mean, low, high, float((extreme + 1) / (RESAMPLES + 1)))
