"""What follows from a survey's figures: findings with what to try, in words. (torch-free)"""

from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.report.diagnoses import Finding

FEW_TEACH = 0.3  # share of groups
MOSTLY = 0.5  # of the rows that teach nothing are of one kind
CUT = 0.05  # share of truncated completions
READ = 0.8  # share of completions whose answer is read, or whose format is right
BLIND = 0.8  # share of the accuracy that stays without the picture
TIMELESS = 0.9  # share of the accuracy that stays with frames out of order
SEEN_ROWS = 30  # with pictures or videos, for a finding about them


def survey_findings(figures: Mapping[str, Any]) -> list[Finding]:
    """All findings about the figures of a survey, as `survey.json` holds them."""
    checks = (few_teach, cut_off, unread, unseen, timeless)
    return [finding for check in checks for finding in check(figures)]


def few_teach(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Too few groups with spread, by the kind of most rows without it."""
    teach, dead, rows = figures["teach"], figures["dead"], figures["rows"]
    if teach["share"] >= FEW_TEACH:
        return
    kinds = {
        "none_right": (
            "no completion is right",
            "Look at such rows below: is their gold right, and can it be read? Then easier rows, more "
            "--num_generations, a reward that pays for a part, or SFT first",
        ),
        "all_right": (
            "all completions are right",
            "The model can do this already: take harder rows, or train on the filtered files",
        ),
        "others": (
            "all completions earn the same without being all right or all wrong",
            "Look at what the rewards pay: one that is the same for every answer teaches nothing",
        ),
    }
    kind = max(dead, key=lambda name: dead[name])
    what, remedy = kinds[kind]
    evidence = (
        f"{teach['share']:.0%} [{teach['low']:.0%}, {teach['high']:.0%}] of the groups of {figures['group']} would "
        f"have spread; of {rows} rows {sum(dead.values())} have none, and of {dead[kind]} of these {what}"
    )
    yield Finding("few_groups_teach", "Most groups would teach nothing", "", evidence, remedy)


def cut_off(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Completions that reach the budget of tokens."""
    longest = figures["budgets"][-1]
    if longest["truncated"] > CUT:
        evidence = f"{longest['truncated']:.0%} of the completions do not end within {longest['tokens']} tokens"
        remedy = "Raise --max_completion_length, or ask for shorter answers by --prompt_mode direct"
        yield Finding("truncated", "Completions are cut off", "", evidence, remedy)


def unread(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Answers that the parser does not read, and formats that are not kept."""
    rates = {"have an answer that is read": figures["parse_rate"], "keep the asked format": figures["format_rate"]}
    low = {what: rate for what, rate in rates.items() if rate < READ}
    if low:
        evidence = "Of the completions " + " and ".join(f"{rate:.0%} {what}" for what, rate in low.items())
        remedy = "Read some in predictions.jsonl; change --prompt_template, reward the format, or start with some SFT"
        yield Finding("unread", "Answers are not in the form that is asked for", "", evidence, remedy)


def unseen(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Rows that are answered as well without their picture."""
    if shares := equal_shares(figures, "blank", BLIND):
        evidence = "Accuracy is {:.3f} with the picture and {:.3f} with a blank one".format(*shares)
        remedy = "Either the model does not look, or the questions do not ask it to: balance the golds, drop such rows"
        yield Finding("answers_without_looking", "The picture makes no difference", "", evidence, remedy)


def timeless(figures: Mapping[str, Any]) -> Iterator[Finding]:
    """Rows with videos that are answered as well with their frames out of order."""
    if shares := equal_shares(figures, "shuffled_frames", TIMELESS):
        evidence = "Accuracy is {:.3f} with the frames in order and {:.3f} out of it".format(*shares)
        remedy = (
            "Well, if no question is about what comes first or which way things go; else drop or reword such rows, or "
            "raise --video_fps"
        )
        yield Finding("time_not_used", "The order of frames makes no difference", "", evidence, remedy)


def equal_shares(figures: Mapping[str, Any], view: str, enough: float) -> tuple[float, float] | None:
    """The shares of right answers to the rows' own media and to a view of them, where the view's is at least `enough`
    of the other and no gain is certain; None else, and for too few rows."""
    sight = figures["sight"].get(view)
    if not sight or sight["own"]["rows"] < SEEN_ROWS or not sight["own"]["share"]:
        return None
    own, shown = sight["own"]["share"], sight["shown"]["share"]
    return (own, shown) if shown >= enough * own and sight["gain"]["low"] <= 0 else None
