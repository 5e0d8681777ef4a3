"""Counts over all ranks of gradings that were lost and of what the judge did and cost, for the log of a step."""

from collections import Counter

from accelerate.utils import gather_object

from open_r1.rewards.judge.method import metrics_of_judge
from open_r1.rewards.judge.tally import TALLY, lost_verdicts
from open_r1.rewards.sandbox.worker_pool import grading_counts
from open_r1.rewards.trl_adapter import lost_metrics


def grading_metrics() -> dict[str, float]:
    """The metrics `grading/...` and `judge/...` since the start, the same on all ranks, which all call this."""
    ranks: list[tuple[dict[str, int], Counter[str]]] = gather_object([(grading_counts(), TALLY.counts())])
    of_workers, of_judge = Counter[str](), Counter[str]()
    for lost, judged in ranks:
        of_workers.update(lost)
        of_judge.update(judged)
    return {**lost_metrics(of_workers, lost_verdicts(of_judge)), **metrics_of_judge(of_judge)}
