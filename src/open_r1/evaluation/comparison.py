"""Compare two evaluations of the same rows: differences with intervals and p-values. (torch-free)"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import read_lines
from open_r1.errors import UsageError
from open_r1.evaluation.metrics import PredictionLine
from open_r1.evaluation.predictions_file import PREDICTIONS, SUMMARY, Key
from open_r1.evaluation.statistics import mcnemar, paired_difference

Rows = dict[Key, list[PredictionLine]]  # (prompt mode, row) -> its samples


def read_rows(folder: Path) -> Rows:
    """The rows with gold of a finished evaluation; raises UsageError for a folder without one."""
    if not (folder / PREDICTIONS).is_file() or not (folder / SUMMARY).is_file():
        raise UsageError(
            f"{folder}: got no {PREDICTIONS} and {SUMMARY}, expected the output folder of an evaluation that ended"
        )
    rows: Rows = {}
    for line in read_lines(folder / PREDICTIONS):
        if line["right"] is not None:
            rows.setdefault((line["mode"], line["row"]), []).append(line)
    return rows


def in_mode_of(rows: Rows, names: Mapping[str, str]) -> Rows:
    """The rows with their prompt modes renamed, so that those of another mode stand beside them."""
    return {(names.get(mode, mode), row): lines for (mode, row), lines in rows.items()}


def compare(a: Rows, b: Rows, keys: Sequence[Key]) -> dict[str, Any]:
    """Prompt mode -> accuracies and mean scores of both, their differences (b - a), and counts of right rows.

    A row is right where most of its samples are. With one sample a row, p is McNemar's, else that of random signs.
    """
    modes = list(dict.fromkeys(mode for mode, _ in keys))
    return {mode: _mode([(a[key], b[key]) for key in keys if key[0] == mode]) for mode in modes}


def _mode(pairs: Sequence[tuple[list[PredictionLine], list[PredictionLine]]]) -> dict[str, Any]:
    right = [[mean_field(lines, "right") for lines in pair] for pair in pairs]
    score = [[mean_field(lines, "score") for lines in pair] for pair in pairs]
    row_right = [(a > 0.5, b > 0.5) for a, b in right]
    counts = {
        "both": row_right.count((True, True)),
        "only_a": row_right.count((True, False)),
        "only_b": row_right.count((False, True)),
        "neither": row_right.count((False, False)),
    }
    single = all(len(a) == len(b) == 1 for a, b in pairs)
    p = {"p": mcnemar(counts["only_a"], counts["only_b"])} if single else {}
    return {"rows": len(pairs), **counts, "accuracy": _difference(right) | p, "mean_score": _difference(score)}


def _difference(values: Sequence[Sequence[float]]) -> dict[str, float]:
    a, b = ([pair[i] for pair in values] for i in (0, 1))
    gap = paired_difference(a, b)
    means = {"a": sum(a) / len(a), "b": sum(b) / len(b)}
    return means | {"difference": gap.mean, "low": gap.low, "high": gap.high, "p": gap.p}


def mean_field(lines: Sequence[PredictionLine], field: str) -> float:
    """The mean of a field over a row's samples."""
    return sum(float(line[field]) for line in lines) / len(lines)
