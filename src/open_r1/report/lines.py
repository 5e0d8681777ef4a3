"""Reading the JSON lines that a run appends to, also after a crash in the middle of one. (torch-free)"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. A line that a crash cut, alone or joined to its successor, is left out."""
    return [row for line in path.read_text(encoding="utf-8").splitlines() if (row := parse(line)) is not None]


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Leave the objects that are wanted in a file, where there is one; cut lines go. Returns the last one left."""
    if not path.exists():
        return None
    last, rest = None, path.with_name(f"{path.name}.part")
    with open(path, encoding="utf-8") as old, open(rest, "w", encoding="utf-8") as new:
        for line in old:
            if (row := parse(line)) is not None and wanted(row):
                new.write(line if line.endswith("\n") else f"{line}\n")
                last = row
    rest.replace(path)
    return last


def parse(line: str) -> dict[str, Any] | None:
    """One line's object, or None where it is cut. NaN and Infinity, which JSON does not have, are read as null.

    >>> parse('{"step": 1, "kl": Infinity}'), parse('{"step": 2, "rew{"step": 3}')
    ({'step': 1, 'kl': None}, None)
    """
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except json.JSONDecodeError:
        return None
