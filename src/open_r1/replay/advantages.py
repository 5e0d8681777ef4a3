"""Rewards of a step to advantages, as TRL 1.16's `GRPOTrainer._generate_and_score_completions` computes them.

The trainer computes them in the midst of a generation, on a model; here are the same operations on float32, without
one. A replay's gradient is of the trainer's own; a test holds both equal.
"""

from dataclasses import dataclass
from math import isnan

import torch
from trl.trainer.utils import nanstd

from open_r1.rewards.spread import RewardSum, has_spread

LEAST = 1e-4  # is added to standard deviations


@dataclass(frozen=True)
class AdvantageSettings:
    """`weights` (functions,) of rewards, completions of a `group`, and the flags `--scale_rewards` and
    `--multi_objective_aggregation`."""

    weights: torch.Tensor
    group: int
    scale: str
    aggregation: str


def totals(rewards: torch.Tensor, settings: AdvantageSettings) -> torch.Tensor:
    """(N,) the weighted sums of rewards (N, functions), without those that are NaN; NaN where all are."""
    sums = (rewards * settings.weights).nansum(dim=1)
    sums[rewards.isnan().all(dim=1)] = torch.nan
    return sums


def advantages_of(rewards: torch.Tensor, settings: AdvantageSettings) -> torch.Tensor:
    """(N,) advantages of one generation's rewards (N, functions) of all ranks; NaN: does not apply.

    A completion's reward minus the mean of its group, divided by the standard deviation (of N - 1) of the group or the
    generation, or by nothing (Shao et al. 2024, arXiv 2402.03300, section 4.1; Liu et al. 2025, arXiv 2503.20783,
    section 3.2), or the normalized rewards of each function, summed and normalized again (GDPO). 0 where no reward
    applies.

    >>> two = AdvantageSettings(torch.ones(1), 2, "none", "sum_then_normalize")
    >>> advantages_of(torch.tensor([[1.0], [0.0], [3.0], [3.0]]), two)
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    make = of_each_alone if settings.aggregation == "normalize_then_sum" else of_sums
    return make(rewards, settings).nan_to_num(nan=0.0)


def of_sums(rewards: torch.Tensor, settings: AdvantageSettings) -> torch.Tensor:
    """(N,) advantages of summed rewards, NaN where none applies."""
    sums = totals(rewards, settings)
    groups = sums.view(-1, settings.group)
    advantages = (groups - groups.nanmean(dim=1, keepdim=True)).flatten()
    if settings.scale == "none":
        return advantages
    spread = nanstd(groups, dim=1).repeat_interleave(settings.group) if settings.scale == "group" else nanstd(sums)
    return advantages / (spread + LEAST)


def of_each_alone(rewards: torch.Tensor, settings: AdvantageSettings) -> torch.Tensor:
    """(N,) advantages of rewards that are normalized one by one, NaN where none applies."""
    groups = rewards.view(-1, settings.group, rewards.shape[1])
    spread = nanstd(groups, dim=1, keepdim=True)
    alone = ((groups - groups.nanmean(dim=1, keepdim=True)) / (spread + LEAST)).view_as(rewards)
    sums = (alone * settings.weights).nansum(dim=1)
    sums[rewards.isnan().all(dim=1)] = torch.nan
    return (sums - sums.nanmean()) / (nanstd(sums) + LEAST)


def signal_share(rewards: torch.Tensor, settings: AdvantageSettings) -> float:
    """The share in [0, 1] of the groups of rewards (N, functions) that have spread."""
    reward_sum = RewardSum(settings.weights.tolist(), settings.aggregation)
    worths = [reward_sum.value([None if isnan(value) else value for value in row]) for row in rewards.tolist()]
    groups = [worths[start : start + settings.group] for start in range(0, len(worths), settings.group)]
    return sum(map(has_spread, groups)) / len(groups)
