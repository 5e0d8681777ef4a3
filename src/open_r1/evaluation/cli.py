"""What every script of `eval/` does: flags, an evaluation or a scoring of saved completions, a table of figures."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from open_r1.errors import UsageError
from open_r1.evaluation.predictions_file import PredictionLine, save_summary
from open_r1.evaluation.rescore import rescore
from open_r1.evaluation.settings import MODES, add_options, settings_of
from open_r1.evaluation.statistics import Interval
from open_r1.rewards.registry import prepare_methods

Find = Callable[[argparse.Namespace], tuple[str, str | None]]  # flags -> data files and image folders, as typed
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
    """The flags that all share; `task` is the script's own, `data` false where it finds the rows itself."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, task, data)
    if task is not None:
        parser.set_defaults(task=task)
    return parser


def main(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
    find: Find | None = None,
    finish: Finish | None = None,
) -> None:
    """Run a script; ends with status 1 and a message for what the user can mend."""
    args = parser.parse_args(argv)
    try:
        summary = run(args, find, finish)
    except (UsageError, ValueError, OSError) as error:  # OSError: no such file, no such model
        sys.exit(str(error))
    if summary is not None:
        show_summary(summary, Console(width=None if sys.stdout.isatty() else 140))


def run(args: argparse.Namespace, find: Find | None = None, finish: Finish | None = None) -> dict[str, Any] | None:
    """The summary, which is saved too; None on ranks other than 0. `find` gives the rows of a script without flags
    for them.

    Raises UsageError, and ValueError for names that do not exist.
    """
    if args.from_predictions:
        return scored(args, finish)
    if find is not None:
        if not args.output_dir:
            raise UsageError("--output_dir: got nothing, expected a folder; see --help")
        args.data_file_paths, args.image_folders = find(args)
    settings = settings_of(args)
    from open_r1.evaluation.run import evaluate  # torch and transformers, which scoring does without

    found = evaluate(settings)
    return found and finished(*found, settings.output_dir, finish)


def scored(args: argparse.Namespace, finish: Finish | None) -> dict[str, Any]:
    """Completions of a file; `summary.json` goes beside it, or to --output_dir."""
    prepare_methods([args.reward_method] if args.reward_method else [])
    task, mode = args.task or "default", MODES[args.prompt_mode or "think"][0]
    found = rescore(args.from_predictions, task, args.reward_method, mode, args.by, args.output_dir)
    return finished(*found, args.output_dir or args.from_predictions.parent, finish)


def finished(
    lines: list[PredictionLine], summary: dict[str, Any], folder: Path, finish: Finish | None
) -> dict[str, Any]:
    """The summary with a script's own figures, saved."""
    if finish is not None:
        finish(lines, summary)
    save_summary(folder, summary)
    return summary


# -------------------------------------------------------------------------------------------------------------- table


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """A table for each prompt mode: all rows, then splits, tasks and fields where there are several."""
    for mode in (mode for mode in ("think", "direct") if mode in summary):
        figures = summary[mode]
        table = Table(title=f"{mode}: {figures['metric']}")
        columns = [name for name in (*RATES, *PLAIN) if name in figures]
        further = [name for name in figures if name not in SUMMARY_FIELDS]
        titles = [{**RATES, **PLAIN}[name] for name in columns] + further
        for title in ("", "accuracy [95 % interval]", *passed(figures), *titles):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for name, part in parts(figures):
            table.add_row(name, *cells(part, columns, further, list(passed(figures))))
        console.print(table)
    console.print(seconds(summary), highlight=False)


def parts(figures: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All rows, then what they fall into."""
    yield "all", figures
    for groups in (figures["splits"], figures["tasks"], *figures.get("by", {}).values()):
        if len(groups) > 1:
            yield from groups.items()


def passed(figures: dict[str, Any]) -> dict[str, str]:
    """Column -> k of pass@k, without k = 1, which is the accuracy."""
    return {f"pass@{k}": k for k in figures.get("pass_at", {}) if k != "1"}


def cells(part: dict[str, Any], columns: Sequence[str], further: Sequence[str], tries: Sequence[str]) -> list[str]:
    interval = Interval(part["accuracy"], part["low"], part["high"], part["n"])
    rates = [f"{part[name]:.1%}" if name in RATES else f"{part[name]:.3f}" for name in columns]
    several = [f"{part['pass_at'][name.removeprefix('pass@')]:.3f}" for name in tries]
    return [str(interval), *several, *rates, *(f"{part[name]:.3f}" if name in part else "" for name in further)]


def seconds(summary: dict[str, Any]) -> str:
    if "generation_seconds" not in summary:
        return f"{summary['wall_seconds']:.1f} s"
    return f"{summary['wall_seconds']:.1f} s; {summary['generation_seconds']:.1f} s of generation, earlier starts too"
