"""What the completions of a survey say of its rows: difficulty, groups that teach, lengths, sight. (torch-free)"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from open_r1.evaluation.metrics import PredictionLine
from open_r1.evaluation.statistics import Interval, paired_difference, wilson
from open_r1.rewards.spread import RewardSum, Worth, has_spread

SMALLEST_BUDGET = 16  # tokens


@dataclass(frozen=True)
class SurveyedRow:
    """A row's K completions: the share that is right, and the `values` that decide whether a group of them teaches."""

    label: str
    rate: float
    values: tuple[Worth, ...]

    @property
    def is_dead(self) -> bool:
        """Whether all its completions are worth the same."""
        return not has_spread(self.values)


def surveyed_rows(lines: Sequence[PredictionLine], reward_sum: RewardSum) -> list[SurveyedRow]:
    """The rows of these lines, in order."""
    return [
        SurveyedRow(label, rate_of(row), tuple(reward_sum.value([*line["rewards"].values()]) for line in row))
        for label, row in lines_by_row(lines).items()
    ]


def lines_by_row(lines: Sequence[PredictionLine]) -> dict[str, list[PredictionLine]]:
    """Row -> its lines, in order."""
    rows: dict[str, list[PredictionLine]] = {}
    for line in lines:
        rows.setdefault(line["row"], []).append(line)
    return rows


def rate_of(lines: Sequence[PredictionLine]) -> float:
    """The share of right completions."""
    return sum(line["right"] for line in lines) / len(lines)


def spread_probability(values: Sequence[Worth], group: int) -> float:
    """The chance that a group, `group` of these K values drawn without replacement, has spread: two unequal values.

    The U-statistic (Hoeffding 1948) of "not all equal": for values drawn by one policy its mean is the chance of
    spread in a fresh group, as pass@k's is in Chen et al. 2021. Values None take no part in a baseline. Raises
    ValueError for a group above K, of which K values say nothing without bias.

    >>> spread_probability([1, 1, 0, 0], 2), spread_probability([1, 1, 1], 2), spread_probability([None, 1, 1], 3)
    (0.6666666666666667, 0.0, 0.0)
    """
    if group > len(values):
        raise ValueError(f"a group of {group}: got {len(values)} completions, expected at least as many")
    counts = Counter(value for value in values if value is not None)
    idle = len(values) - counts.total()
    equal = sum(math.comb(count + idle, group) for count in counts.values())
    equal -= (len(counts) - 1) * math.comb(idle, group)  # groups of None alone, counted with each value
    return 1.0 - equal / math.comb(len(values), group)


def teaching_share(rows: Sequence[SurveyedRow], group: int) -> Interval:
    """The share of groups that would teach, with Wilson's 95 % interval over rows, which count with their chance."""
    return wilson(sum(spread_probability(row.values, group) for row in rows), len(rows))


def group_sizes(samples: int, group: int) -> list[int]:
    """2, 4, 8, ... up to the samples, and the run's group.

    >>> group_sizes(12, 6)
    [2, 4, 6, 8, 12]
    """
    return sorted({2**power for power in range(1, samples.bit_length()) if 2**power <= samples} | {group, samples})


def rate_counts(rows: Sequence[SurveyedRow], samples: int) -> list[int]:
    """Numbers of rows with 0, 1, ..., K right completions of K."""
    counts = Counter(round(row.rate * samples) for row in rows)
    return [counts[right] for right in range(samples + 1)]


def dead_kinds(rows: Sequence[SurveyedRow]) -> dict[str, int]:
    """Numbers of rows without spread among their K completions: none right, all right, others."""
    rates = [row.rate for row in rows if row.is_dead]
    none, whole = rates.count(0.0), rates.count(1.0)
    return {"none_right": none, "all_right": whole, "others": len(rates) - none - whole}


def budgets(lines: Sequence[PredictionLine], longest: int) -> list[dict[str, float]]:
    """For each budget of tokens up to the run's: the share of completions that it cuts, and of those that are right
    and end within it."""
    sizes = [2**power for power in range(SMALLEST_BUDGET.bit_length() - 1, longest.bit_length()) if 2**power < longest]
    return [
        {
            "tokens": size,
            "truncated": sum(line["truncated"] or line["tokens"] > size for line in lines) / len(lines),
            "right": sum(line["right"] and line["tokens"] <= size for line in lines) / len(lines),
        }
        for size in (*sizes, longest)
    ]


def token_quantiles(lines: Sequence[PredictionLine]) -> dict[str, float]:
    """Mean and quantiles of the completions' lengths in tokens."""
    tokens = [line["tokens"] for line in lines]
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    return {"mean": float(np.mean(tokens))} | {name: float(np.quantile(tokens, q)) for name, q in shares.items()}


def sight(own: Sequence[PredictionLine], shown: Sequence[PredictionLine]) -> dict[str, Any] | None:
    """Accuracy with other pictures than the rows' own, and with their own on the same rows, with 95 % intervals, and
    the difference that the own picture makes; None without such rows."""
    if not shown:
        return None
    with_own = lines_by_row(own)
    pairs = [(rate_of(row), rate_of(with_own[label])) for label, row in lines_by_row(shown).items()]
    gap = paired_difference(*zip(*pairs, strict=True))
    return {
        "shown": as_interval(wilson(sum(rate for rate, _ in pairs), len(pairs))),
        "own": as_interval(wilson(sum(rate for _, rate in pairs), len(pairs))),
        "gain": {"mean": gap.mean, "low": gap.low, "high": gap.high},
    }


def reward_means(lines: Sequence[PredictionLine], reward_sum: RewardSum) -> dict[str, dict[str, float | None]]:
    """Reward -> its mean over the completions that it applies to, and its weight."""
    names = list(lines[0]["rewards"])
    weights = reward_sum.weights or [1.0] * len(names)
    values = {name: [v for line in lines if (v := line["rewards"][name]) is not None] for name in names}
    return {
        name: {"mean": sum(values[name]) / len(values[name]) if values[name] else None, "weight": weight}
        for name, weight in zip(names, weights, strict=True)
    }


def as_interval(interval: Interval) -> dict[str, float]:
    """A share with its 95 % interval, for JSON."""
    return {"share": interval.accuracy, "low": interval.low, "high": interval.high, "rows": interval.n}
