"""A cache of endpoint answers on disk: a killed run continues, and no answer is paid for twice. (torch-free)

One JSON line for each answer, `{"key": ..., "value": {...}}`, synced to the disk before the answer is used.
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


def answer_key(row: Any, prompt: Any, model: str) -> str:
    """The key of an answer: SHA-256 of its row, prompt and model as canonical JSON.

    >>> answer_key({"id": "1"}, "2+2?", "m") == answer_key({"id": "1"}, "2+2?", "m") != answer_key(1, "2+2?", "m")
    True
    """
    text = json.dumps([row, prompt, model], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """The answers in `path`, a new file or that of an earlier run; locked for one process.

    `requests` counts the new answers, `hits` those taken from the file. A last line that was cut by a kill is removed,
    and its question is sent again. Raises UsageError where another process has locked the file, and DataError
    (`file:line`) for a line that is no entry.
    """

    def __init__(self, path: Path):
        self.path, self.requests, self.hits = path, 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 (stays open and locked as long as this object)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path}: got a journal in use, expected one run at a time; wait for the other") from None
        self._values = self._read()
        self._writing = threading.Lock()
        self._key_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def __len__(self) -> int:
        return len(self._values)

    def get_or_ask(self, key: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cached value of `key`, or else what `ask` returns, stored first. Threads with one key call `ask` once.

        An error that `ask` raises is raised, and nothing is stored.
        """
        with self._writing:
            key_lock = self._key_locks[key]
        with key_lock:
            if key not in self._values:
                return self._store(key, ask())
        with self._writing:
            self.hits += 1
        return self._values[key]

    def close(self) -> None:
        """Closes and unlocks the file for other processes."""
        self._file.close()

    def _store(self, key: str, value: dict[str, Any]) -> dict[str, Any]:
        line = json.dumps({"key": key, "value": value}) + "\n"
        with self._writing:
            append(self.path, line, sync=True)
            self._values[key] = value
            self.requests += 1
        return value

    def _read(self) -> dict[str, dict[str, Any]]:
        """The entries of the file, after the repair of its last line."""
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if lines[-1]:  # no final newline: the last write was cut
            lines += self._repair(lines.pop())
        entries = (self._entry(line, f"{self.path}:{number}") for number, line in enumerate(lines[:-1], 1))
        return dict(entries)

    def _repair(self, tail: bytes) -> list[bytes]:
        """Completes a last line that lacks only its newline, or cuts it off; returns the lines that the file then ends
        in."""
        try:
            json.loads(tail)
        except ValueError:  # JSON that was cut, perhaps inside a character
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
