"""Writes logs and reports without ending the run on an OSError: it warns once, and tries again at the next write."""

import json
import logging
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import append
from open_r1.report.checks import MUST_BE_FINITE

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000  # lines of metrics that wait in memory for room on the disk, about 15 MB


class TolerantWriter:
    """`with writer(path, "the consequence"):` writes a file: OSError (a full disk, a quota, a lost mount) becomes a
    warning, once until the file can be written again."""

    def __init__(self) -> None:
        self.failing: set[Path] = set()

    @contextmanager
    def __call__(self, path: Path, consequence: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if path not in self.failing:
                self.failing.add(path)
                remedy = "Free space on its disk: the next checkpoint needs it too"
                logger.warning("%s: cannot be written (%s); the run goes on, %s. %s", path, error, consequence, remedy)
            return
        if path in self.failing:
            self.failing.remove(path)
            logger.warning("%s: can be written again", path)


class MetricsFile:
    """`metrics.jsonl`, line by line. After a failed write the newest `MAX_PENDING` lines wait in memory, and go
    before the next line."""

    def __init__(self, path: Path, writer: TolerantWriter):
        self.path, self.writer = path, writer
        self.pending: deque[str] = deque(maxlen=MAX_PENDING)
        self.dropped = 0

    def add(self, line: dict[str, Any]) -> None:
        """Write a line after those that wait."""
        self.dropped += len(self.pending) == MAX_PENDING
        self.pending.append(json.dumps(line) + "\n")
        with self.writer(self.path, f"the newest {MAX_PENDING:,} lines wait in memory until they can be written"):
            append(self.path, "".join(self.pending))
            self.pending.clear()

    def close(self) -> None:
        """Warn of the number of lines that the file lacks at the end of a run."""
        if count := self.dropped + len(self.pending):
            logger.warning("%s: could not be written: %d lines are lacking", self.path, count)


def metrics_line(step: int, logs: dict[str, Any]) -> dict[str, Any]:
    """A log as JSON: without NaN, which means "does not apply", except for metrics that always apply (`not_finite`).

    >>> metrics_line(3, {"reward": 1.0, "loss": float("nan"), "rewards/mine/mean": float("nan")})
    {'step': 3, 'reward': 1.0, 'not_finite': ['loss']}
    """
    nonfinite = [key for key, value in logs.items() if isinstance(value, float) and not math.isfinite(value)]
    line = {"step": step, **{key: value for key, value in logs.items() if key not in nonfinite}}
    bad = [key for key in nonfinite if key in MUST_BE_FINITE]
    return line | ({"not_finite": bad} if bad else {})
