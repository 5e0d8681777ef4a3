"""Tries cheap strategies on rows, and prints what they earn, what it means and what to do. (torch-free)"""

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from open_r1.data.images import with_sizes
from open_r1.data.jsonl_dataset import RecordDataset
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.report.attack_table import attack_findings, attack_table, false_pay_text, finding_lines
from open_r1.rewards.attack_company import CostToOthers, cost_to_others
from open_r1.rewards.attacks import (
    Earning,
    FalsePay,
    ProgressBar,
    attacked,
    only_in_training,
    other_golds,
    try_strategies,
)
from open_r1.rewards.judge.method import judged_by
from open_r1.rewards.judge.stand_in import ObedientJudge
from open_r1.rewards.registry import is_remote
from open_r1.rewards.trl_adapter import BatchReward, RewardError, lost_gradings

MAX_ATTACKED = 256  # rows that the cheap strategies answer


@dataclass(frozen=True)
class AttackSettings:
    """What counts as a finding: a share of the gold's above `limit`, of strategies and rewards not in `allowed`;
    `ask_judge`: whether a judge at an endpoint is asked too."""

    limit: float = 0.5
    allowed: frozenset[str] = frozenset()
    ask_judge: bool = False


def attacked_rows(data: RecordDataset, bad: Collection[str], prompt_mode: str) -> list[Record]:
    """At most MAX_ATTACKED rows, one from each of as many equal parts of the data, as rewards get them in training.

    Boxes are in pixels of the original. The rows at the places `bad`, and those whose picture cannot be read, which is
    a defect already, are left out.
    """
    edges = np.linspace(0, len(data), min(MAX_ATTACKED, len(data)) + 1).astype(int)
    places = np.random.default_rng(0).integers(edges[:-1], edges[1:])  # drawn: rows may alternate in a period
    facts = {"box_space": "original", "prompt_mode": prompt_mode}
    rows = (record.with_extra(**facts) for record in data.select(places) if record.where not in bad)
    return [sized for record in rows if (sized := with_sizes(record)) is not None]


@dataclass(frozen=True)
class TriedStrategies:
    """What cheap strategies and other rows' golds earn; `costs`: what answers to a judge cost others; `left_out` says
    what was not tried, `errors` what raised."""

    earnings: list[Earning]
    pairs: list[FalsePay]
    findings: list[Earning]
    costs: list[CostToOthers]
    errors: list[str]
    left_out: list[str]

    def lines(self, limit: float) -> list[str]:
        """All that is to be said beside the table."""
        lines = [false_pay_text(result) for result in self.pairs if result.pairs]
        lines += map(str, self.costs)
        lost = {name: count for name, count in lost_gradings().items() if count and name != "judge/asked"}
        lines += [f"{name}: {count:g} gradings without a verdict" for name, count in lost.items()]
        lines += self.errors + finding_lines(self.findings, limit)
        if self.earnings and not self.findings:
            lines.append(f"no cheap strategy earns more than luck or {limit:g} of what the right answer earns")
        return lines


def tried_strategies(
    rewards: Sequence[BatchReward], records: Sequence[Record], settings: AttackSettings, progress: ProgressBar
) -> TriedStrategies:
    """Try all cheap strategies, and golds of other rows, on the rewards that can be graded here."""
    here = [reward for reward in rewards if only_in_training(reward) is None]
    for reward in here:
        reward.start()
    targets = attacked(here, records, settings.ask_judge)
    earnings, pairs, costs, errors = [], [], [], []
    for target in targets:
        judge = judged_by(ObedientJudge()) if target.stand_in else nullcontext()
        try:
            with judge:
                earnings += try_strategies(target, progress)
            costs += [cost_to_others(target)] if target.stand_in else []
            judged = target.is_judged and not target.stand_in and target.reward.__name__ not in settings.allowed
            pairs += [other_golds(target, progress)] if judged else []
        except (RewardError, DataError) as error:  # a reward that raises, or a picture that it asks for is damaged
            errors.append(str(error))
    findings = attack_findings(earnings, targets, settings.limit, settings.allowed)
    return TriedStrategies(earnings, pairs, findings, costs, errors, _left_out(rewards, records, settings))


def report_attacks(
    rewards: Sequence[BatchReward],
    records: Sequence[Record],
    settings: AttackSettings,
    console: Console,
    progress: ProgressBar,
) -> int:
    """Prints what cheap strategies and other rows' golds earn; returns the number of findings.

    A reward that raises is a finding.
    """
    tried = tried_strategies(rewards, records, settings, progress)
    for line in tried.left_out:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if tried.earnings:
        console.print(attack_table(tried.earnings, tried.findings))
    for line in tried.lines(settings.limit):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return len(tried.findings) + len(tried.errors) + sum(bool(cost.lost) for cost in tried.costs)


def _left_out(rewards: Sequence[BatchReward], records: Sequence[Record], settings: AttackSettings) -> list[str]:
    """A line for each reward that is not tried, and for rows that a judge grades."""
    lines = [
        f"{reward.__name__}: not tried: it asks for {name}, which is there in training only"
        for reward in rewards
        if (name := only_in_training(reward))
    ]
    remote = sum(is_remote("accuracy", record) for record in records)
    if remote and not settings.ask_judge:
        lines.append(
            f"{remote} of {len(records)} rows are graded by a judge, which is not asked: answers that address it are "
            "tried on a stand-in that obeys them; --ask_judge asks it"
        )
    return lines
