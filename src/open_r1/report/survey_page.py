"""Write a survey as one HTML page: what would teach, how hard rows are, lengths, sight, cheap answers. (torch-free)

The page fetches nothing, and only the script that plays film strips runs; texts are escaped by jinja2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from open_r1.data.jsonl_io import atomic_write
from open_r1.data.media_views import BLANK, OTHER, SHUFFLED
from open_r1.data.record import Record
from open_r1.data.video.types import FrameSampling
from open_r1.report.attack_report import TriedStrategies
from open_r1.report.attack_table import GOLD_TITLE
from open_r1.report.diagnoses import Finding
from open_r1.report.films import script_of
from open_r1.report.page import script_and_style, script_hash
from open_r1.report.preview import row_card
from open_r1.report.templates import PAGES
from open_r1.rewards.attacks import RIGHT_ANSWER
from open_r1.rewards.strategies import STRATEGIES

CHART_WIDE, CHART_HIGH = 420.0, 150.0  # of a chart, in its own units
PHASE_NAMES = {"mean": "completions of the mean length", "longest": "completions all of the longest length"}
VIEW_NAMES = {BLANK: "a blank picture", OTHER: "another row's picture", SHUFFLED: "frames out of order"}
ATTACK_LIMIT = 0.5  # share of the right answer's earnings that a finding names, as the doctor's default


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: its place and size, what stands below and above it, and what it says in words."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str
    title: str


def write_survey_page(
    path: Path,
    figures: Mapping[str, Any],
    findings: Sequence[Finding],
    tried: TriedStrategies,
    hopeless: Sequence[tuple[Record, str]],
    frames: FrameSampling,
) -> None:
    """Write the page; `figures` are those of `survey.json`, `hopeless` rows that no completion answered, with one;
    `frames`: how their videos are sampled."""
    style, cards = survey_style(), [{**row_card(record, frames), "completion": text} for record, text in hopeless]
    script = script_of(cards)
    page = PAGES.get_template("survey.html").render(
        figures=figures,
        findings=findings,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        rates=rate_bars(figures),
        groups=group_bars(figures),
        cuts=cut_bars(figures),
        views=view_bars(figures),
        view_names=VIEW_NAMES,
        strategies=strategy_rows(tried),
        said=[*tried.left_out, *tried.lines(ATTACK_LIMIT)],
        gold_title=GOLD_TITLE,
        teaching=teaching_line(figures),
        hours=hours_lines(figures),
        cards=cards,
        script=script,
        script_hash=script_hash(script),
        interval=interval_text,
        wide=CHART_WIDE,
        high=CHART_HIGH,
        style=Markup(style),  # nosec B704 # files of this package
        style_hash=script_hash(style),
    )
    with atomic_write(path) as file:
        file.write(page.encode("utf-8", errors="backslashreplace"))


@cache
def survey_style() -> str:
    """The style of the report, with that of rows and of the survey's own bars."""
    return "".join(
        (script_and_style()[1], *(PAGES.loader.get_source(PAGES, name)[0] for name in ("preview.css", "survey.css")))
    )


def bars(heights: Sequence[float], labels: Sequence[str], values: Sequence[str], titles: Sequence[str]) -> list[Bar]:
    """Bars side by side; `heights` in [0, 1] are shares of the chart's height."""
    slot = CHART_WIDE / len(heights)
    return [
        Bar(
            number * slot + 0.12 * slot,
            CHART_HIGH * (1 - height),
            0.76 * slot,
            CHART_HIGH * height,
            label,
            value,
            title,
        )
        for number, (height, label, value, title) in enumerate(zip(heights, labels, values, titles, strict=True))
    ]


def rate_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """The histogram of the rows' success rates."""
    counts, samples = figures["rate_counts"], figures["samples"]
    titles = [f"{count} rows with {right} of {samples} completions right" for right, count in enumerate(counts)]
    labels = [str(right) for right in range(samples + 1)]
    return bars([count / max(counts) for count in counts], labels, [str(count) for count in counts], titles)


def group_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """The share of groups that would teach, by their size."""
    found = figures["teach_by_group"]
    shares = [part["share"] for part in found.values()]
    titles = [f"of groups of {size} {interval_text(part)}" for size, part in found.items()]
    return bars(shares, [str(size) for size in found], [f"{share:.0%}" for share in shares], titles)


def cut_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """The share of truncated completions, by the budget of tokens."""
    shares = [part["truncated"] for part in figures["budgets"]]
    titles = [
        f"{part['tokens']} tokens cut {part['truncated']:.1%}, and {part['right']:.1%} are right within them"
        for part in figures["budgets"]
    ]
    return bars(shares, [f"{part['tokens']}" for part in figures["budgets"]], [f"{s:.0%}" for s in shares], titles)


def view_bars(figures: Mapping[str, Any]) -> list[Bar]:
    """Accuracy with the rows' own pictures, and in the other views."""
    found = figures["sight"]
    if not found:
        return []
    parts = {"own": next(iter(found.values()))["own"]} | {view: part["shown"] for view, part in found.items()}
    shares = [part["share"] for part in parts.values()]
    titles = [f"{VIEW_NAMES.get(view, 'own picture')}: {interval_text(part)}" for view, part in parts.items()]
    return bars(shares, [view.replace("_", " ") for view in parts], [f"{share:.3f}" for share in shares], titles)


def strategy_rows(tried: TriedStrategies) -> tuple[list[str], list[dict[str, Any]]]:
    """(rewards, rows of the table of cheap strategies): of each its name, what it answers, and an Earning a reward."""
    rewards = list(dict.fromkeys(earning.reward for earning in tried.earnings))
    cells = {(earning.strategy, earning.reward): earning for earning in tried.earnings}
    rows = []
    for name in (RIGHT_ANSWER, *STRATEGIES):
        found = [cells.get((name, reward)) for reward in rewards]
        if any(found):
            what = GOLD_TITLE if name == RIGHT_ANSWER else STRATEGIES[name].title
            rows.append({"name": name, "what": what, "cells": [(one, one in tried.findings) for one in found]})
    return rewards, rows


def interval_text(part: Mapping[str, float]) -> str:
    """A share with its interval.

    >>> interval_text({"share": 0.5, "low": 0.4, "high": 0.6, "rows": 96})
    '0.500 [0.400, 0.600] of 96 rows'
    """
    return f"{part['share']:.3f} [{part['low']:.3f}, {part['high']:.3f}] of {part['rows']:g} rows"


def teaching_line(figures: Mapping[str, Any]) -> str:
    """How many completions of a step would bear gradient, and how many rows would not."""
    step, dead = figures["step"], figures["dead"]
    return (
        f"Of {step['completions']} completions a step about {step['teaching']:.0f} [{step['low']:.0f}, "
        f"{step['high']:.0f}] lie in groups of {figures['group']} with spread and bear gradient. "
        f"{sum(dead.values())} of {figures['rows']} rows gave none in {figures['samples']} completions: "
        f"{dead['none_right']} never right, {dead['all_right']} always, {dead['others']} otherwise"
    )


def hours_lines(figures: Mapping[str, Any]) -> list[str]:
    """Hours and price of the run, for completions of the mean and of the longest length."""
    lines, times_of = [], figures.get("hours", {})
    for kind, times in times_of.items():
        price = "" if times["price"] is None else f", {times['price']:,.2f}"
        fits = "" if times["fits"] else "; its largest peak DOES NOT FIT the card"
        lines.append(
            f"The run, {PHASE_NAMES[kind]}: {times['steps']:,} steps of {times['step_seconds']:.1f} s, "
            f"{times['hours']:.3g} h{price}{fits}"
        )
    if times_of and times_of["longest"]["left_out"]:
        lines.append(f"Not in these hours: {', '.join(times_of['longest']['left_out'])}")
    return lines
