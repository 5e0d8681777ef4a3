"""Files that survive a crash: JSON lines appended whole or not at all and read past a cut one; files replaced at once.
(torch-free)"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line of a file of JSON lines with its object. A line that a crash cut, alone or joined to its successor, is
    left out."""
    with open(path, "rb") as file:
        for line in file:
            if (row := parse_line(line)) is not None:
                yield line, row


def each_line(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of `whole_lines`, one at a time."""
    return (row for _, row in whole_lines(path))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All of `each_line`."""
    return list(each_line(path))


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Leave the objects that are wanted in a file, where there is one; cut lines go. Returns the last one left.

    Raises OSError where the new file cannot be written; the old one is then as it was.
    """
    if not path.exists():
        return None
    last = None
    with atomic_write(path) as new:
        for line, row in whole_lines(path):
            if wanted(row):
                new.write(line if line.endswith(b"\n") else line + b"\n")
                last = row
        new.flush()
        os.fsync(new.fileno())  # what it replaces cannot be made again
    return last


def append(path: Path, text: str, sync: bool = False) -> None:
    """Add lines to a file, on a line of their own even where the last one was cut; `sync`: they are on the disk then.

    Raises OSError where there is no room for all of them; the file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = memoryview(text.encode("utf-8", errors="backslashreplace"))
    with open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                file.write(b"\n")
            while rest:  # a disk that becomes full takes a part first
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def atomic_write(path: Path, owner: str = "") -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once it is whole; nothing is left of it where that fails.

    Until then it is PATH.part. Processes that may write the same file at once each give their own `owner`:
    PATH.OWNER.part.
    """
    part = path.with_name(f"{path.name}.{owner}.part" if owner else f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_line(line: str | bytes) -> dict[str, Any] | None:
    """One line's object, or None where it is cut. NaN and Infinity, which JSON does not have, are read as null.

    >>> parse_line('{"step": 1, "kl": Infinity}'), parse_line('{"step": 2, "rew{"step": 3}')
    ({'step': 1, 'kl': None}, None)
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return row if isinstance(row, dict) else None
