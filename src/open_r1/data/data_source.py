"""One file of rows: where its lines, folder and method are, and the index of its valid rows. (torch-free)"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from open_r1.data.field_names import AS_NAMED, Renaming
from open_r1.data.file_kinds import folder_remedy
from open_r1.data.jsonl_index import EMPTY, Index, index_file
from open_r1.data.paths import drive_hint, folder_problem
from open_r1.data.tables.rows import Table, is_parquet, parquet_table
from open_r1.data.tables.unpacking import unpack
from open_r1.errors import DataError, Problem


@dataclass(frozen=True)
class JsonlFile:
    """One JSONL file with its image folder and reward method; of a table, the lines that it was unpacked to."""

    path: str  # as the user typed it: it opens every message
    folder: str | None
    method: str | None
    stamp: tuple[int, ...] = (0,)  # of `stamp_of`, when it was checked
    renaming: Renaming = AS_NAMED
    rows: str | None = None  # the file of its lines, where they were unpacked from `path`

    @property
    def lines(self) -> str:
        """The file that its lines are read from."""
        return self.rows or self.path

    def problems(self) -> list[Problem]:
        """Defects of the file itself: missing, a folder, unreadable; empty where it can be read."""
        if Path(self.path).is_dir():
            remedy = folder_remedy(self.path, (child.name for child in Path(self.path).iterdir()))
            return [Problem(self.path, "file", "a folder", "a JSONL file", remedy)]
        if not Path(self.path).exists():
            remedy = "correct the path; it is relative to the working directory" + drive_hint(self.path)
            return [Problem(self.path, "file", "no such file", "a JSONL file", remedy)]
        if not Path(self.path).is_file() or not os.access(self.path, os.R_OK):
            return [Problem(self.path, "file", "an unreadable file", "a readable JSONL file", "check its permissions")]
        return []


Part = tuple[JsonlFile, Index, list[Problem]]  # what is found of one source


def scan_source(source: JsonlFile, cache: Path, bar: Progress) -> Part:
    """One source of `scan_records`."""
    if defects := source.problems():
        return source, EMPTY, defects
    if not is_parquet(source.path):
        return index_source(source, cache, bar)
    try:
        table = parquet_table(source.path)
        return index_table(source, table, source.renaming, cache, bar)
    except DataError as error:
        return source, EMPTY, list(error.problems)


def index_table(
    source: JsonlFile, table: Table, renaming: Renaming, cache: Path, bar: Progress, roots: Sequence[str] = ()
) -> Part:
    """Unpacks a table and indexes its rows; its pictures lie in it, below the source's folder, or below `roots`."""
    if source.folder and (bad_folder := folder_problem(source.folder)):
        return source, EMPTY, [bad_folder]
    task = bar.add_task(f"unpacking {source.path}", total=table.rows)
    unpacked = unpack(table, source.folder, cache, renaming, roots, lambda done: bar.update(task, completed=done))
    if unpacked.rows is None:
        return source, EMPTY, list(unpacked.problems)
    kept = Renaming({"solution": "solution"}) if "solution" in renaming.fields else AS_NAMED  # it is named already
    source, index, found = index_source(
        replace(source, rows=unpacked.rows, folder=unpacked.folder, renaming=kept), cache, bar
    )
    placed = [replace(problem, where=problem.where.replace(unpacked.rows, source.path, 1)) for problem in found]
    if unpacked.problems and not len(index.lines_N):
        placed = [problem for problem in placed if problem.field != "file"]  # its rows are named already
    return source, index, sorted([*unpacked.problems, *placed], key=_row_of)


def _row_of(problem: Problem) -> int:
    row = problem.where.rpartition(":")[2]
    return int(row) if row.isdigit() else 0


@contextmanager
def reading_bar(shown: bool = True) -> Iterator[Progress]:
    """A bar of the files that are read, on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        yield bar


def index_source(source: JsonlFile, cache: Path, bar: Progress) -> Part:
    """The source with its stamp, the index of its valid lines, and its problems; with a progress bar."""
    source = replace(source, stamp=stamp_of(source))
    task = bar.add_task(f"checking {source.path}", total=source.stamp[0])
    bad_folder = folder_problem(source.folder) if source.folder else None
    # A bad folder is one problem and not one for each row: images are then not checked (folder ""), no row is valid.
    folder = "" if bad_folder else source.folder
    report, fields = (lambda done: bar.update(task, completed=done)), source.renaming.fields
    index, problems = index_file(source.lines, folder, cache, report, fields, source.method)
    return (source, EMPTY, [bad_folder, *problems]) if bad_folder else (source, index, problems)


def stamp_of(source: JsonlFile) -> tuple[int, ...]:
    """(size in bytes, mtime in ns, inode) of the lines of a source, and of the table that they were unpacked from, if
    that is a file; empty where there are no lines."""
    table = [source.path] if source.rows and Path(source.path).is_file() else []
    try:
        stats = [Path(path).stat() for path in (source.lines, *table)]
    except FileNotFoundError:
        return ()
    return tuple(value for status in stats for value in (status.st_size, status.st_mtime_ns, status.st_ino))
