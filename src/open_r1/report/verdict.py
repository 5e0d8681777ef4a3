"""Says in sentences whether a run is well, too young to judge, or outside its healthy ranges. (torch-free)"""

import math
from collections.abc import Sequence

from open_r1.report.curves import series, smooth
from open_r1.report.diagnoses import Finding
from open_r1.report.metric_ranges import HEALTH, Metric
from open_r1.report.metric_windows import WINDOW, MetricLines
from open_r1.rewards.judge.tally import SPENT

SMOOTHING = 0.8  # of curves, until a reader chooses another


def newest_value(lines: MetricLines, key: str) -> float | None:
    """The newest value of a metric as the page shows it: smoothed, but for exact ones; None where it was never logged.

    >>> newest_value([{"step": 1, "learning_rate": 2e-6}, {"step": 2, "learning_rate": 1e-6}], "learning_rate")
    1e-06
    """
    _, values = series(lines, key)
    if not values:
        return None
    return values[-1] if key in HEALTH and HEALTH[key].exact else smooth(values, SMOOTHING)[-1]


def outside_range(metric: Metric, value: float) -> bool:
    """Whether a value is beyond the bounds of its metric's healthy range, by more than a rounding error."""
    low = -math.inf if metric.low is None else metric.low
    high = math.inf if metric.high is None else metric.high
    return not low - 1e-9 <= value <= high + 1e-9


def unhealthy_metrics(lines: MetricLines) -> dict[str, float]:
    """Metric -> its newest value, of those whose value lies outside the healthy range that the page draws."""
    newest = {key: value for key in HEALTH if (value := newest_value(lines, key)) is not None}
    return {key: value for key, value in newest.items() if outside_range(HEALTH[key], value)}


def range_text(metric: Metric) -> str:
    """The bounds of a metric's healthy range in words.

    >>> range_text(HEALTH["parse_rate"])
    '0.9 to 1'
    """
    if metric.low is None or metric.high is None:
        return f"at most {metric.high:g}" if metric.low is None else f"at least {metric.low:g}"
    return f"{metric.low:g} to {metric.high:g}"


_ODD = {
    "malformed": "replies were no verdict",
    "swayed": "groups asked about one by one, as an answer moved the judge",
    "failures": "answers have no verdict",
    "addressed": "answers addressed the judge",
}


def judge_sentences(lines: MetricLines) -> list[str]:
    """What a judge cost so far, and how often verifiable methods say the same; [] for a run without one.

    >>> line = {"judge/calls": 12.0, "judge/tokens_in": 4100.0, "judge/tokens_out": 300.0, "judge/seconds": 9.1}
    >>> judge_sentences([{"step": 1}, {"step": 2, "judge/cache_hits": 4.0, "judge/cost": 0.0123, **line}])
    ['The judge: 12 calls, 4,100 tokens in, 300 out, 9 s, 4 verdicts known before; cost 0.0123.']
    >>> judge_sentences([{"judge/cache_hits": 0.0, "judge/swayed": 2.0, **line}])[0][-62:]
    '2 groups asked about one by one, as an answer moved the judge.'
    """
    line = next((line for line in reversed(lines) if "judge/calls" in line), None)
    if line is None:
        return []
    calls, tokens_in, out, seconds, hits = (line[f"judge/{name}"] for name in SPENT)
    text = f"The judge: {calls:,.0f} calls, {tokens_in:,.0f} tokens in, {out:,.0f} out, {seconds:,.0f} s, "
    text += f"{hits:,.0f} verdict{'' if hits == 1 else 's'} known before"
    text += f"; cost {line['judge/cost']:.3g}" if "judge/cost" in line else ""
    text += "".join(f"; {count:,.0f} {what}" for name, what in _ODD.items() if (count := line.get(f"judge/{name}")))
    if "judge/order_agreement" in line:
        text += f"; both orders rank {line['judge/order_agreement']:.0%} of pairs alike"
    if "judge/agreement" in line:
        text += f"; it agrees with verifiable methods in {line['judge/agreement']:.0%} of {line['judge/compared']:.0f}"
    return [f"{text}."]


def verdict(lines: MetricLines, found: Sequence[Finding]) -> list[str]:
    """Sentences about a run beside its findings. "Nothing looks wrong" is said of none that is too young, that has a
    finding, or that has a value outside its healthy range.

    >>> for sentence in verdict([{"step": step, "reward": 0.5, "parse_rate": 0.6} for step in (1, 2)], []):
    ...     print(sentence)
    2 logged steps are too few to judge: most checks need 10.
    Outside its healthy range: Answers read 0.6 (0.9 to 1).
    """
    steps, said = sum("reward" in line or "loss" in line for line in lines), list[str]()
    named = {finding.metric for finding in found}
    outside = [
        f"{HEALTH[key].title} {value:.3g} ({range_text(HEALTH[key])})"
        for key, value in unhealthy_metrics(lines).items()
        if key not in named
    ]
    if steps < WINDOW:
        count = "1 logged step is" if steps == 1 else f"{steps} logged steps are"
        said.append(f"{count} too few to judge{' the rest' if found else ''}: most checks need {WINDOW}.")
    if outside:
        said.append(f"Outside its healthy range: {', '.join(outside)}.")
    said = said if said or found else [f"Nothing looks wrong in {lines[-1]['step']} steps."]
    return said + judge_sentences(lines)
