"""The main function of every script of `eval/`: flags, an evaluation (or scoring of saved completions), a table."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from open_r1.errors import UsageError, last_words
from open_r1.evaluation.endings import end_of_evaluation
from open_r1.evaluation.flags import add_options
from open_r1.evaluation.metrics import PredictionLine
from open_r1.evaluation.predictions_file import PREDICTIONS, save_summary
from open_r1.evaluation.rescore import rescore
from open_r1.evaluation.settings import MODES, settings_of
from open_r1.evaluation.statistics import Interval
from open_r1.rewards.registry import prepare_methods

FindRows = Callable[[argparse.Namespace], tuple[str, str | None]]  # flags -> data files and image folders, as typed
Finish = Callable[[list[PredictionLine], dict[str, Any]], None]  # adds figures to the summary

RATES = {"parse_rate": "parsed", "format_rate": "format", "truncated": "truncated"}
PLAIN = {"mean_score": "mean score", "mean_tokens": "tokens"}
SUMMARY_FIELDS = {
    "metric",
    "accuracy",
    "low",
    "high",
    "n",
    "samples",
    "pass_at",
    "splits",
    "tasks",
    "by",
    *RATES,
    *PLAIN,
}


def parser_of(doc: str | None, task: str | None = None, data: bool = True) -> argparse.ArgumentParser:
    """The parser of the shared flags; `task`: the script's own; `data` false: the script finds the rows itself."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, task, data)
    if task is not None:
        parser.set_defaults(task=task)
    return parser


def main(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
    find_rows: FindRows | None = None,
    finish: Finish | None = None,
) -> None:
    """Run a script; exits with status 1 and a message for errors that the user can correct, with 130 for Ctrl-C."""
    args = parser.parse_args(argv)
    try:
        summary = run_evaluation(args, find_rows, finish)
    except (UsageError, ValueError, OSError) as error:  # OSError: no such file, no such model
        sys.exit(last_words(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write(stopped_text(args.output_dir))
        sys.exit(130)
    if summary is not None:
        console = Console(width=None if sys.stdout.isatty() else 140)
        show_summary(summary, console)
        console.print(end_of_evaluation(args, summary), soft_wrap=True, highlight=False, markup=False)


def stopped_text(folder: Path | None) -> str:
    """What to do after Ctrl-C: answers that were written are kept."""
    kept = folder is not None and (folder / PREDICTIONS).is_file()
    place = f"; the answers so far are in {folder / PREDICTIONS}" if kept else ""
    return f"\nStopped{place}: the same command goes on where it stopped\n"


def run_evaluation(
    args: argparse.Namespace, find_rows: FindRows | None = None, finish: Finish | None = None
) -> dict[str, Any] | None:
    """Evaluate or score; returns the saved summary, None on ranks other than 0. `find_rows` is for scripts without
    `--data_file_paths`.

    Raises UsageError, and ValueError for names that do not exist.
    """
    if args.from_predictions:
        return rescore_file(args, finish)
    if find_rows is not None:
        if not args.output_dir:
            raise UsageError("--output_dir: got nothing, expected a folder; see --help")
        args.data_file_paths, args.image_folders = find_rows(args)
    settings = settings_of(args)
    from open_r1.evaluation.run import evaluate  # imports torch and transformers, which scoring does not need

    result = evaluate(settings)
    return result and save_finished(*result, settings.output_dir, finish)


def rescore_file(args: argparse.Namespace, finish: Finish | None) -> dict[str, Any]:
    """Score the completions of a file; `summary.json` is written beside it, or to --output_dir."""
    prepare_methods([args.reward_method] if args.reward_method else [])
    task, mode = args.task or "default", MODES[args.prompt_mode or "think"][0]
    result = rescore(args.from_predictions, task, args.reward_method, mode, args.by, args.output_dir, args.box_space)
    return save_finished(*result, args.output_dir or args.from_predictions.parent, finish)


def save_finished(
    lines: list[PredictionLine], summary: dict[str, Any], folder: Path, finish: Finish | None
) -> dict[str, Any]:
    """Save the summary, with the script's own figures, and return it."""
    if finish is not None:
        finish(lines, summary)
    save_summary(folder, summary)
    return summary


# -------------------------------------------------------------------------------------------------------------- table


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a table for each prompt mode: all rows; splits, tasks and values of `--by` where there are several."""
    for mode in (mode for mode in ("think", "direct") if mode in summary):
        figures = summary[mode]
        table = Table(title=f"{mode}: {figures['metric']}")
        columns = [name for name in (*RATES, *PLAIN) if name in figures]
        further = [name for name in figures if name not in SUMMARY_FIELDS]
        titles = [{**RATES, **PLAIN}[name] for name in columns] + further
        for title in ("", "accuracy [95 % interval]", *pass_columns(figures), *titles):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for name, part in parts(figures):
            table.add_row(name, *cells(part, columns, further, list(pass_columns(figures))))
        console.print(table)
    if "left_out" in summary:
        console.print(f"{summary['left_out']} rows that cannot be shown so are left out", highlight=False)
    console.print(time_line(summary), highlight=False)
    for line in grading_lines(summary):
        console.print(line, highlight=False, soft_wrap=True)


def parts(figures: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, figures) of all rows, then of each split, task and value of `--by`."""
    yield "all", figures
    for groups in (figures["splits"], figures["tasks"], *figures.get("by", {}).values()):
        if len(groups) > 1:
            yield from groups.items()


def pass_columns(figures: dict[str, Any]) -> dict[str, str]:
    """Column -> k of pass@k; k = 1 is the accuracy and has no column."""
    return {f"pass@{k}": k for k in figures.get("pass_at", {}) if k != "1"}


def cells(part: dict[str, Any], columns: Sequence[str], further: Sequence[str], tries: Sequence[str]) -> list[str]:
    """A row of the table: accuracy, pass@k (`tries`), rates and means (`columns`), the script's own (`further`)."""
    interval = Interval(part["accuracy"], part["low"], part["high"], part["n"])
    rates = [f"{part[name]:.1%}" if name in RATES else f"{part[name]:.3f}" for name in columns]
    several = [f"{part['pass_at'][name.removeprefix('pass@')]:.3f}" for name in tries]
    return [str(interval), *several, *rates, *(f"{part[name]:.3f}" if name in part else "" for name in further)]


def grading_lines(summary: dict[str, Any]) -> list[str]:
    """What a judge cost, and what gradings were lost, in a line each.

    >>> grading_lines({"judge": {"judge/calls": 12.0, "judge/agreement": 0.5}, "lost_gradings": {"judge/failures": 2}})
    ['judge: calls 12, agreement 0.5', 'scored as wrong: judge/failures 2']
    """
    judged = ", ".join(f"{n.removeprefix('judge/')} {value:.6g}" for n, value in summary.get("judge", {}).items())
    lost = {name: count for name, count in summary.get("lost_gradings", {}).items() if name != "judge/asked"}
    lines = [f"judge: {judged}"] if judged else []
    return lines + ([f"scored as wrong: {', '.join(f'{n} {c}' for n, c in lost.items())}"] if lost else [])


def time_line(summary: dict[str, Any]) -> str:
    """The last line below the tables: wall time, and seconds of generation."""
    if "generation_seconds" not in summary:
        return f"{summary['wall_seconds']:.1f} s"
    generated = f"{summary['generation_seconds']:.1f} s of generation on all devices, with what was resumed"
    return f"{summary['wall_seconds']:.1f} s; {generated}"
