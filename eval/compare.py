"""Compare two evaluations of the same rows, row by row: do they differ by more than chance?

    python eval/compare.py output/before output/after [--show 10] [--out compare.json]
    python eval/compare.py output/think output/direct --allow_different prompt_mode

A and B are output folders of the scripts of `eval/`. For each prompt mode: accuracies, their difference with a 95 %
interval (Bonett and Price 2012), the exact test of McNemar (of the rows that one alone got right), and the same for
the mean score with a test of random signs. Rows are matched by split, line and gold answer; a row that only one of
them has ends it, or is left out with --common. So do settings that change answers or scores (token budget, prompt,
sampling, pixel limits, method, data, ...), unless --allow_different names them; models may differ.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from open_r1.errors import UsageError, look_up, shorten
from open_r1.evaluation.comparison import Rows, compare, in_mode_of, read_rows
from open_r1.evaluation.setting_differences import (
    ValuePair,
    difference_text,
    different_settings,
    other_mode,
    read_settings,
    refuse_different,
)
from open_r1.report.run_folder import names as run_names


def comparable_rows(args: argparse.Namespace) -> tuple[Rows, Rows, dict[str, ValuePair]]:
    """The rows of A and of B, and the settings that differ. Raises UsageError for those that nobody allowed."""
    (a, b), (one, two) = ([read(folder) for folder in (args.a, args.b)] for read in (read_rows, read_settings))
    differences = different_settings(one, two, args.common)
    refuse_different(differences, args.allow_different)
    for name in args.allow_different:
        look_up(name, {**one, **two}, "--allow_different")
        if name not in differences:
            raise UsageError(f"--allow_different: got {name}, which is equal in both; remove it")
    return a, in_mode_of(b, other_mode(one, two)), differences


def common_rows(a: Rows, b: Rows, common: bool) -> list[tuple[str, str]]:
    """The keys of the rows of both. Raises UsageError where rows (without `common`) or gold answers differ."""
    both = [key for key in a if key in b]
    alone = len(a) + len(b) - 2 * len(both)
    if not both or (alone and not common):
        raise UsageError(
            f"got {len(both)} rows in both and {alone} in one alone, expected the same rows; use --common"
        )
    different = [key for key in both if a[key][0]["solution"] != b[key][0]["solution"]]
    if different:
        raise UsageError(
            f"{different[0][1]}: got two gold answers, expected the same data ({len(different)} such rows)"
        )
    return both


def show(comparison: dict[str, Any], names: Sequence[str], console: Console) -> None:
    """Print a table and a line of counts for each prompt mode."""
    for mode, result in comparison.items():
        table = Table(title=f"{mode}: {result['rows']} rows")
        for column in ("", names[0], names[1], "difference [95 % interval]", "p"):
            table.add_column(column, no_wrap=True)
        for name in ("accuracy", "mean_score"):
            part = result[name]
            gap = f"{part['difference']:+.3f} [{part['low']:+.3f}, {part['high']:+.3f}]"
            table.add_row(name.replace("_", " "), f"{part['a']:.3f}", f"{part['b']:.3f}", gap, f"{part['p']:.2g}")
        console.print(table)
        if bound := bound_text(result):
            console.print(bound, highlight=False)
        console.print(
            f"right in both {result['both']}, in the first alone {result['only_a']}, in the second alone "
            f"{result['only_b']}, in neither {result['neither']}"
        )


def bound_text(result: dict[str, Any]) -> str:
    """The largest difference that rows without one leave possible; empty where one model is better on some row."""
    accuracy, rows = result["accuracy"], result["rows"]
    if result["only_a"] or result["only_b"] or accuracy["difference"]:
        return ""
    most = f"the accuracies are no more than {accuracy['high']:.3f} apart"
    return f"no row is right in one alone: with 95 % confidence {most}; more rows than {rows} would narrow that"


def show_rows(a: Rows, b: Rows, keys: list[tuple[str, str]], most: int, console: Console) -> None:
    """Print at most `most` rows that only one model got right, with both answers."""
    changed = [key for key in keys if a[key][0]["right"] != b[key][0]["right"]]
    for key in changed[:most]:
        console.print(f"\n{key[1]} ({key[0]}), gold {shorten(a[key][0]['solution'])}", markup=False)
        for name, rows in (("A", a), ("B", b)):
            line = rows[key][0]
            console.print(f"  {name} {'right' if line['right'] else 'wrong'}: {line['completion']}", markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, help="output folder of an evaluation")
    parser.add_argument("b", type=Path, help="output folder of another one on the same rows")
    parser.add_argument("--common", action="store_true", help="compare the rows that both have")
    parser.add_argument(
        "--allow_different", nargs="+", default=[], metavar="SETTING", help="settings of the two that may differ"
    )
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N rows that one alone got right")
    parser.add_argument("--out", type=Path, help="JSON file of the result")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        a, b, differences = comparable_rows(args)
        keys = common_rows(a, b, args.common)
        comparison = compare(a, b, keys)
    except ValueError as error:  # UsageError is one
        sys.exit(f"{args.a}, {args.b}: {error}")
    if shown := {name: pair for name, pair in differences.items() if name != "weights"}:  # a hash says nothing
        console.print(f"different in A and B: {difference_text(shown)}", highlight=False, markup=False, soft_wrap=True)
    show(comparison, run_names([args.a, args.b]), console)
    show_rows(a, b, keys, args.show, console)
    if args.out:
        result = comparison | {"different_settings": differences}
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
