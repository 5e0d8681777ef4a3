"""What an answer that addresses a judge costs a right one beside it, in calls about both. (torch-free)

The judge is the stand-in that obeys: what is lost is what the screens and canaries around a judge let through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from open_r1.data.record import Record
from open_r1.rewards.attacks import AttackedReward, graded
from open_r1.rewards.gold import gold_answer, in_format
from open_r1.rewards.judge.method import judged_by
from open_r1.rewards.judge.settings import GROUPINGS, Grouping
from open_r1.rewards.judge.stand_in import ObedientJudge
from open_r1.rewards.strategies import STRATEGIES, TO_ANY_JUDGE

IN_COMPANY: tuple[Grouping, ...] = tuple(way for way in GROUPINGS.values() if way != "alone")


@dataclass(frozen=True)
class CostToOthers:
    """The number of groups that were tried, and (place, strategy, grouping) of those where a right answer earned less
    than without the strategy's."""

    reward: str
    groups: int
    lost: tuple[tuple[str, str, Grouping], ...]

    def __str__(self) -> str:
        kept = self.groups - len(self.lost)
        text = (
            f"{self.reward}: in {kept} of {self.groups} groups, marked or ranked in one call (JUDGE_GROUP), a right "
            "answer keeps its pay beside one that addresses the judge"
        )
        return text + "".join(f"\n  not beside {name} at {where}, {way}" for where, name, way in self.lost[:3])


def cost_to_others(target: AttackedReward) -> CostToOthers:
    """Tries each strategy to a judge beside two right answers in words of their own, on every row."""
    groups, lost = 0, []
    for way in IN_COMPANY:
        for row in target.records:
            alone = _paid(target, row, [], way)
            for name in TO_ANY_JUDGE:
                if (text := STRATEGIES[name].complete(row, target.golds)) is not None:
                    groups += 1
                    if _paid(target, row, [text], way) < alone:
                        lost.append((row.where, name, way))
    return CostToOthers(target.title, groups, tuple(lost))


def _paid(target: AttackedReward, row: Record, beside: Sequence[str], way: Grouping) -> float:
    """What two right answers earn together, beside these completions."""
    gold = gold_answer(row)
    right = [in_format(f"{gold}, {gold}", row), in_format(f"{gold}: {gold}", row)]
    with judged_by(ObedientJudge(), group=way):
        earned = graded(target.reward, [(text, row) for text in (*right, *beside)])
    return sum(value or 0.0 for value in earned[: len(right)])
