"""Counts of lost gradings and of the judge over all ranks and starts of an evaluation. (torch-free)

Ranks of an evaluation share files alone. Each appends what it counted anew before the predictions that it graded:
where all predictions are there, so are all counts.
"""

import json
import re
from collections import Counter
from pathlib import Path

from open_r1.data.jsonl_io import append, atomic_write, parse_line
from open_r1.rewards.judge.tally import TALLY
from open_r1.rewards.sandbox.worker_pool import grading_counts

GRADINGS = "gradings.jsonl"
Counts = dict[str, Counter[str]]  # `grading`: lost by workers; `judge`: what it did
_written: Counts = {}  # of this process, by an evaluation of it


def counts_of_process() -> Counts:
    """The counts of this process since its start."""
    return {"grading": Counter(grading_counts()), "judge": TALLY.counts()}


def append_counts(predictions: Path) -> None:
    """Append what this process counted since the last call to the file beside a rank's file of predictions."""
    counts = counts_of_process()
    new = {kind: counts[kind] - _written.get(kind, Counter()) for kind in counts}
    _written.update(counts)
    if any(new.values()):
        name = predictions.name.replace("predictions", "gradings")
        append(predictions.with_name(name), json.dumps(new) + "\n")


def counts_of_ranks(folder: Path) -> Counts:
    """The sums over all ranks and starts in a folder."""
    sums: Counts = {"grading": Counter(), "judge": Counter()}
    for path in files_of_counts(folder):
        for text in path.read_text(encoding="utf-8").splitlines():
            for kind, counts in (parse_line(text) or {}).items():
                sums[kind].update(counts)
    return sums


def join_counts(folder: Path) -> None:
    """Put the sums in place of the ranks' files."""
    paths = files_of_counts(folder)
    if len(paths) < 2:
        return
    with atomic_write(folder / GRADINGS) as file:
        file.write((json.dumps(counts_of_ranks(folder)) + "\n").encode())
    for path in paths:
        if path.name != GRADINGS:
            path.unlink()


def files_of_counts(folder: Path) -> list[Path]:
    """The files of all ranks in a folder."""
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"gradings(\.rank\d+)?\.jsonl", path.name))
