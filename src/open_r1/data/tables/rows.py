"""Reads rows of a table (a parquet file, a split of `datasets`) as objects like those of JSON lines. (torch-free)

Names of classes stand for their numbers, `image_1`, `image_2`, ... become `images` in the order of their `<image 2>`
tags, null fields are left out, and so are columns of bytes that are no picture or video of the row.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from open_r1.data.field_names import IMAGE_FIELDS, VIDEO_FIELDS, renamed
from open_r1.data.row_formats import IMAGE_TAG
from open_r1.errors import data_error, shorten

ROWS_AT_ONCE = 64  # rows in memory, with their pictures and videos, or fewer where these are large
BYTES_AT_ONCE = 256 << 20
_MAGIC = b"PAR1"
_NUMBERED = re.compile(r"(?:image|img|picture)s?[_ ]?(\d+)", re.I)
_NUMBERED_TAG = re.compile(r"<image[_ ]?(\d+)>", re.I)
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Table:
    """A table to read. `where` opens every message, `identity` (as JSON holds it) changes with the content."""

    where: str
    identity: object
    schema: pa.Schema
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]

    def objects(self) -> Iterator[dict[str, Any]]:
        """Each row as an object. Raises DataError where the file is damaged."""
        names = class_names(self.schema)
        try:
            for batch in self.batches():
                for row in batch.to_pylist():
                    yield row | {key: _class_name(row[key], labels) for key, labels in names.items()}
        except (pa.ArrowException, OSError) as error:
            raise data_error(self.where, "file", f"{error}", "a whole parquet file", "copy the file again") from error


def _class_name(number: int | None, names: list[str]) -> str | None:
    return names[number] if number is not None and 0 <= number < len(names) else None


def is_parquet(path: str) -> bool:
    """Whether a file is parquet: by its first bytes, or by its name where they are others."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) == _MAGIC or path.lower().endswith((".parquet", ".parq"))


def parquet_table(path: str) -> Table:
    """A parquet file, of which only the schema is read. Raises DataError for a file that is damaged or none."""
    status = Path(path).stat()
    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
    try:
        with pq.ParquetFile(path) as file:
            schema, rows, facts = file.schema_arrow, file.metadata.num_rows, file.metadata
            size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise data_error(path, "file", *_damage(path, error)) from error

    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(rows_at_once(rows, size))

    return Table(path, identity, schema, rows, batches)


def rows_at_once(rows: int, size: int) -> int:
    """How many of a table's rows are in memory at once, of `size` bytes in all.

    >>> rows_at_once(1000, 1 << 20), rows_at_once(100, 100 << 25), rows_at_once(2, 1 << 40), rows_at_once(0, 0)
    (64, 8, 1, 64)
    """
    return max(1, min(ROWS_AT_ONCE, rows * BYTES_AT_ONCE // max(1, size))) if rows else ROWS_AT_ONCE


def _damage(path: str, error: Exception) -> tuple[str, str, str]:
    """(got, expected, remedy) of a file that is no whole parquet file."""
    with open(path, "rb") as file:
        begin = file.read(64)
    if begin.startswith(_LFS):
        return "a Git LFS pointer, without the data", "a parquet file", "fetch the data: git lfs pull"
    got = f"a file that begins with {shorten(begin[:12])}" if not begin.startswith(_MAGIC) else str(error)
    return got, "a whole parquet file", "copy or download the file again"


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its classes, of `datasets`' ClassLabel columns."""
    notes = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = notes.get("info", {}).get("features", {})
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and name in schema.names
    }


class ColumnReader:
    """Makes rows in the shape of a JSON line: `fields` gives our name -> the table's, dots lead into objects."""

    def __init__(self, schema: pa.Schema, fields: Mapping[str, str]):
        self.fields = fields
        self.numbered = numbered_columns([*fields, *schema.names])
        media = {*IMAGE_FIELDS, *VIDEO_FIELDS, *self.numbered.values(), "messages"}
        self.left_out = [name for name in renamed(opaque_columns(schema), fields) if name not in media]

    def row(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The row without null fields, its pictures as their cells. Raises DataError for what has no meaning."""
        named = renamed(row, self.fields)
        plain = {key: value for key, value in named.items() if value is not None and key not in self.left_out}
        if not plain.keys() & {"conversations", "messages"}:
            plain |= {key: None for key in ("problem", "solution") if key in named and key not in plain}
        solution = plain.get("solution")
        if isinstance(solution, list) and solution and all(isinstance(text, str) for text in solution):
            plain["solution"] = _only_text(solution, where)
        if isinstance(turns := plain.get("problem"), list):  # a prompt in the form of a chat
            answer = {"role": "assistant", "content": plain.pop("solution", None)}
            plain["messages"] = [*turns, answer]
            del plain["problem"]
        return with_numbered_images(plain, self.numbered, where) if self.numbered else plain


def _only_text(texts: list[str], where: str) -> str:
    """The text of a list of one. Raises DataError for several: a row has one gold answer."""
    if len(texts) == 1:
        return texts[0]
    remedy = "choose one, or make rows of it with python -m open_r1.convert"
    raise data_error(where, "solution", f"{len(texts)} texts ({shorten(texts)})", "one answer", remedy)


def opaque_columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Columns that hold bytes somewhere, which no JSON line can hold."""
    return {column.name: column.type for column in schema if holds_bytes(column.type)}


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type hold bytes, at any depth."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


def numbered_columns(names: list[str]) -> dict[int, str]:
    """Number -> column of `image_1`, `image_2`, ...; empty where there is a column `image` or `images`.

    >>> numbered_columns(["id", "image_2", "image_1"])
    {1: 'image_1', 2: 'image_2'}
    """
    if set(names) & set(IMAGE_FIELDS):
        return {}
    found = {int(match[1]): name for name in names if (match := _NUMBERED.fullmatch(name))}
    return dict(sorted(found.items()))


def with_numbered_images(row: dict[str, Any], columns: Mapping[int, str], where: str) -> dict[str, Any]:
    """The row with `images` in place of its numbered columns, and `<image>` in place of its numbered tags.

    Raises DataError for a tag without a picture, and for a picture without a tag beside others that have one.
    """
    pictures = {k: row[name] for k, name in columns.items() if row.get(name) is not None}
    rest = {name: value for name, value in row.items() if name not in columns.values()}
    text = rest.get("problem")
    tags = [int(k) for k in _NUMBERED_TAG.findall(text)] if isinstance(text, str) else []
    if not tags:
        return rest | ({"images": list(pictures.values())} if pictures else {})
    if odd := set(tags) ^ set(pictures):
        got = ", ".join(f"<image {k}> without a picture" if k in tags else f"{columns[k]} without a tag" for k in odd)
        raise data_error(
            where, IMAGE_TAG, got, "a tag for each picture of the row", "correct the text, or remove the row"
        )
    return rest | {"problem": _NUMBERED_TAG.sub(IMAGE_TAG, text), "images": [pictures[k] for k in tags]}
