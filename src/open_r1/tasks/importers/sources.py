"""A file or folder that may be of any format: what its bytes are, its rows one by one, its document as a whole.

The kind is told by content: a JSON array named `.jsonl`, or a CSV named `.txt`, is what it holds. (torch-free)
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from open_r1.errors import data_error
from open_r1.tasks.importers.splits import SPLIT_WORDS

MAGIC = {  # first bytes -> what the file is, where it is no text
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
PACKED = {  # -> what to do
    "zip": "unpack it first (unzip FILE)",
    "gzip": "unpack it first (gunzip FILE, or tar xzf FILE)",
    "UTF-16": "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
}
BOM = b"\xef\xbb\xbf"
ROW_LISTS = ("data", "questions", "rows", "samples", "examples")  # of a JSON object, where its rows may stand
_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
EMPTY_CELLS = frozenset({"NaN", "nan", "<NA>"})  # as pandas writes a cell without a value
DELIMITERS = "\t,;|"
csv.field_size_limit(1 << 30)  # a base64 picture in a cell


class Unusable(ValueError):
    """An item of a source that becomes no row; its text is the reason."""


@dataclass(frozen=True)
class Source:
    """One file or folder; what it holds is read when it is asked for, and kept."""

    path: Path

    @cached_property
    def kind(self) -> str:
        """folder | saved (by `save_to_disk`) | json | jsonl | parquet | csv | xml | text | zip | gzip | ..."""
        if self.path.is_dir():
            is_saved = any((self.path / name).exists() for name in ("state.json", "dataset_dict.json"))
            return "saved" if is_saved else "folder"
        with open(self.path, "rb") as file:
            head = file.read(1 << 16)
        for magic, kind in MAGIC.items():
            if head.startswith(magic):
                return kind
        start = head.removeprefix(BOM).lstrip()
        if start.startswith(b"<"):
            return "xml"
        if start[:1] in (b"[", b"{"):
            return "jsonl" if _is_jsonl(self.path) else "json"
        return "csv" if _delimiter(head) else "text"

    @cached_property
    def document(self) -> Any:
        """The value of a JSON file. Raises DataError where it is broken."""
        try:
            return orjson.loads(self.path.read_bytes().removeprefix(BOM))
        except orjson.JSONDecodeError as error:
            got, remedy = f"broken JSON ({error.msg} in line {error.lineno})", "correct the file, or write it again"
            if constant := no_number(self.path.read_bytes()):
                got, remedy = f"{constant}, which is no JSON", "write a number or null in its place"
            raise data_error(str(self.path), "file", got, "JSON or JSONL", remedy) from error

    @cached_property
    def first(self) -> Mapping[str, Any]:
        """The first row that is an object; empty where the source has no such rows."""
        if self.kind not in ROW_READERS:
            return {}
        rows = (row for _, row in itertools.islice(self.rows(), 100))
        return next((row for row in rows if isinstance(row, Mapping)), {})

    def rows(self) -> Iterator[tuple[str, Any]]:
        """(place, row) of each row; Unusable stands for a line that cannot be read. Raises DataError for a source
        without rows, or broken as a whole."""
        if self.kind not in ROW_READERS:
            remedy = PACKED.get(self.kind, "give a JSON, JSONL, CSV or parquet file")
            raise data_error(str(self.path), "file", f"a file of kind {self.kind}", "a file of rows", remedy)
        for place, row in ROW_READERS[self.kind](self):
            yield f"{self.path}:{place}", row


def no_number(text: bytes) -> str:
    """The first NaN or Infinity outside of strings, its line and column and what stands before it; "" without one.

    >>> no_number(b'{"a": "NaN",\\n "b": [1, NaN]}'), no_number(b'["NaN"]')
    ('NaN in line 2, column 11, after "b": [1,', '')
    """
    found = next((found for found in _CONSTANT.finditer(text) if found[1]), None)
    if found is None:
        return ""
    before = text[: found.start()]
    line, start = before.count(b"\n") + 1, before.rfind(b"\n") + 1
    shown = before[max(start, len(before) - 50) :].decode(errors="ignore").strip()
    return f"{found[1].decode()} in line {line}, column {found.start() - start + 1}" + (
        f", after {shown}" if shown else ""
    )


def _is_jsonl(path: Path) -> bool:
    """Whether the first line that is not blank is a whole JSON object, and another line follows."""
    with open(path, "rb") as file:
        lines = (line.removeprefix(BOM).strip() for line in file)
        first, second = itertools.islice(itertools.chain(filter(None, lines), (b"", b"")), 2)
    return bool(second) and _is_object(first)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _delimiter(head: bytes) -> str:
    """What separates the cells of a table with a header, "" where the text is none."""
    text = head.removeprefix(BOM).decode(errors="ignore")
    for delimiter in DELIMITERS:
        rows = list(itertools.islice(csv.reader(io.StringIO(text), delimiter=delimiter), 4))
        names = rows[0] if rows else []
        if len(rows) > 1 and 1 < len(names) == len(rows[1]) and all(map(_is_name, names)):
            return delimiter
    return ""


def _is_name(cell: str) -> bool:
    """Whether a cell may be the name of a column."""
    return 0 < len(cell.strip()) <= 64 and "\n" not in cell and any(map(str.isalpha, cell))


def _json_rows(source: Source) -> Iterator[tuple[int | str, Any]]:
    """The rows of an array, of an object of rows by id or of lists by split, or within "data" or the like."""
    document = source.document
    if isinstance(document, dict):
        document = next((document[name] for name in ROW_LISTS if isinstance(document.get(name), list)), document)
    if isinstance(document, list):
        yield from enumerate(document, 1)
    elif not document or not all(isinstance(value, (dict, list)) for value in document.values()):
        yield 1, document
    elif all(isinstance(value, dict) for value in document.values()):
        yield from ((key, {"id": key, **row}) for key, row in document.items())
    elif document.keys() <= set(SPLIT_WORDS):
        for split, rows in document.items():
            for number, row in enumerate(rows, 1):
                yield f"{split}:{number}", {"split": split, **row} if isinstance(row, dict) else row
    else:
        yield 1, document


def _jsonl_rows(source: Source) -> Iterator[tuple[int, Any]]:
    with open(source.path, "rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(BOM) if number == 1 else line
            if text.strip():
                try:
                    yield number, orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    constant = no_number(text).partition(" ")[0]
                    yield (
                        number,
                        Unusable(f"{constant}, which is no JSON" if constant else f"broken JSON: {error.msg}"),
                    )


def _csv_rows(source: Source) -> Iterator[tuple[int, Any]]:
    with open(source.path, "rb") as binary:
        delimiter = _delimiter(binary.read(1 << 16))
    try:
        with open(source.path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, restkey="")
            for row in reader:
                is_whole = "" not in row and None not in row.values()
                yield (
                    reader.line_num,
                    {name: "" if cell in EMPTY_CELLS else cell for name, cell in row.items()}
                    if is_whole
                    else Unusable("a line with more or fewer cells than the header"),
                )
    except UnicodeDecodeError as error:
        got, remedy = f"byte 0x{error.object[error.start]:02x}", "convert the file, as with iconv -f latin1 -t UTF-8"
        raise data_error(str(source.path), "file", got, "UTF-8", remedy) from error


def _parquet_rows(source: Source) -> Iterator[tuple[int, Any]]:
    number = itertools.count(1)
    try:
        for batch in pq.ParquetFile(source.path).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                yield next(number), row
    except (pa.ArrowInvalid, OSError) as error:
        got, remedy = f"broken parquet ({str(error).splitlines()[0][:80]})", "copy or download the file again"
        raise data_error(str(source.path), "file", got, "a whole parquet file", remedy) from error


def _saved_rows(source: Source) -> Iterator[tuple[str, Any]]:
    from datasets import Dataset, DatasetDict, Features, load_from_disk  # takes a second to import

    loaded = load_from_disk(str(source.path))
    splits = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    for split, dataset in splits.items():
        plain: Dataset = dataset.cast(Features(_undecoded(dataset.features)))
        for number, row in enumerate(plain, 1):
            yield f"{split}{':' if split else ''}{number}", {**row, **({"split": split} if split else {})}


def _undecoded(features: Mapping[str, Any]) -> dict[str, Any]:
    """The features with pictures as bytes or paths."""
    from datasets import Image, List

    def plain(feature: Any) -> Any:
        if isinstance(feature, Image):
            return Image(decode=False)
        return List(plain(feature.feature)) if isinstance(feature, List) else feature

    return {name: plain(feature) for name, feature in features.items()}


ROW_READERS = {
    "json": _json_rows,
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
    "saved": _saved_rows,
}
