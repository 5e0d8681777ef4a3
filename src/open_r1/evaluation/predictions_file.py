"""Predictions on disk while they are made: appended line by line, by several ranks, found again after a crash.

Rank 0 appends to `predictions.jsonl`, rank r to `predictions.rank{r}.jsonl`; when all rows are there rank 0 joins them
in the order of the rows. Ranks meet through the files alone, so a run may be continued with any number of them.
(torch-free)
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import append, atomic_write, parse_line
from open_r1.errors import UsageError, shorten
from open_r1.evaluation.metrics import PredictionLine

NAME, ABOUT, SUMMARY = "predictions.jsonl", "evaluation.json", "summary.json"
Key = tuple[str, str]  # (prompt mode, row)
POLL = 0.2  # seconds


class PredictionsFile:
    """The predictions of one folder. `about` says how they are made: predictions made otherwise are refused."""

    def __init__(self, folder: Path, about: dict[str, Any], samples: int, rank: int = 0, overwrite: bool = False):
        self.folder, self.samples = folder, samples
        self.path = folder / (NAME if rank == 0 else f"predictions.rank{rank}.jsonl")
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and rank == 0 and evaluation_differences(folder, about):
            for path in (*files(folder), folder / ABOUT):
                path.unlink(missing_ok=True)
        self._settle(about, patience=5.0 if overwrite and rank else 0.0)

    def _settle(self, about: dict[str, Any], patience: float) -> None:
        """Write how predictions are made here; raises UsageError where others were made otherwise."""
        while found := evaluation_differences(self.folder, about):
            if patience <= 0:
                raise UsageError(
                    f"{self.folder}: got predictions of another evaluation, expected the same one: "
                    f"{'; '.join(found)}; choose another --output_dir, or drop them with --overwrite"
                )
            time.sleep(POLL)  # rank 0 is dropping them
            patience -= POLL
        if not (self.folder / ABOUT).exists():
            with atomic_write(self.folder / ABOUT, owner=self.path.name) as file:
                file.write(json.dumps(about, indent=2).encode())

    def done(self) -> set[Key]:
        """Rows of which every sample is there."""
        seen: dict[Key, set[int]] = {}
        for line in self.lines():
            seen.setdefault((line["mode"], line["row"]), set()).add(line["sample"])
        return {key for key, samples in seen.items() if len(samples) >= self.samples}

    def lines(self) -> Iterator[PredictionLine]:
        """What all ranks have written, whole lines only; a row that was written twice comes twice."""
        for path in files(self.folder):
            with open(path, encoding="utf-8") as file:
                yield from (line for text in file if (line := parse_line(text)) is not None)

    def add(self, lines: Iterable[PredictionLine]) -> None:
        """Append; a line that a crash cut keeps its own line."""
        append(self.path, "".join(map(prediction_line, lines)))

    def wait(self, wanted: Iterable[Key], seconds: float) -> None:
        """Until all rows are there, as others write theirs; raises UsageError after `seconds` without a new one."""
        wanted, known, since = set(wanted), -1, time.monotonic()
        while missing := wanted - self.done():
            if len(missing) != known:
                known, since = len(missing), time.monotonic()
            if time.monotonic() - since > seconds:
                raise UsageError(f"{self.folder}: {len(missing)} rows of other ranks did not come; start again")
            time.sleep(POLL)

    def join(self, order: dict[Key, int]) -> list[PredictionLine]:
        """One file of the wanted rows in their order, each sample once (the first that was written); what it holds.

        Rows that are not asked for now (`--limit` was larger before) stay in the file, behind.
        """
        first: dict[tuple[Key, int], PredictionLine] = {}
        for line in self.lines():
            first.setdefault(((line["mode"], line["row"]), line["sample"]), line)
        ranked = sorted(first.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0][1]))
        kept = [line for (_, sample), line in ranked if sample < self.samples]
        write_predictions(self.folder / NAME, kept)
        for path in files(self.folder):
            if path.name != NAME:
                path.unlink()
        return [line for line in kept if (line["mode"], line["row"]) in order]


def files(folder: Path) -> list[Path]:
    """The predictions of all ranks there."""
    return sorted(folder.glob("predictions*.jsonl"))


def evaluation_differences(folder: Path, about: dict[str, Any]) -> list[str]:
    """What differs from the evaluation that left predictions in a folder, in words; [] where there is none."""
    if not (folder / ABOUT).exists():
        left = files(folder)
        return [f"{left[0].name} without {ABOUT}"] if left else []
    before = json.loads((folder / ABOUT).read_bytes())
    names = [name for name in {**before, **about} if before.get(name) != about.get(name)]
    return [f"{name} was {shorten(before.get(name))}, is {shorten(about.get(name))}" for name in names]


def write_predictions(path: Path, lines: Iterable[PredictionLine]) -> None:
    """A file of predictions, which appears whole."""
    with atomic_write(path) as file:
        file.writelines(prediction_line(line).encode() for line in lines)


def save_summary(folder: Path, summary: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / SUMMARY) as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode("ascii"))


def prediction_line(line: PredictionLine) -> str:
    """One line of JSON; ASCII, as a completion may hold lone surrogates.

    >>> prediction_line({"completion": "\\ud800"})
    '{"completion": "\\\\ud800"}\\n'
    """
    return json.dumps(line, default=plain) + "\n"


def plain(value: Any) -> Any:
    """What JSON cannot hold: numbers and arrays of numpy as Python's; other objects raise TypeError."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"got {type(value).__name__}, expected what JSON can hold")
    return value.tolist()
