"""Files for people must not end a run: where one cannot be written, the run goes on, says so once and tries again."""

import json
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import append

logger = logging.getLogger(__name__)

WAITING = 10_000  # lines of metrics that wait for room, about 15 MB


class TolerantWriter:
    """`with forgiving(path, "what is lost"):` writes a file: OSError (a full disk, a quota, a lost mount) becomes a
    warning, once until the file can be written again."""

    def __init__(self) -> None:
        self.failing: set[Path] = set()

    @contextmanager
    def __call__(self, path: Path, lost: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if path not in self.failing:
                self.failing.add(path)
                remedy = "Free space on its disk: the next checkpoint needs it too"
                logger.warning("%s: cannot be written (%s); the run goes on, %s. %s", path, error, lost, remedy)
            return
        if path in self.failing:
            self.failing.remove(path)
            logger.warning("%s: can be written again", path)


class MetricsFile:
    """`metrics.jsonl`, line by line. What cannot be written waits in memory, the newest `WAITING` lines, and goes
    before the next line that can be written."""

    def __init__(self, path: Path, forgiving: TolerantWriter):
        self.path, self.forgiving = path, forgiving
        self.waiting: deque[str] = deque(maxlen=WAITING)
        self.dropped = 0

    def add(self, line: dict[str, Any]) -> None:
        self.dropped += len(self.waiting) == WAITING
        self.waiting.append(json.dumps(line) + "\n")
        with self.forgiving(self.path, f"the newest {WAITING:,} lines wait in memory until they can be written"):
            append(self.path, "".join(self.waiting))
            self.waiting.clear()

    def close(self) -> None:
        """Says how many lines the file lacks at the end of a run."""
        if lacking := self.dropped + len(self.waiting):
            logger.warning("%s: could not be written: %d lines are lacking", self.path, lacking)
