"""Windows of a metric's logged steps, and checks of any metric by them. (torch-free)

Means are over `WINDOW` logged steps, so that one bad step is no finding, and need as many; what is plainly broken is
seen after `FIRST`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean, variance
from typing import Any

from open_r1.report.curves import series

WINDOW, FIRST = 10, 3
MetricLines = Sequence[Mapping[str, Any]]
Check = Callable[[MetricLines], str | None]  # the evidence, or None where all is well
MetricPoints = Sequence[tuple[int, float]]  # (step, value)


def points(lines: MetricLines, key: str) -> MetricPoints:
    """(step, value) of one metric where it was logged."""
    return list(zip(*series(lines, key), strict=True))


def span(part: MetricPoints) -> str:
    """The steps of a part, in words.

    >>> span([(3, 0.5), (12, 0.7)])
    'steps 3 to 12'
    """
    return f"steps {part[0][0]} to {part[-1][0]}"


def mean_value(part: MetricPoints) -> float:
    """The mean of the values of a part."""
    return fmean(value for _, value in part)


def beyond(key: str, limit: float, above: bool = True) -> Check:
    """A check of the mean of the newest `WINDOW` values against `limit`."""

    def check(lines: MetricLines) -> str | None:
        newest = points(lines, key)[-WINDOW:]
        if len(newest) < WINDOW or (mean_value(newest) <= limit if above else mean_value(newest) >= limit):
            return None
        return f"{key} is {mean_value(newest):.3g} over {span(newest)}, {'above' if above else 'below'} {limit:g}"

    return check


def always(key: str, value: float, words: str) -> Check:
    """A check for a metric that had this very value in each step of a young run, of `FIRST` steps or more; `words`
    say what that means.

    >>> unread = always("parse_rate", 0.0, "No answer could be read in any of")
    >>> unread([{"step": step, "parse_rate": 0.0} for step in range(1, 7)])
    'No answer could be read in any of steps 1 to 6'
    """

    def check(lines: MetricLines) -> str | None:
        part = points(lines, key)
        if not FIRST <= len(part) < WINDOW or any(one != value for _, one in part):
            return None
        return f"{words} {span(part)}"

    return check


def rise(part: MetricPoints) -> tuple[float, float]:
    """(mean of the last third - mean of the first third, its standard error)."""
    third = len(part) // 3
    first, last = ([value for _, value in some] for some in (part[:third], part[-third:]))
    return fmean(last) - fmean(first), sqrt((variance(first) + variance(last)) / third)


def falling(key: str) -> Check:
    """A check of the newest steps against the best ones before: lower by 0.1 and by more than noise.

    A run is divided into at most 20 parts: among many, one would be the best by chance.
    """

    def check(lines: MetricLines) -> str | None:
        part = points(lines, key)
        size = max(WINDOW, len(part) // 20)
        windows = [part[i : i + size] for i in range(0, len(part) - 2 * size + 1, size)]
        if not windows:
            return None
        best, newest = max(windows, key=mean_value), part[-size:]
        if mean_value(best) - mean_value(newest) < max(0.1, noise(part, size)):
            return None
        return (
            f"{key} was {mean_value(best):.3g} over {span(best)} and is {mean_value(newest):.3g} over {span(newest)}"
        )

    return check


def noise(part: MetricPoints, size: int) -> float:
    """Four standard errors of the difference of two means of `size` values; variance from neighbouring values."""
    values = [value for _, value in part]
    variance_of_values = fmean((b - a) ** 2 / 2 for a, b in pairwise(values))
    return 4 * sqrt(variance_of_values * 2 / size)
