"""A bounded cache of small values by key: in memory, and in a file that several processes may share. (torch-free)

Unlike `AnswerCache`, whose journal keeps every answer of one command, it forgets: the oldest entries go first.
"""

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_r1.errors import UsageError

IN_MEMORY = 65_536  # entries
LOCKED_SECONDS = 30.0  # of waiting for another process
_TABLE = (
    "CREATE TABLE IF NOT EXISTS verdicts (number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, value TEXT NOT NULL)"
)


class VerdictCache:
    """Values (JSON) by key. `path` is an SQLite file of at most `most` entries, about 200 bytes each; None: memory
    alone. Raises UsageError for a file that is no such cache or cannot be written."""

    def __init__(self, path: Path | None = None, most: int = 500_000):
        self.path, self.most = path, most
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._key_locks = [threading.Lock() for _ in range(64)]
        self._file = None if path is None else self._opened(path)

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        with self._lock:
            if key not in self._values and self._file is not None:
                with self._file_errors():
                    found = self._file.execute("SELECT value FROM verdicts WHERE key = ?", (key,)).fetchone()
                    if found:
                        self._remember(key, json.loads(found[0]))
            return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps a value; the oldest of more than `most` leave the file."""
        with self._lock:
            self._remember(key, value)
            if self._file is None:
                return
            with self._file_errors(), self._file:  # one transaction
                self._file.execute(
                    "INSERT OR REPLACE INTO verdicts (key, value) VALUES (?, ?)", (key, json.dumps(value))
                )
                self._file.execute(
                    "DELETE FROM verdicts WHERE number <= (SELECT max(number) FROM verdicts) - ?", (self.most,)
                )

    def get_or_ask(self, key: str, ask: Callable[[], Any]) -> tuple[Any, bool]:
        """(value, whether it was known); threads with one key call `ask` once. What it raises is not kept."""
        with self._key_locks[hash(key) % len(self._key_locks)]:
            if (known := self.get(key)) is not None:
                return known, True
            self.put(key, value := ask())
            return value, False

    def _remember(self, key: str, value: Any) -> None:
        self._values[key] = value
        if len(self._values) > IN_MEMORY:
            self._values.popitem(last=False)

    def _opened(self, path: Path) -> sqlite3.Connection:
        with self._file_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(path, timeout=LOCKED_SECONDS, check_same_thread=False)
            with file:
                file.execute(_TABLE)
            return file

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        """Names the file in errors of the database and of what it holds."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            remedy = "name another file, or remove this one"
            got = f"{self.path} ({error})"
            raise UsageError(f"$JUDGE_CACHE: got {got}, expected a cache of verdicts; {remedy}") from error
