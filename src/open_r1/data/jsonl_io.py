"""Crash-safe files: JSON lines appended whole and read past a cut one, files replaced in one step. (torch-free)"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """(line, object) of each line of a JSONL file; skips a line that a crash cut, alone or joined to the next one."""
    with open(path, "rb") as file:
        for line in file:
            if (row := parse_line(line)) is not None:
                yield line, row


def each_line(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, one at a time; skips cut lines."""
    return (row for _, row in whole_lines(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file as a list; skips cut lines."""
    return list(each_line(path))


def keep_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Removes the objects for which `keep` is false, and cut lines, from a file; returns the last object that stays.

    A missing file stays missing. Raises OSError where the new file cannot be written; the old one is then unchanged.
    """
    if not path.exists():
        return None
    last = None
    with atomic_write(path) as new:
        for line, row in whole_lines(path):
            if keep(row):
                new.write(line if line.endswith(b"\n") else line + b"\n")
                last = row
        new.flush()
        os.fsync(new.fileno())  # the replaced file cannot be made again
    return last


def append(path: Path, text: str, sync: bool = False) -> None:
    """Appends lines to a file, on a new line even where the last one was cut; `sync` waits for the disk.

    Raises OSError where the disk has no room for all of them; the file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = memoryview(text.encode("utf-8", errors="backslashreplace"))
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                file.write(b"\n")
            while rest:  # a disk that becomes full writes a part first
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def atomic_write(path: Path, owner: str = "") -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` when the block ends; it is deleted where the block fails.

    Until then its name is PATH.part, or PATH.OWNER.part: processes that may write the same file at the same time each
    pass their own `owner`.
    """
    part = path.with_name(f"{path.name}.{owner}.part" if owner else f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_line(line: str | bytes) -> dict[str, Any] | None:
    """The object of one line, or None for a cut line. NaN and Infinity, which JSON does not have, are read as null.

    >>> parse_line('{"step": 1, "kl": Infinity}'), parse_line('{"step": 2, "rew{"step": 3}')
    ({'step': 1, 'kl': None}, None)
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return row if isinstance(row, dict) else None
