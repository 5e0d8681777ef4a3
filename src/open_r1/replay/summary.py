"""What a replay prints: a table of figures, what changes for which completion, and what to do next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from open_r1.errors import shorten
from open_r1.replay.flags import Asked
from open_r1.report.next_steps import command_text, ending
from open_r1.report.replay_page import change_text, figure_rows, headline, same_text

MOST_PRINTED = 5  # completions


def show_replay(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures, what the run logged, and the completions that change most."""
    console.print(replay_table(figures))
    for line in (
        headline(figures),
        same_text(figures),
        figures["no_gradient"] and f"No gradient: {figures['no_gradient']}",
    ):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    for line in change_lines(figures["changes"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def replay_table(figures: Mapping[str, Any]) -> Table:
    """The run's figures beside those of what is tried."""
    columns = [Column(name, justify="right", no_wrap=True) for name in figures["settings"]]
    title = f"Step {figures['step']}: {figures['completions']} completions in {figures['groups']} groups"
    table = Table(Column("", no_wrap=True), *columns, title=title)
    for name, values in figure_rows(figures):
        table.add_row(name, *values)
    return table


def change_lines(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The completions that change most, each with its place, what changes, and its text."""
    lines = [f"{each['where']}: {change_text(each)}: {shorten(each['text'], 160)}" for each in changes[:MOST_PRINTED]]
    hidden = len(changes) - len(lines)
    return lines + [f"... and {hidden} more, on the page"] * bool(hidden)


def end_of_replay(asked: Asked, figures: Mapping[str, Any], page: Path) -> str:
    """The last lines: where things are, and the command that comes next."""
    flags = {name: words or True for name, words in asked.tried.items()}
    lines = {"page": str(page), "figures": str(asked.json) if asked.json else None}
    if not flags:
        lines["next"] = next_try(asked.run, figures)
    else:
        typed = " ".join(f"--{name} {text}".strip() for name, text in figures["tried_flags"].items())
        lines["next"] = f"one step is one draw: replay another (--step), then run with {typed}"
    return ending("", lines)


def next_try(run: Path, figures: Mapping[str, Any]) -> str:
    """The command that tries another setting on the step: without its gradient, one of the advantages."""
    tried = {"scale_rewards": "none"} if figures["no_gradient"] else {"loss_type": "dr_grpo"}
    command = command_text("-m open_r1.replay", {"step": figures["step"], **tried}, run)
    return f"{command}   # or another reward, {'--reward_weights' if figures['no_gradient'] else '--beta'}, ..."
