"""Confidence intervals of accuracies, pass@k, and tests of differences between two runs. (torch-free)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

Z = float(norm.ppf(0.975))  # two-sided 95 %
RESAMPLES = 10_000
NUMBERS_AT_ONCE = 10_000_000  # of draws in memory: N may be a hundred thousand


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
    """Difference(b - a) with Bonett and Price's interval (2012, J. Educ. Behav. Stat. 37:479), and p by random signs.

    The interval is Wald's with two rows added: one that A alone got right, and one that B alone did. So it does not
    shrink to a point where no row differs: of 30 equal rows it says "no more than 0.087", as 30 rows cannot tell
    whether 0 or 8 of 100 would differ. The authors derive it for right and wrong; for scores the added rows differ by
    their whole range. Fagerland et al. recommend it (2014, Stat. Med. 33:2850). p comes of `RESAMPLES` random signs.

    Raises ValueError where the rows differ in number or there is none.

    >>> equal = paired_difference([0] * 30, [0] * 30)
    >>> f"{equal.mean:+.3f} [{equal.low:+.3f}, {equal.high:+.3f}]"
    '+0.000 [-0.087, +0.087]'
    """
    if len(a_N) != len(b_N) or not len(a_N):
        raise ValueError(f"paired rows: got {len(a_N)} and {len(b_N)}, expected the same rows, at least one")
    d_N = np.asarray(b_N, float) - np.asarray(a_N, float)
    span = max(1.0, float(np.ptp([*a_N, *b_N])))
    added = np.append(d_N, (-span, span))
    centre, half = added.mean(), Z * added.std() / math.sqrt(len(added))
    low, high = (float(np.clip(centre + sign * half, -span, span)) for sign in (-1, 1))
    return Difference(float(d_N.mean()), low, high, random_signs(d_N, seed))


def random_signs(d_N: np.ndarray, seed: int = 0) -> float:
    """The two-sided p-value of differences whose signs are a fair coin's, from `RESAMPLES` draws of all signs.

    scipy's permutation_test takes 7 minutes for 100,000 rows.
    """
    rng, total, extreme = np.random.default_rng(seed), abs(d_N.sum()), 0
    d_M = d_N[d_N != 0]  # a sign changes nothing else
    for draws in map(
        len, np.array_split(np.arange(RESAMPLES), math.ceil(RESAMPLES * len(d_M) / NUMBERS_AT_ONCE) or 1)
    ):
        sums = (rng.integers(0, 2, (draws, len(d_M)), dtype=np.int8) * 2.0 - 1.0) @ d_M
        extreme += int(np.sum(np.abs(sums) >= total - 1e-12 * len(d_N)))
    return (extreme + 1) / (RESAMPLES + 1)
