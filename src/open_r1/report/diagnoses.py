"""What is wrong with a run, in words, from its metrics alone: each finding with its evidence and a flag to try.

Checks are pure functions of the lines of `metrics.jsonl`, by step. They look at means over `WINDOW` logged steps, so
that one bad step is no finding, and say nothing before there are as many. (torch-free)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import fmean, median, variance
from typing import Any

from open_r1.report.curves import series

WINDOW = 10
Lines = Sequence[Mapping[str, Any]]
Check = Callable[[Lines], str | None]  # the evidence, or None where all is well
Points = Sequence[tuple[int, float]]  # (step, value)

LOST = ("grading/timeouts", "grading/crashes", "judge/failures", "judge/too_long")  # counts since the process began
MUST_BE_FINITE = {"loss", "grad_norm", "reward", "kl", "entropy"}  # others may not apply in a step


@dataclass(frozen=True)
class Diagnosis:
    """A kind of trouble: the metric that shows it, when, and what to try."""

    title: str
    metric: str
    check: Check
    remedy: str


@dataclass(frozen=True)
class Finding:
    """A diagnosis of one run; `name` is what `--stop_on` calls it."""

    name: str
    title: str
    metric: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.title}. {self.evidence}. {self.remedy}"


def diagnose(lines: Lines) -> list[Finding]:
    """All findings in the order of `DIAGNOSES`, about the newest steps.

    >>> [f.name for f in diagnose([{"step": s, "completions/clipped_ratio": 0.5} for s in range(20)])]
    ['truncated']
    """
    found = ((name, d, d.check(lines)) for name, d in DIAGNOSES.items())
    return [Finding(name, d.title, d.metric, evidence, d.remedy) for name, d, evidence in found if evidence]


def points(lines: Lines, key: str) -> Points:
    return list(zip(*series(lines, key), strict=True))


def span(part: Points) -> str:
    """
    >>> span([(3, 0.5), (12, 0.7)])
    'steps 3 to 12'
    """
    return f"steps {part[0][0]} to {part[-1][0]}"


def mean(part: Points) -> float:
    return fmean(value for _, value in part)


def beyond(key: str, limit: float, above: bool = True) -> Check:
    """A check of the mean of the newest `WINDOW` values against `limit`."""

    def check(lines: Lines) -> str | None:
        newest = points(lines, key)[-WINDOW:]
        if len(newest) < WINDOW or (mean(newest) <= limit if above else mean(newest) >= limit):
            return None
        return f"{key} is {mean(newest):.3g} over {span(newest)}, {'above' if above else 'below'} {limit:g}"

    return check


def zero_variance(lines: Lines) -> str | None:
    """Nearly all groups of the newest steps have equal rewards; what became of the reward meanwhile is said too."""
    evidence = beyond("frac_reward_zero_std", 0.9)(lines)
    rewards = points(lines, "reward")
    if evidence is None or len(rewards) < WINDOW:
        return evidence
    first, last = rewards[:WINDOW], rewards[-WINDOW:]
    return f"{evidence}; reward {mean(first):.3g} over {span(first)}, {mean(last):.3g} over {span(last)}"


def rise(part: Points) -> tuple[float, float]:
    """(mean of the last third - mean of the first third, its standard error)."""
    third = len(part) // 3
    first, last = ([value for _, value in some] for some in (part[:third], part[-third:]))
    return fmean(last) - fmean(first), sqrt((variance(first) + variance(last)) / third)


def only_format(lines: Lines) -> str | None:
    """Over three windows or more a format reward has risen by a tenth, and no other reward by two standard errors."""
    means = {key: points(lines, key) for key in reward_keys(lines)}
    long = {key: part for key, part in means.items() if len(part) >= 3 * WINDOW}
    form = {key: rise(part) for key, part in long.items() if is_form(key)}
    content = {key: rise(part) for key, part in long.items() if not is_form(key)}
    if not form or not content or max(gain for gain, _ in form.values()) < 0.1:
        return None
    if any(gain > 2 * error and gain > 0.01 for gain, error in content.values()):
        return None
    said = (f"{key} {gain:+.3f}" for key, (gain, _) in (form | content).items())
    return f"from the first to the last third of {span(next(iter(long.values())))}: {', '.join(said)}"


def reward_keys(lines: Lines) -> list[str]:
    keys = dict.fromkeys(key for line in (*lines[:1], *lines[-1:]) for key in line)
    return [key for key in keys if key.startswith("rewards/") and key.endswith("/mean")]


def is_form(key: str) -> bool:
    """Whether a reward pays for form alone.

    >>> is_form("rewards/area_format/mean"), is_form("rewards/accuracy/mean")
    (True, False)
    """
    return any(word in key for word in ("format", "two_decimals", "repetition", "length"))


def kl_exploding(lines: Lines) -> str | None:
    """Above 1 nat a token; or ten times the median before the newest window, and above 0.2."""
    part = points(lines, "kl")
    newest, before = part[-WINDOW:], part[:-WINDOW]
    if evidence := beyond("kl", 1.0)(lines):
        return evidence
    usual = median(value for _, value in before) if len(before) >= WINDOW else float("inf")
    if len(newest) < WINDOW or mean(newest) < max(0.2, 10 * usual):
        return None
    return (
        f"kl is {mean(newest):.3g} over {span(newest)}, {mean(newest) / max(usual, 1e-9):.0f} times its median before"
    )


def entropy_collapse(lines: Lines) -> str | None:
    """Under a tenth of what it began with, and under 0.05 nats a token."""
    part = points(lines, "entropy")
    first, newest = part[:WINDOW], part[-WINDOW:]
    if len(part) < 2 * WINDOW or mean(newest) > min(mean(first) / 10, 0.05):
        return None
    return f"entropy fell from {mean(first):.3g} over {span(first)} to {mean(newest):.3g} over {span(newest)}"


def zero_gradient(lines: Lines) -> str | None:
    newest = points(lines, "grad_norm")[-WINDOW:]
    if len(newest) < WINDOW or any(value for _, value in newest):
        return None
    return f"grad_norm is exactly 0 in all of {span(newest)}"


def fallen(key: str) -> Check:
    """A check of the newest steps against the best ones before: lower by 0.1 and by more than noise.

    A run is seen in at most 20 parts, so that among many there is not always a best one by chance.
    """

    def check(lines: Lines) -> str | None:
        part = points(lines, key)
        size = max(WINDOW, len(part) // 20)
        windows = [part[i : i + size] for i in range(0, len(part) - 2 * size + 1, size)]
        if not windows:
            return None
        best, newest = max(windows, key=mean), part[-size:]
        if mean(best) - mean(newest) < max(0.1, noise(part, size)):
            return None
        return f"{key} was {mean(best):.3g} over {span(best)} and is {mean(newest):.3g} over {span(newest)}"

    return check


def noise(part: Points, size: int) -> float:
    """Four standard errors of the difference of two means of `size` values; neighbours tell how values scatter."""
    values = [value for _, value in part]
    scatter = fmean((b - a) ** 2 / 2 for a, b in pairwise(values))
    return 4 * sqrt(scatter * 2 / size)


def gradings_lost(lines: Lines) -> str | None:
    """One a step or more, over the newest window, of the gradings and verdicts that never came."""
    newest = {key: points(lines[-WINDOW:], key) for key in LOST}
    grown = {key: part[-1][1] - part[0][1] for key, part in newest.items() if len(part) == WINDOW}
    if sum(grown.values()) < WINDOW:
        return None
    worst = max(grown, key=grown.__getitem__)
    return f"{worst} grew by {grown[worst]:.0f} over {span(newest[worst])}"


def not_finite(lines: Lines) -> str | None:
    bad = [(line["step"], key) for line in lines for key in line.get("not_finite", ()) if key in MUST_BE_FINITE]
    if not bad:
        return None
    return f"{', '.join(sorted({key for _, key in bad}))}: not a finite number in {span(bad)}, {len(bad)} times"


DIAGNOSES: dict[str, Diagnosis] = {
    "not_finite": Diagnosis(
        "Numbers are not finite",
        "grad_norm",
        not_finite,
        "Lower --learning_rate and --max_grad_norm; use --bf16 true in place of --fp16 true",
    ),
    "zero_gradient": Diagnosis(
        "The policy does not move",
        "grad_norm",
        zero_gradient,
        "Look at the groups without signal: raise --temperature or --num_generations; check what is frozen",
    ),
    "zero_variance": Diagnosis(
        "Rewards without variance: groups teach nothing",
        "frac_reward_zero_std",
        zero_variance,
        "Low reward: raise --temperature or --num_generations, or take easier rows. High reward: stop, or take harder "
        "rows",
    ),
    "only_format": Diagnosis(
        "Only the form improves",
        "rewards/accuracy/mean",
        only_format,
        "Give accuracy more weight by --reward_weights, raise --num_generations, or begin with SFT",
    ),
    "truncated": Diagnosis(
        "Completions are cut off",
        "completions/clipped_ratio",
        beyond("completions/clipped_ratio", 0.2),
        "Raise --max_completion_length, or add length to --reward_funcs",
    ),
    "unparsed": Diagnosis(
        "Most answers cannot be read",
        "parse_rate",
        beyond("parse_rate", 0.5, above=False),
        "Look at the unparsed completions; check --reward_method and --prompt_mode, keep format in --reward_funcs",
    ),
    "parse_rate_falling": Diagnosis(
        "Fewer answers can be read than before",
        "parse_rate",
        fallen("parse_rate"),
        "Keep format in --reward_funcs, lower --learning_rate, raise --beta",
    ),
    "reward_falling": Diagnosis(
        "The reward falls",
        "reward",
        fallen("reward"),
        "Lower --learning_rate, raise --beta, or go back to a checkpoint before it",
    ),
    "kl_exploding": Diagnosis(
        "The policy runs away from the reference",
        "kl",
        kl_exploding,
        "Raise --beta, lower --learning_rate or --max_grad_norm",
    ),
    "entropy_collapse": Diagnosis(
        "The policy says one thing only",
        "entropy",
        entropy_collapse,
        "Raise --temperature or --epsilon_high, lower --learning_rate, or set --entropy_coef 0.001",
    ),
    "clipping": Diagnosis(
        "Too many tokens are clipped",
        "clip_ratio/region_mean",
        beyond("clip_ratio/region_mean", 0.3),
        "Lower --learning_rate or --num_iterations, or widen --epsilon",
    ),
    "gradings_lost": Diagnosis(
        "Answers are not graded",
        "grading/timeouts",
        gradings_lost,
        "They pay nothing. Raise $OPEN_R1_GRADE_SECONDS (mathematics) or $JUDGE_SECONDS (judge), or lower "
        "--max_completion_length",
    ),
    "engine_differs": Diagnosis(
        "vLLM samples from another policy",
        "sampling/sampling_logp_difference/mean",
        beyond("sampling/sampling_logp_difference/mean", 0.05),
        "Give both one --dtype; keep --vllm_importance_sampling_correction true",
    ),
}
