"""Indexes the valid rows of a JSONL file in one pass; the index is cached until a file changes. (torch-free)"""

import hashlib
import json
import logging
import os
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson

from open_r1.data.build_lock import one_builder
from open_r1.data.field_names import UnseenFields, renamed
from open_r1.data.file_kinds import file_problem
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.paths import ImageFolder
from open_r1.data.record import parse_row
from open_r1.errors import DataError, Problem, data_error, shorten

CACHE_FROM_BYTES = 1 << 20  # smaller files are validated again each time: it takes milliseconds
MAX_DEPTH = 254  # orjson's own limit for writing; the limit of Python's repr is higher
_BOM = b"\xef\xbb\xbf"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """Offsets of the N valid rows of one file; `warnings` are (line, text), such as an id used twice."""

    offsets_N: np.ndarray  # int64, bytes from the start of the file
    lengths_N: np.ndarray  # int64, bytes
    lines_N: np.ndarray  # int64, counted from 1
    crcs_N: np.ndarray  # int64, CRC-32 of each row's bytes
    warnings: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class RowsOfFile:
    """A file of rows, and how they are read: their image folder, their names of our fields, and their method."""

    path: str
    folder: str | None
    fields: Mapping[str, str]
    method: str | None


EMPTY = Index(*np.zeros((4, 0), np.int64))


def decode_row(line: bytes, where: str) -> object:
    """The JSON value of one line. Raises DataError for broken JSON, for bytes that are not UTF-8, and for a value
    nested deeper than MAX_DEPTH, which orjson can read but not write."""
    try:
        value = orjson.loads(line)
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
            orjson.dumps(value)
        return value
    except orjson.JSONEncodeError as error:
        remedy = "store the field as text, or leave it out"
        raise data_error(where, "line", f"JSON nested over {MAX_DEPTH} deep", "less nesting", remedy) from error
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as bad:
            got = f"byte 0x{line[bad.start]:02x} at column {bad.start + 1}"
            raise data_error(
                where, "line", got, "UTF-8", "convert the file, for instance with iconv -t UTF-8"
            ) from bad
        got = f"{shorten(line.decode().strip())} ({error.msg} at column {error.colno})"
        raise data_error(where, "line", got, "one JSON object a line", "correct the JSON") from error


def index_file(
    path: str,
    folder: str | None,
    cache_dir: Path,
    report: Callable[[int], object] = lambda _: None,
    fields: Mapping[str, str] | None = None,
    method: str | None = None,
) -> tuple[Index, list[Problem]]:
    """Index of one file and all its problems; `report` is called with the number of bytes read so far, `fields` are
    names of its fields for ours, `method` is the reward method of rows without their own.

    An index without problems is cached with size, inode and times of the file and the times of its image folders, so
    a removed image makes it invalid (a changed image or link target does not: opening the image reports that). Of
    processes that start together, such as the ranks of a run, one validates a large file and the others wait for it.
    """
    rows = RowsOfFile(path, folder, fields or {}, method)
    cache = _cache_file(rows, cache_dir)
    if (index := _read_cache(cache, path)) is None:
        if Path(path).stat().st_size < CACHE_FROM_BYTES:
            return _scan(rows, ImageFolder(folder) if folder else None, report)
        with one_builder(cache, f"validating {path}"):
            if (index := _read_cache(cache, path)) is None:  # nobody built it while this process waited
                return _build(cache, rows, report)
    report(Path(path).stat().st_size)
    return index, []


def _build(cache: Path, rows: RowsOfFile, report: Callable) -> tuple[Index, list[Problem]]:
    """Validates the file and caches an index without problems."""
    stamp = _stamp(rows.path)
    images = ImageFolder(rows.folder) if rows.folder else None
    index, problems = _scan(rows, images, report)
    if not problems:
        _write_cache(cache, index, {**stamp, "folders": _folder_times(images)})
    return index, problems


def _scan(rows: RowsOfFile, images: ImageFolder | None, report: Callable) -> tuple[Index, list[Problem]]:
    """Validates every line: the index of the valid rows, and all problems."""
    path, folder, fields = rows.path, rows.folder, rows.fields
    problems: list[Problem] = []
    places = array("q")  # offset, length, line, CRC, that of the id; the garbage collector does not traverse an array
    unseen = UnseenFields(fields)
    check = images.problem if images else _missing_folder if folder is None else None
    if (defect := file_problem(path)) is not None:
        return EMPTY, [defect]
    with open(path, "rb") as file:
        for line, offset, text in _lines(file, report):
            where = f"{path}:{line}"
            try:
                unseen.see(row := decode_row(text, where))
                named = renamed(row, fields)
                record = parse_row(named, where, line, folder or "", rows.method, check, "solution" in fields)
                places.extend((offset, len(text), line, zlib.crc32(text), zlib.crc32(record.id.encode())))
            except DataError as error:
                problems += error.problems
    if images and (defect := images.wrong_folder(path)):
        problems.insert(0, defect)
    problems = unseen.problems(path) + problems
    if not places and not problems:
        problems.append(Problem(path, "file", "no rows", "at least one JSON object", "check how the file was written"))
    table_N5 = np.frombuffer(places, np.int64).reshape(-1, 5)
    return Index(*table_N5[:, :4].T.copy(), _duplicates(path, table_N5, fields)), problems


def _lines(file: BinaryIO, report: Callable[[int], object]) -> Iterator[tuple[int, int, bytes]]:
    """(line number, byte offset, bytes) of every line that is not blank, without the byte order mark."""
    offset = 0
    for line, raw in enumerate(file, 1):
        text = raw.removeprefix(_BOM) if line == 1 else raw
        if text and not text.isspace():
            yield line, offset + len(raw) - len(text), text
        offset += len(raw)
        if line & 0x3FFF == 0:
            report(offset)
    report(offset)


def _missing_folder(path: str, where: str, field: str) -> Problem:
    """The problem of a row with images or videos where no image folder is set."""
    return Problem(where, field, shorten(path), f"an image folder for rows with {field}s", "give --image_folders")


def _duplicates(path: str, table_N5: np.ndarray, fields: Mapping[str, str]) -> tuple[tuple[int, str], ...]:
    """Warnings for ids used twice; exact, since lines with equal checksums are read again and compared."""
    order = np.argsort(table_N5[:, 4], kind="stable")
    sums = table_N5[order, 4]
    same = np.zeros(len(sums) + 1, bool)
    same[1:-1] = sums[1:] == sums[:-1]
    first: dict[str, tuple[int, bool]] = {}
    warnings = []
    with open(path, "rb") as file:
        for offset, length, line, _, _ in table_N5[np.sort(order[same[1:] | same[:-1]])].tolist():
            file.seek(offset)
            value = renamed(orjson.loads(file.read(length)), fields).get("id")
            identity = str(line if value is None else value)
            named = value is not None
            earlier, earlier_named = first.setdefault(identity, (line, named))
            if earlier != line:
                warnings.append((line, _used_twice(identity, named, earlier, earlier_named)))
    return tuple(warnings)


def _used_twice(identity: str, named: bool, earlier: int, earlier_named: bool) -> str:
    """The warning about an id that an earlier line has; a row without an id has the number of its line."""
    if named and earlier_named:
        return f"id: {identity!r} was already used in line {earlier}; give each row one of its own"
    if named:
        return f"id: {identity!r} is that of line {earlier}, which names none and has its line number; give it one"
    return f"id: none is named, and line {earlier} has {identity!r}, this line's number; give this row one"


def _stamp(path: str) -> dict[str, object]:
    """What a cached index depends on; the time of the inode (ctime) shows a rewrite whose time was set back too."""
    status = Path(path).stat()
    times = {"mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
    return {"path": os.path.realpath(path), "size": status.st_size, "inode": status.st_ino, **times, "code": _code()}


def _code() -> str:
    """Fingerprint of the code that decides which rows are valid; a cache made by other code is not used."""
    room = Path(__file__).parent
    files = [*sorted(room.rglob("*.py")), room.parent / "errors.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _folder_times(images: ImageFolder | None) -> list[list]:
    folders = set(images.directories.values()) if images else set()
    return [[folder, Path(folder).stat().st_mtime_ns] for folder in sorted(folders)]


def _cache_file(rows: RowsOfFile, cache_dir: Path) -> Path:
    read_as = [dict(rows.fields), rows.method] if rows.fields or rows.method else []
    key = json.dumps([os.path.realpath(rows.path), rows.folder and os.path.realpath(rows.folder), *read_as])
    return cache_dir / f"index-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _read_cache(cache: Path, path: str) -> Index | None:
    """The cached index, or None where there is none, it is damaged, or anything it depends on has changed."""
    if not cache.exists():
        return None
    try:
        with np.load(cache, allow_pickle=False) as data:
            notes = json.loads(bytes(data["notes"]))
            if not _is_current(notes["stamp"], path):
                return None
            columns = (data[name] for name in ("offsets", "lengths", "lines", "crcs"))
            return Index(*columns, tuple(map(tuple, notes["warnings"])))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning("%s: damaged cache, validating %s again (%s)", cache, path, error)
        return None


def _is_current(stamp: dict, path: str) -> bool:
    folders = stamp.pop("folders")
    try:
        return stamp == _stamp(path) and all(Path(folder).stat().st_mtime_ns == time for folder, time in folders)
    except FileNotFoundError:  # an image folder was removed: a new validation names what is missing
        return False


def _write_cache(cache: Path, index: Index, stamp: dict) -> None:
    """Writes the index to the cache; only logs a cache that cannot be written."""
    notes = np.frombuffer(json.dumps({"stamp": stamp, "warnings": index.warnings}).encode(), np.uint8)
    columns = {"offsets": index.offsets_N, "lengths": index.lengths_N, "lines": index.lines_N, "crcs": index.crcs_N}
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cache, owner=f"{os.uname().nodename}-{os.getpid()}") as file:
            np.savez(file, **columns, notes=notes)
    except OSError as error:
        logger.warning("%s: cache not written (%s)", cache, error)
