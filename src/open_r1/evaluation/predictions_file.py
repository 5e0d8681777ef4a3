"""The predictions files of an evaluation: each rank appends its own lines, rank 0 joins them at the end. (torch-free)

Rank 0 appends to `predictions.jsonl`, rank r to `predictions.rank{r}.jsonl`; when all rows are there rank 0 joins them
in the order of the rows. Ranks communicate through these files only, so an evaluation that was killed continues with
any number of ranks.
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import append, atomic_write, parse_line
from open_r1.errors import UsageError, shorten
from open_r1.evaluation.grading_counts_file import append_counts, files_of_counts, join_counts
from open_r1.evaluation.metrics import PredictionLine

PREDICTIONS, ABOUT, SUMMARY = "predictions.jsonl", "evaluation.json", "summary.json"
Key = tuple[str, str]  # (prompt mode, row)
POLL = 0.2  # seconds
ONCE_UNRECORDED = {"prompts", "chat_template", "box_space", "judge", "judge_endpoint"}  # by versions that go on


class PredictionsFile:
    """The predictions of one folder; `about` holds the settings that they depend on, and others are refused."""

    def __init__(self, folder: Path, about: dict[str, Any], samples: int, rank: int = 0, overwrite: bool = False):
        self.folder, self.samples = folder, samples
        self.path = folder / (PREDICTIONS if rank == 0 else f"predictions.rank{rank}.jsonl")
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and rank == 0 and evaluation_differences(folder, about):
            for path in (*prediction_files(folder), *files_of_counts(folder), folder / ABOUT):
                path.unlink(missing_ok=True)
        self._settle(about, patience=5.0 if overwrite and rank else 0.0)

    def _settle(self, about: dict[str, Any], patience: float) -> None:
        """Write `about` to the folder; raises UsageError where its predictions were made with other settings."""
        while differences := evaluation_differences(self.folder, about):
            if patience <= 0:
                raise UsageError(
                    f"{self.folder}: got predictions of another evaluation, expected the same one: "
                    f"{'; '.join(differences)}; choose another --output_dir, or drop them with --overwrite"
                )
            time.sleep(POLL)  # rank 0 is deleting them
            patience -= POLL
        if not (self.folder / ABOUT).exists():
            for path in files_of_counts(self.folder):  # of predictions that were deleted by hand
                path.unlink(missing_ok=True)
            with atomic_write(self.folder / ABOUT, owner=self.path.name) as file:
                file.write(json.dumps(about, indent=2).encode())

    def done(self) -> set[Key]:
        """The rows that have all their samples."""
        samples_of_row: dict[Key, set[int]] = {}
        for line in self.lines():
            samples_of_row.setdefault((line["mode"], line["row"]), set()).add(line["sample"])
        return {key for key, samples in samples_of_row.items() if len(samples) >= self.samples}

    def lines(self) -> Iterator[PredictionLine]:
        """All whole lines of all ranks; a row that was written twice comes twice."""
        for path in prediction_files(self.folder):
            with open(path, encoding="utf-8") as file:
                yield from (line for text in file if (line := parse_line(text)) is not None)

    def add(self, lines: Iterable[PredictionLine]) -> None:
        """Append what their grading counted, then the lines, after a line break where a crash cut the last one."""
        append_counts(self.path)
        append(self.path, "".join(map(prediction_line, lines)))

    def wait(self, rows: Iterable[Key], seconds: float) -> None:
        """Wait until all ranks have written these rows; raises UsageError after `seconds` without a new one."""
        rows, missing_before, since = set(rows), -1, time.monotonic()
        while missing := rows - self.done():
            if len(missing) != missing_before:
                missing_before, since = len(missing), time.monotonic()
            if time.monotonic() - since > seconds:
                raise UsageError(f"{self.folder}: {len(missing)} rows of other ranks did not come; start again")
            time.sleep(POLL)

    def join(self, order: dict[Key, int]) -> list[PredictionLine]:
        """Join all ranks' files into one, in the `order` of rows, each sample once (its first); returns their lines.

        Rows that are not in `order` (`--limit` was larger before) stay at the end of the file.
        """
        first: dict[tuple[Key, int], PredictionLine] = {}
        for line in self.lines():
            first.setdefault(((line["mode"], line["row"]), line["sample"]), line)
        ranked = sorted(first.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0][1]))
        joined = [line for (_, sample), line in ranked if sample < self.samples]
        write_predictions(self.folder / PREDICTIONS, joined)
        for path in prediction_files(self.folder):
            if path.name != PREDICTIONS:
                path.unlink()
        join_counts(self.folder)
        return [line for line in joined if (line["mode"], line["row"]) in order]


def prediction_files(folder: Path) -> list[Path]:
    """The predictions files of all ranks in a folder."""
    return sorted(folder.glob("predictions*.jsonl"))


def evaluation_differences(folder: Path, about: dict[str, Any]) -> list[str]:
    """Messages of how `about` differs from that of the predictions in a folder; [] where they are equal or absent."""
    if not (folder / ABOUT).exists():
        paths = prediction_files(folder)
        return [f"{paths[0].name} without {ABOUT}"] if paths else []
    before = json.loads((folder / ABOUT).read_bytes())
    about = {name: value for name, value in about.items() if name in before or name not in ONCE_UNRECORDED}
    names = [name for name in {**before, **about} if before.get(name) != about.get(name)]
    return [f"{name} was {shorten(before.get(name))}, is {shorten(about.get(name))}" for name in names]


def write_predictions(path: Path, lines: Iterable[PredictionLine]) -> None:
    """Write a file of predictions atomically."""
    with atomic_write(path) as file:
        file.writelines(prediction_line(line).encode() for line in lines)


def save_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / SUMMARY) as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode("ascii"))


def prediction_line(line: PredictionLine) -> str:
    """A line as JSON in ASCII, as a completion may hold lone surrogates.

    >>> prediction_line({"completion": "\\ud800"})
    '{"completion": "\\\\ud800"}\\n'
    """
    return json.dumps(line, default=json_value) + "\n"


def json_value(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's, for JSON; raises TypeError for other objects."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"got {type(value).__name__}, expected what JSON can hold")
    return value.tolist()
