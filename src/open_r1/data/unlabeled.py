"""Rows without a gold answer: a placeholder lets them pass the checks, and they are never scored. (torch-free)

Only inference (`eval/infer.py`, `eval/demo.py`) reads such rows; training and evaluation refuse them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from open_r1.data.field_names import AS_NAMED, Renaming, renamed
from open_r1.data.gold_answers import ANSWER_NAMES
from open_r1.data.jsonl_index import decode_row
from open_r1.data.record import Record
from open_r1.data.row_formats import ROLES, TURN_KEYS, row_format
from open_r1.data.tables.rows import is_parquet

PLACEHOLDER_FIELD = "no_gold"  # extra field of a row with a placeholder answer


def has_gold(record: Record) -> bool:
    """Whether the record's solution is a gold answer and no placeholder.

    >>> has_gold(Record("1", (), "", (), "3")), has_gold(Record("1", (), "", (), "-", {"no_gold": True}))
    (True, False)
    """
    return not record.extra.get(PLACEHOLDER_FIELD)


def with_placeholder(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row; without a gold answer, with a placeholder and a mark. Raises DataError for an unknown row format.

    >>> with_placeholder({"problem": "How many?", "image": "a.png"}, "a.jsonl:1")
    {'problem': 'How many?', 'image': 'a.png', 'solution': '-', 'no_gold': True}
    """
    shape = row_format(row, where)
    if any(row.get(name) is not None for name in ANSWER_NAMES):
        return row  # its gold answer, or one that the row parser refuses, with the reason
    gold = "A" if row.get("options") or row.get("choices") else "-"  # the method expects an option letter
    turns = row.get(shape)
    if shape == "problem" or not isinstance(turns, list):
        return row | {"solution": gold, PLACEHOLDER_FIELD: True} if shape == "problem" else row
    last = turns[-1] if turns and isinstance(turns[-1], dict) else {}
    role, text = next((keys for keys in TURN_KEYS if keys[0] in last), TURN_KEYS[0])
    if ROLES.get(str(last.get(role))) != "user":
        return row
    return row | {shape: [*turns, {role: "assistant", text: gold}], PLACEHOLDER_FIELD: True}


def files_with_placeholders(paths: Sequence[str], folder: Path, renaming: Renaming = AS_NAMED) -> list[str]:
    """The paths; a file with rows without gold is replaced by its copy with placeholders, `folder/NUMBER/NAME`.

    Lines keep their numbers; a parquet file stays as it is. Raises DataError for a line that is no JSON, and OSError
    for a file that cannot be read.
    """
    return [
        path if is_parquet(path) else _file_with_placeholders(path, folder / str(number), renaming.fields)
        for number, path in enumerate(paths)
    ]


def _file_with_placeholders(path: str, folder: Path, fields: Mapping[str, str]) -> str:
    lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    rows = [_row(line, f"{path}:{number}", fields) for number, line in enumerate(lines, 1)]
    if not any(isinstance(row, dict) and row.get(PLACEHOLDER_FIELD) for row in rows):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / Path(path).name
    copy.write_bytes(b"\n".join(b"" if row is None else orjson.dumps(row) for row in rows) + b"\n")
    return str(copy)


def _row(line: bytes, where: str, fields: Mapping[str, str]) -> Any:
    """The row of a line with its placeholder, which the same renaming reads again; None for a blank line."""
    row = renamed(decode_row(line, where), fields) if line.strip() else None
    if not isinstance(row, dict):
        return row
    placed = with_placeholder(row, where)
    return placed | {theirs: placed[ours] for ours, theirs in fields.items() if ours in placed}
