"""Checks of a run's metrics for problems: pure functions of the lines of `metrics.jsonl`, by step. (torch-free)

Each returns its evidence as text, or None where all is well; `open_r1.report.diagnoses` names them. The windows that
they compare are those of `open_r1.report.metric_windows`.
"""

from statistics import median

from open_r1.report.metric_windows import (
    WINDOW,
    Check,
    MetricLines,
    beyond,
    mean_value,
    points,
    rise,
    span,
)

COMPARED, AGREEMENT = 20, 0.9  # verdicts of a judge beside which a verifiable method has its own; the healthy share
# counts since the process began
FAILED_GRADINGS = ("grading/timeouts", "grading/crashes", "grading/errors", "judge/failures", "judge/too_long")
MUST_BE_FINITE = {"loss", "grad_norm", "reward", "kl", "entropy"}  # others may not apply in a step


def nothing_earned(least: int) -> Check:
    """A check for the newest `WINDOW` steps, or `least` in a young run: each completion earned exactly 0."""

    def check(lines: MetricLines) -> str | None:
        newest = points(lines, "reward")[-WINDOW:]
        since = newest[0][0] if newest else 0
        earned = [
            value
            for key in ("reward_std", *reward_keys(lines, "std"))
            for step, value in points(lines, key)
            if step >= since
        ]
        if len(newest) < least or any(value for _, value in newest) or any(earned):
            return None
        return f"Every completion of {span(newest)} earned 0"

    return check


def zero_variance(lines: MetricLines) -> str | None:
    """Nearly all groups of the newest steps have equal rewards; the evidence has the reward then and before."""
    evidence = beyond("frac_reward_zero_std", 0.9)(lines)
    rewards = points(lines, "reward")
    if evidence is None or len(rewards) < WINDOW:
        return evidence
    first, last = rewards[:WINDOW], rewards[-WINDOW:]
    return f"{evidence}; reward {mean_value(first):.3g} over {span(first)}, {mean_value(last):.3g} over {span(last)}"


def only_format(lines: MetricLines) -> str | None:
    """Over three windows or more a format reward rose by 0.1, and no other reward by two standard errors."""
    rewards = {key: points(lines, key) for key in reward_keys(lines)}
    long = {key: part for key, part in rewards.items() if len(part) >= 3 * WINDOW}
    form = {key: rise(part) for key, part in long.items() if is_form(key)}
    content = {key: rise(part) for key, part in long.items() if not is_form(key)}
    if not form or not content or max(gain for gain, _ in form.values()) < 0.1:
        return None
    if any(gain > 2 * error and gain > 0.01 for gain, error in content.values()):
        return None
    gains = (f"{key} {gain:+.3f}" for key, (gain, _) in (form | content).items())
    return f"from the first to the last third of {span(next(iter(long.values())))}: {', '.join(gains)}"


def reward_keys(lines: MetricLines, ending: str = "mean") -> list[str]:
    """The metrics of reward functions' means, or `std`."""
    keys = dict.fromkeys(key for line in (*lines[:1], *lines[-1:]) for key in line)
    return [key for key in keys if key.startswith("rewards/") and key.endswith(f"/{ending}")]


def is_form(key: str) -> bool:
    """Whether a reward is about the form of a completion only.

    >>> is_form("rewards/area_format/mean"), is_form("rewards/accuracy/mean")
    (True, False)
    """
    return any(word in key for word in ("format", "two_decimals", "repetition", "length"))


def kl_exploding(lines: MetricLines) -> str | None:
    """KL is above 1 nat a token; or above 0.2 and ten times its median before the newest window."""
    part = points(lines, "kl")
    newest, before = part[-WINDOW:], part[:-WINDOW]
    if evidence := beyond("kl", 1.0)(lines):
        return evidence
    usual = median(value for _, value in before) if len(before) >= WINDOW else float("inf")
    if len(newest) < WINDOW or mean_value(newest) < max(0.2, 10 * usual):
        return None
    now = mean_value(newest)
    return f"kl is {now:.3g} over {span(newest)}, {now / max(usual, 1e-9):.0f} times its median before"


def entropy_collapse(lines: MetricLines) -> str | None:
    """Entropy is under 0.05 nats a token and under a tenth of its start."""
    part = points(lines, "entropy")
    first, newest = part[:WINDOW], part[-WINDOW:]
    if len(part) < 2 * WINDOW or mean_value(newest) > min(mean_value(first) / 10, 0.05):
        return None
    return (
        f"entropy fell from {mean_value(first):.3g} over {span(first)} to {mean_value(newest):.3g} over {span(newest)}"
    )


def zero_gradient(lines: MetricLines) -> str | None:
    """All gradient norms of the newest window are exactly 0."""
    newest = points(lines, "grad_norm")[-WINDOW:]
    if len(newest) < WINDOW or any(value for _, value in newest):
        return None
    return f"grad_norm is exactly 0 in all of {span(newest)}"


def answers_blind(least: int) -> Check:
    """A check of the newest WINDOW measurements, of `least` or more.

    Answers with blank pictures earn three quarters of what they earn with the rows' own or more, and that is at least
    0.15; where answers are not graded, tokens depend on the pictures by less than 0.005 nats.
    """

    def check(lines: MetricLines) -> str | None:
        depends = points(lines, "vision/dependency")[-WINDOW:]
        own, blind = (points(lines, f"vision/{name}accuracy")[-WINDOW:] for name in ("", "blind_"))
        if len(blind) >= least and len(own) == len(blind):
            if mean_value(blind) < max(0.75 * mean_value(own), 0.15):
                return None
            evidence = (
                f"greedy answers earn {mean_value(blind):.3g} with blank pictures and {mean_value(own):.3g} with the "
                f"rows' own over {span(blind)}"
            )
            return f"{evidence}; vision/dependency is {mean_value(depends):.2g} nats a token" if depends else evidence
        if blind or len(depends) < least or mean_value(depends) > 0.005:
            return None
        return f"vision/dependency is {mean_value(depends):.2g} nats a token over {span(depends)}, below 0.005"

    return check


def time_not_used(least: int) -> Check:
    """A check of the newest WINDOW measurements, of `least` or more.

    Answers with the frames of videos in another order earn nine tenths of what they earn in the true one or more, and
    that is at least 0.15.
    """

    def check(lines: MetricLines) -> str | None:
        own, shuffled = (points(lines, f"vision/{name}accuracy")[-WINDOW:] for name in ("ordered_", "shuffled_"))
        if len(shuffled) < least or len(own) != len(shuffled):
            return None
        if mean_value(shuffled) < max(0.9 * mean_value(own), 0.15):
            return None
        return (
            f"greedy answers earn {mean_value(shuffled):.3g} with the frames of videos in another order and "
            f"{mean_value(own):.3g} in the true one over {span(shuffled)}"
        )

    return check


def tool_without_need(lines: MetricLines) -> str | None:
    """More than half of the completions use a tool, and earn less than those of their groups that use none."""
    used, gain = (points(lines, f"tools/{name}")[-WINDOW:] for name in ("used_share", "used_advantage"))
    if min(len(used), len(gain)) < WINDOW or mean_value(used) <= 0.5 or mean_value(gain) >= 0:
        return None
    return (
        f"{mean_value(used):.2g} of the completions use a tool over {span(used)}, and their mean advantage is "
        f"{mean_value(gain):.2g} in groups where others use none"
    )


def gradings_lost(lines: MetricLines) -> str | None:
    """At least one grading or verdict a step failed over the newest window."""
    newest = {key: points(lines[-WINDOW:], key) for key in FAILED_GRADINGS}
    growth = {key: part[-1][1] - part[0][1] for key, part in newest.items() if len(part) == WINDOW}
    if sum(growth.values()) < WINDOW:
        return None
    worst = max(growth, key=growth.__getitem__)
    return f"{worst} grew by {growth[worst]:.0f} over {span(newest[worst])}"


def judge_disagrees(lines: MetricLines) -> str | None:
    """Under nine tenths of `COMPARED` verdicts or more of the judge are those of a verifiable method."""
    agreement, compared = points(lines, "judge/agreement"), points(lines, "judge/compared")
    if len(agreement) < WINDOW or not compared or compared[-1][1] < COMPARED or agreement[-1][1] >= AGREEMENT:
        return None
    return f"judge/agreement is {agreement[-1][1]:.3g} over {compared[-1][1]:.0f} verdicts, below {AGREEMENT:g}"


def judge_addressed(lines: MetricLines) -> str | None:
    """At least one answer a step addressed the judge over the newest window."""
    newest = points(lines[-WINDOW:], "judge/addressed")
    growth = newest[-1][1] - newest[0][1] if len(newest) == WINDOW else 0
    return f"judge/addressed grew by {growth:.0f} over {span(newest)}" if growth >= WINDOW else None


def not_finite(lines: MetricLines) -> str | None:
    """A metric that must be finite was not, in any step."""
    bad = [(line["step"], key) for line in lines for key in line.get("not_finite", ()) if key in MUST_BE_FINITE]
    if not bad:
        return None
    return f"{', '.join(sorted({key for _, key in bad}))}: not a finite number in {span(bad)}, {len(bad)} times"
