"""Unpacks a table into the cache, once: its rows as JSON lines, pictures and videos within it as files. (torch-free)

What follows sees lines and picture files only: the same limits, one decoding for each picture, rows read one by one
in any order, from any process. A file is named by its content, so that a picture used in many rows is stored once.
Pictures that a table names as files stay where they are, if all of them do and lie below the image folder; otherwise
all are copied. Videos that a table names as files are never copied, and stand beside nothing within the table.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from open_r1.data.build_lock import one_builder
from open_r1.data.field_names import Renaming
from open_r1.data.gold_answers import CONVERT
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.tables.column_hints import column_problem
from open_r1.data.tables.media_store import MediaStore, file_stamp, owner
from open_r1.data.tables.rows import ColumnReader, Table
from open_r1.errors import DataError, Problem, UsageError, data_error

KEPT_SECONDS = 30 * 24 * 3600.0  # since its last use, an unpacked table stays in the cache
REPORTED = 64  # rows, after which the progress is told
ROW_FILE, PICTURE_FOLDER, DONE_FILE = "rows.jsonl", "pictures", "done.json"


@dataclass(frozen=True)
class Unpacked:
    """Where a table's rows are: line n is row n, counted from 1, and blank where `problems` name the row.

    `rows` is None where the columns make no rows. `folder` is that of the pictures: within the cache, or the image
    folder.
    """

    rows: str | None
    folder: str | None
    problems: tuple[Problem, ...] = ()


def unpack(
    table: Table,
    folder: str | None,
    cache_dir: Path,
    renaming: Renaming,
    roots: Sequence[str] = (),
    report: Callable[[int], object] = lambda _: None,
) -> Unpacked:
    """The rows and pictures of a table; `report` is called with the number of rows so far.

    Pictures that are named by a path must lie below `folder`, else below one of `roots`. Raises UsageError where the
    cache has no room, DataError where the file is damaged.
    """
    if problem := column_problem(table, renaming):
        return Unpacked(None, folder, (problem,))
    reader = ColumnReader(table.schema, renaming.fields)
    key = [
        table.where,
        table.identity,
        folder and os.path.realpath(folder),
        dict(renaming.fields),
        list(roots),
        _code(),
    ]
    place = cache_dir / "tables" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    store = MediaStore(place / PICTURE_FOLDER, folder, roots)
    problems: list[Problem] = []
    if (done := _read_done(place)) is None:
        with one_builder(place, f"unpacking {table.where}"):
            if (done := _read_done(place)) is None:
                done, problems = _build(table, reader, store, report)
    return Unpacked(str(place / ROW_FILE), str(place / PICTURE_FOLDER) if done["stored"] else folder, tuple(problems))


def _build(
    table: Table, reader: ColumnReader, store: MediaStore, report: Callable[[int], object]
) -> tuple[dict[str, Any], list[Problem]]:
    """Writes the rows, and where there are no problems, notes in the cache that they are there."""
    place = store.folder.parent
    remove_unused(place.parent)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        problems = _write_rows(table, reader, store, report)
        if store.kept and store.stored:
            store.keeps = False
            problems = _write_rows(table, reader, store, report)
        if store.stored and store.with_videos:
            got, remedy = "files of videos, and pictures or videos within the table", f"make files of all: {CONVERT}"
            problems.append(Problem(store.with_videos, "video", got, "both as files", remedy))
        done = {"stored": store.stored, "copied": store.copied}
        if not problems:
            with atomic_write(place / DONE_FILE, owner=owner()) as file:
                file.write(json.dumps(done).encode())
    except OSError as error:
        raise UsageError(
            f"{table.where}: got {error.strerror} in {place.parent}, where its rows and pictures are unpacked; make "
            "room, or set OPEN_R1_CACHE=FOLDER"
        ) from error
    return done, problems


def _write_rows(
    table: Table, reader: ColumnReader, store: MediaStore, report: Callable[[int], object]
) -> list[Problem]:
    """Writes a line for each row; returns the problems of rows that are none."""
    problems: list[Problem] = []
    with atomic_write(store.folder.with_name(ROW_FILE), owner=owner()) as file:
        for number, row in enumerate(table.objects(), 1):
            where = f"{table.where}:{number}"
            try:
                file.write(_line(store.named(reader.row(row, where), where), where))
            except DataError as error:
                problems += error.problems
            file.write(b"\n")
            if number % REPORTED == 0:
                report(number)
    return problems


def _line(row: dict[str, Any], where: str) -> bytes:
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise data_error(where, "row", str(error), "values that JSON holds", "leave the column out") from error


def _read_done(place: Path) -> dict[str, Any] | None:
    """What `_build` noted; None where nothing is, or where a picture that was copied has changed."""
    try:
        done = json.loads((place / DONE_FILE).read_bytes())
        if any(file_stamp(path) != stamp for path, stamp in done["copied"].items()):
            return None
        os.utime(place / DONE_FILE)
    except (OSError, ValueError, KeyError):
        return None
    return done


def remove_unused(folder: Path) -> None:
    """Removes the unpacked tables in a cache folder that no run has used for `KEPT_SECONDS`."""
    for place in folder.iterdir() if folder.is_dir() else ():
        used = place / DONE_FILE if (place / DONE_FILE).exists() else place
        if place.is_dir() and time.time() - used.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(place, ignore_errors=True)


def _code() -> str:
    """Fingerprint of the code that unpacks; what other code unpacked is not used."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
