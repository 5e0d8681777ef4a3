"""Which cheap strategies a run's completions resemble, by thirds of its steps, and what they are paid. (torch-free)"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from open_r1.data.record import Record
from open_r1.report.diagnoses import Finding
from open_r1.report.run_folder import Group, RunFolder, total_reward
from open_r1.report.thinning import evenly_spaced
from open_r1.rewards.base import Outline
from open_r1.rewards.gold_table import GoldTable, gold_table
from open_r1.rewards.resemblance import SavedAnswer
from open_r1.rewards.strategies import STRATEGIES

MAX_LOOKED_AT = 3_000  # completions of a run, evenly over its steps
MIN_COMPLETIONS = 30  # of the last third, for a finding
GROWTH, EXCESS = 0.1, 0.2  # shares: since the first third, and over that of right answers
SEEN = {name: strategy for name, strategy in STRATEGIES.items() if strategy.resembles}


@dataclass(frozen=True)
class StrategyShare:
    """How many completions resemble a strategy: their share in [0, 1] in each third of a run's steps, None for a third
    without completions; `right` is the share of the gold answers that do. `reward` and `others` are the mean rewards,
    over the last third, of the completions that do and do not; None where there are none."""

    name: str
    title: str
    thirds: tuple[float | None, float | None, float | None]
    right: float
    reward: float | None
    others: float | None
    completions: int  # of the last third


@dataclass(frozen=True)
class _Looked:
    """A completion: its third, total reward, and the strategies that it resembles."""

    third: int
    reward: float
    names: frozenset[str]


def strategy_shares(run: RunFolder) -> list[StrategyShare]:
    """The StrategyShare of each strategy that some completion resembles, the most frequent in the end first."""
    groups = _chosen(run.groups)
    golds = gold_table(_record(group.parsed()) for group in groups)
    looked: list[_Looked] = []
    right: list[frozenset[str]] = []
    span = (groups[-1].step - groups[0].step + 1) if groups else 1
    for group in groups:
        row, third = group.parsed(), 3 * (group.step - groups[0].step) // span
        right.append(_names(_gold(row), golds))
        for completion in row["completions"]:
            names = _names(_saved(completion, row), golds)
            looked.append(_Looked(third, total_reward(completion["rewards"], run.flags.get("reward_weights")), names))
    seen = [name for name in SEEN if any(name in each.names for each in looked)]
    shares = [_share(name, looked, right) for name in seen]
    return sorted(shares, key=lambda share: -(share.thirds[2] or 0.0))


def _chosen(groups: Sequence[Group]) -> list[Group]:
    """Groups, by step, of at most MAX_LOOKED_AT completions."""
    ordered = sorted(groups, key=lambda group: group.step)
    most = MAX_LOOKED_AT // max((group.completions for group in groups), default=1)
    return [ordered[i] for i in evenly_spaced([group.step for group in ordered], max(most, 3))]


def _record(row: dict[str, Any]) -> Record:
    return Record("", (), "", (), row["solution"], where=row["where"])


def _saved(completion: dict[str, Any], row: dict[str, Any]) -> SavedAnswer:
    places = outlines_of(completion.get("outlines", ()))
    return SavedAnswer(completion["text"], row["prompt"], completion.get("tokens", 0), places)


def _gold(row: dict[str, Any]) -> SavedAnswer:
    """The gold answer as if a completion had said it."""
    return SavedAnswer(row["solution"], row["prompt"], 0, outlines_of(row.get("gold", ())))


def outlines_of(rows: Sequence[dict[str, Any]]) -> list[Outline]:
    """Outlines as `rollouts.jsonl` has them."""
    return [Outline(tuple(map(tuple, row["points"])), row["label"], row["image"]) for row in rows]


def _names(saved: SavedAnswer, golds: GoldTable) -> frozenset[str]:
    """The strategies that an answer resembles."""
    return frozenset(name for name, strategy in SEEN.items() if strategy.resembles(saved, golds))


def _share(name: str, looked: Sequence[_Looked], right: Sequence[frozenset[str]]) -> StrategyShare:
    thirds = [[name in each.names for each in looked if each.third == third] for third in range(3)]
    first, middle, last = (fmean(third) if third else None for third in thirds)
    ends = [each for each in looked if each.third == 2]
    paid, others = ([each.reward for each in ends if (name in each.names) is wanted] for wanted in (True, False))
    return StrategyShare(
        name,
        STRATEGIES[name].title,
        (first, middle, last),
        fmean(name in names for names in right),
        fmean(paid) if paid else None,
        fmean(others) if others else None,
        len(ends),
    )


def strategy_findings(shares: Sequence[StrategyShare]) -> list[Finding]:
    """One finding of all strategies that grow beyond what is right and are paid as other answers; or none."""
    evidence = "; ".join(_evidence(share) for share in shares if grows_and_pays(share))
    remedy = (
        "Read such completions below; run python -m open_r1.check with this run's --reward_funcs on its data, and "
        "correct the reward or balance the rows"
    )
    return (
        [Finding("cheap_strategy", "The policy turns to a cheap strategy", "", evidence, remedy)] if evidence else []
    )


def _evidence(share: StrategyShare) -> str:
    first, _, last = share.thirds
    others = "" if share.others is None else f", the others {share.others:.3g}"
    return (
        f"{last:.0%} of the completions of the last third look like {share.name} ({share.title}), {first or 0:.0%} in "
        f"the first and {share.right:.0%} of the right answers; they are paid {share.reward:.3g}{others}"
    )


def grows_and_pays(share: StrategyShare) -> bool:
    """Whether completions turn to a strategy for its reward: GROWTH since the first third, EXCESS over right answers.

    >>> growing = StrategyShare("yes", "yes, always", (0.5, 0.8, 0.95), 0.6, 1.6, 1.2, 300)
    >>> grows_and_pays(growing)
    True
    """
    first, _, last = share.thirds
    if last is None or share.reward is None or share.completions < MIN_COMPLETIONS:
        return False
    pays = share.others is None or share.reward >= share.others
    return pays and last - (first or 0.0) >= GROWTH and last - share.right >= EXCESS
