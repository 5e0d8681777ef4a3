"""Rows that are to be answered and have no gold answer: a stand-in passes the checks, and nothing is scored by it.

Only inference (`eval/infer.py`, `eval/demo.py`) reads such rows; training and evaluation refuse them. (torch-free)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from open_r1.data.jsonl_index import decode_row
from open_r1.data.record import Record
from open_r1.data.row_formats import ROLES, row_format

MARK = "no_gold"  # the extra field of a row with a stand-in
TEXTS = {"conversations": ("from", "value"), "messages": ("role", "content")}


def has_gold(record: Record) -> bool:
    """Whether the record's solution is a gold answer.

    >>> has_gold(Record("1", (), "", (), "3")), has_gold(Record("1", (), "", (), "-", {"no_gold": True}))
    (True, False)
    """
    return not record.extra.get(MARK)


def with_stand_in(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row as it is, or where it has no gold answer marked, with a stand-in. Raises DataError for no known shape.

    >>> with_stand_in({"problem": "How many?", "image": "a.png"}, "a.jsonl:1")
    {'problem': 'How many?', 'image': 'a.png', 'solution': '-', 'no_gold': True}
    """
    shape = row_format(row, where)
    gold = "A" if row.get("options") or row.get("choices") else "-"  # a letter: the method reads which is chosen
    if shape == "problem":
        return row if row.get("solution") is not None else row | {"solution": gold, MARK: True}
    role, text = TEXTS[shape]
    turns = row[shape]
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict):
        return row  # refused where rows are read, with the reason
    if ROLES.get(str(turns[-1].get(role))) != "user":
        return row
    return row | {shape: [*turns, {role: "assistant", text: gold}], MARK: True}


def with_stand_ins(paths: Sequence[str], folder: Path) -> list[str]:
    """The files, each that has rows without gold replaced by a copy `folder/NUMBER/NAME` with stand-ins, line by line.

    Raises DataError for a line that is no JSON, and OSError for a file that cannot be read.
    """
    return [_filled(path, folder / str(number)) for number, path in enumerate(paths)]


def _filled(path: str, folder: Path) -> str:
    lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    rows = [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    if not any(isinstance(row, dict) and row.get(MARK) for row in rows):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / Path(path).name
    copy.write_bytes(b"\n".join(b"" if row is None else orjson.dumps(row) for row in rows) + b"\n")
    return str(copy)


def _row(line: bytes, where: str) -> Any:
    """The row of a line, None for a blank one."""
    row = decode_row(line, where) if line.strip() else None
    return with_stand_in(row, where) if isinstance(row, dict) else row
