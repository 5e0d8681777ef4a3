"""What a group's baseline sees of each completion's rewards, and whether a group has spread: whether it teaches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EQUAL_DIGITS = 6  # decimals of rewards that count as equal

Worth = float | tuple[float, ...] | None  # None: no reward applies to the completion, which takes no part


def sum_of_rewards(rewards: Iterable[float | None], weights: Iterable[float]) -> float:
    """The weighted sum of the rewards that apply.

    >>> sum_of_rewards([1.0, 0.5, None], [1, 2, 1])
    2.0
    """
    pairs = zip(rewards, weights, strict=True)
    return round(sum(reward * weight for reward, weight in pairs if reward), EQUAL_DIGITS)


@dataclass(frozen=True)
class RewardSum:
    """How training makes one number of the rewards: their weights (None: 1 each), and
    `--multi_objective_aggregation`."""

    weights: Sequence[float] | None
    aggregation: str

    def value(self, rewards: Sequence[float | None]) -> Worth:
        """What decides whether a completion differs from its group: the weighted sum, or with rewards normalized one
        by one (GDPO) each of them that has a weight; a reward that does not apply counts as 0.

        >>> RewardSum([1, 2], "sum_then_normalize").value([0.5, None]), RewardSum(None, "").value([None, None])
        (0.5, None)
        >>> RewardSum([1, 0], "normalize_then_sum").value([0.5, 3.0])
        (0.5,)
        """
        if all(reward is None for reward in rewards):
            return None
        weights = self.weights or [1.0] * len(rewards)
        if self.aggregation == "sum_then_normalize":
            return sum_of_rewards(rewards, weights)
        return tuple(sum_of_rewards([r], [w]) for r, w in zip(rewards, weights, strict=True) if w)


def has_spread(group: Iterable[Worth]) -> bool:
    """Whether not all completions of a group are worth the same.

    >>> has_spread([1.0, 1.0, 0.0]), has_spread([1.0, None]), has_spread([(0.0, 1.0), (1.0, 0.0)])
    (True, False, True)
    """
    return len({*group} - {None}) > 1
