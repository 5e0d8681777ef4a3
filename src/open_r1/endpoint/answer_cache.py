"""What was paid for is kept: an append-only file of answers, so that a killed run goes on and pays nothing twice.

One JSON line an answer, `{"key": ..., "value": {...}}`, on the disk before it is used. (torch-free)
"""

import fcntl
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_index import decode_row
from open_r1.data.jsonl_io import append
from open_r1.errors import UsageError, data_error


def journal_key(row: Any, prompt: Any, model: str) -> str:
    """SHA-256 of what an answer depends on, as canonical JSON; another row, prompt or model is another question.

    >>> journal_key({"id": "1"}, "2+2?", "m") == journal_key({"id": "1"}, "2+2?", "m") != journal_key(1, "2+2?", "m")
    True
    """
    text = json.dumps([row, prompt, model], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """The answers in `path`, a new file or that of an earlier run; one process at a time.

    A last line that a kill cut is taken off: its question is asked again. Raises UsageError where another process
    holds the file, and DataError (`file:line`) for a line inside it that is no entry.
    """

    def __init__(self, path: Path):
        self.path, self.asked, self.found = path, 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 (kept open, and locked, for the life of the journal)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path}: got a journal in use, expected one run at a time; wait for the other") from None
        self._values = self._read()
        self._writing = threading.Lock()
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def __len__(self) -> int:
        return len(self._values)

    def once(self, key: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The value of `key`: the one kept, or else what `ask` returns, which is kept first. Threads share one asking.

        What `ask` raises is raised, and nothing is kept.
        """
        with self._writing:
            asking = self._asking[key]
        with asking:
            if key not in self._values:
                return self._keep(key, ask())
        with self._writing:
            self.found += 1
        return self._values[key]

    def close(self) -> None:
        """Let another process use the file."""
        self._file.close()

    def _keep(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps({"key": key, "value": value}) + "\n"
        with self._writing:
            append(self.path, line, sync=True)
            self._values[key] = value
            self.asked += 1
        return value

    def _read(self) -> dict[str, dict[str, Any]]:
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if lines[-1]:  # no newline behind it: a write was cut, in its middle or just before its end
            lines += self._repair(lines.pop())
        entries = (self._entry(line, f"{self.path}:{number}") for number, line in enumerate(lines[:-1], 1))
        return dict(entries)

    def _repair(self, tail: bytes) -> list[bytes]:
        """Complete a last line that lacks its newline only, or cut it off; the lines that the file then ends in."""
        try:
            json.loads(tail)
        except ValueError:  # JSON cut short, or bytes cut inside a letter
            self._file.truncate(self._file.tell() - len(tail))
            return [b""]
        self._file.write(b"\n")
        self._file.flush()
        return [tail, b""]

    @staticmethod
    def _entry(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
        entry = decode_row(line, where)
        if not isinstance(entry, dict) or set(entry) != {"key", "value"} or not isinstance(entry["value"], dict):
            remedy = "remove the line, or name another --journal"
            raise data_error(where, "line", "no journal entry", '{"key": ..., "value": {...}}', remedy)
        return entry["key"], entry["value"]
