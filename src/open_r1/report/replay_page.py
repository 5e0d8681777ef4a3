"""Write a replay as one HTML page: figures of both settings, and what changes for which completion. (torch-free)

Below are the rows of these completions, with their pictures and film strips. The page fetches nothing, and only the
script that plays film strips runs; texts are escaped by jinja2.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from open_r1.data.jsonl_io import atomic_write
from open_r1.data.prompt_tokens import DEFAULT_SAMPLING
from open_r1.data.record import Record
from open_r1.data.video.types import FrameSampling
from open_r1.report.films import script_of
from open_r1.report.page import script_hash
from open_r1.report.preview import row_card
from open_r1.report.survey_page import survey_style
from open_r1.report.templates import PAGES

MOST_SHOWN = 200  # completions on the page; --json has all
MOST_ROWS = 16  # whose pictures and videos are on the page: those of the largest changes
SAME = 1e-4  # relative difference of a number that is computed again in float32 on another machine


def write_replay_page(
    path: Path, figures: Mapping[str, Any], rows: Mapping[str, Record], frames: FrameSampling = DEFAULT_SAMPLING
) -> None:
    """Write the page; `figures` are those of `--json`, `rows` those of the step by their place, and `frames` how their
    videos are sampled."""
    changed = dict.fromkeys(change["where"] for change in figures["changes"])
    style, cards = survey_style(), {where: row_card(rows[where], frames) for where in [*changed][:MOST_ROWS]}
    script = script_of([*cards.values()])
    page = PAGES.get_template("replay.html").render(
        figures=figures,
        rows=figure_rows(figures),
        headline=headline(figures),
        same=same_text(figures),
        shown=figures["changes"][:MOST_SHOWN],
        change=change_text,
        cards=cards,
        script=script,
        script_hash=script_hash(script),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        style=Markup(style),  # nosec B704 # files of this package
        style_hash=script_hash(style),
    )
    with atomic_write(path) as file:
        file.write(page.encode("utf-8", errors="backslashreplace"))


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(name, its value under each setting as text); "–" where one has none."""
    settings = figures["settings"].values()
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [(name, [number_text(each.get(name)) for each in settings]) for name in names]
    if figures["cosine"] is not None:
        rows.append(("cosine of the gradients", ["", f"{figures['cosine']:.6f}"]))
    return rows


def number_text(value: float | None) -> str:
    """A figure as text.

    >>> number_text(0.5), number_text(1.25e-7), number_text(None)
    ('0.5', '1.25e-07', '–')
    """
    return "–" if value is None else f"{value:.6g}"


def headline(figures: Mapping[str, Any]) -> str:
    """What is tried, and for how many completions it changes something; empty where nothing is tried."""
    if not figures["tried_flags"]:
        return ""
    flags = " ".join(f"--{name} {text}".strip() for name, text in figures["tried_flags"].items())
    return (
        f"{flags}: reward or advantage of {figures['changed']} of {figures['completions']} completions changes, "
        f"{figures['sign_flips']} of them from better than their group to worse or back"
    )


def same_text(figures: Mapping[str, Any]) -> str:
    """Whether the run's own settings give the gradient norm that the run logged; empty without both."""
    own, logged = figures["settings"]["run"].get("gradient norm"), figures["logged"].get("grad_norm")
    if own is None or logged is None:
        return ""
    difference = abs(own - logged) / max(abs(logged), 1e-12)
    said = f"the run logged a gradient norm of {logged:.6g}, and its settings give {own:.6g} here"
    if difference <= SAME or own == logged:
        return said
    return (
        f"{said}: another precision, machine or version, dropout, or files that changed; compare the two columns with "
        "each other"
    )


def change_text(change: Mapping[str, Any]) -> str:
    """What changes for a completion.

    >>> change_text({"rewards": [1.0, 0.5], "advantages": [0.25, -0.5]})
    'reward 1 → 0.5, advantage +0.250 → -0.500'
    """
    before, after = (number_text(value) for value in change["rewards"])
    reward = f"reward {before}" + (f" → {after}" if after != before else "")
    return f"{reward}, advantage {change['advantages'][0]:+.3f} → {change['advantages'][1]:+.3f}"
