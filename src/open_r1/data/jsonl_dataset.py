"""Reads JSONL files with image folders as a dataset of `Record`s; names every defect as `file:line`. (torch-free)

    data = load_records("a.jsonl:b.jsonl", "images_a:images_b")
    train, val = data.split(0.05, seed=0)

Every line is checked once; then only its offset and checksum are stored, and a row is parsed again at each access. A
file that has changed since, in any way, is an error at the next access.
"""

import operator
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from open_r1.data.data_source import JsonlFile, Part, reading_bar, scan_source, stamp_of
from open_r1.data.field_names import AS_NAMED, Renaming, of_all_files, renamed
from open_r1.data.jsonl_index import Index, decode_row
from open_r1.data.paths import data_files, split_paths
from open_r1.data.record import Record, parse_row
from open_r1.errors import DataError, Problem, UsageError, data_error

Paths = str | os.PathLike | Sequence[str | os.PathLike]


class RecordDataset(Sequence[Record]):
    """N rows of several files, parsed at each access. Small when pickled, and safe to read from forked workers.

    `places_N4` holds (source, offset, length, CRC-32), in bytes, of each row and `lines_N` its line, counted from 1.
    `warnings` are complete lines such as "a.jsonl:9: id: '3' was already used in line 4".
    """

    def __init__(
        self, sources: Sequence[JsonlFile], places_N4: np.ndarray, lines_N: np.ndarray, warnings: Iterable[str]
    ):
        self.sources = tuple(sources)
        self.warnings = tuple(warnings)
        self._places_N4 = places_N4
        self._lines_N = lines_N
        self._files: dict[int, BinaryIO] = {}

    def __len__(self) -> int:
        return len(self._lines_N)

    def __getitem__(self, index: int) -> Record:
        """Row `index`. Raises DataError where the file has changed since it was checked: in size, time or inode, or,
        where all of these were set back, in the bytes of this row."""
        source_index, offset, length, crc = self._places_N4[operator.index(index)].tolist()
        source, line = self.sources[source_index], int(self._lines_N[index])
        where = f"{source.path}:{line}"
        # pread and no memory map: where the file was cut short, pread ends in an error, a memory map in SIGBUS.
        raw = os.pread(self._file(source_index).fileno(), length, offset)
        if zlib.crc32(raw) != crc:
            raise changed_file(where, "line", "a line that changed after it was checked")
        fields = source.renaming.fields
        row = renamed(decode_row(raw, where), fields)
        return parse_row(row, where, line, source.folder or "", source.method, gold_named="solution" in fields)

    def source_of_rows(self) -> np.ndarray:
        """(N,) the index in `sources` of each row's file."""
        return self._places_N4[:, 0]

    def lines(self) -> np.ndarray:
        """(N,) the line of each row in its file, counted from 1."""
        return self._lines_N

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_files": {}}

    def select(self, indices: Sequence[int] | np.ndarray) -> "RecordDataset":
        """The rows at `indices`, in that order."""
        rows = np.asarray(indices, np.int64).reshape(-1)
        return RecordDataset(self.sources, self._places_N4[rows], self._lines_N[rows], self.warnings)

    def sample(self, count: int, seed: int) -> "RecordDataset":
        """At most `count` rows drawn from `seed`, in file order; a larger count has those of a smaller one too."""
        return self.select(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def split(self, val_split_ratio: float, seed: int) -> tuple["RecordDataset", "RecordDataset"]:
        """(train, val), disjoint, each in file order; val has round(ratio * N) rows drawn from `seed`.

        Raises UsageError where the ratio is outside [0, 1) or leaves one side empty although ratio > 0.
        """
        count = round(val_split_ratio * len(self)) if 0 <= val_split_ratio < 1 else -1
        if count < 0 or (val_split_ratio > 0 and not 0 < count < len(self)):
            raise UsageError(
                f"--val_split_ratio: got {val_split_ratio} for {len(self)} rows, expected a value in [0, 1) "
                "that leaves a row on each side"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.select(np.sort(order[count:])), self.select(np.sort(order[:count]))

    def _file(self, source_index: int) -> BinaryIO:
        """The open file of a source. Raises DataError where the file at its path has changed since it was checked."""
        source = self.sources[source_index]
        if (stamp := stamp_of(source)) != source.stamp:
            got = "a file that changed after it was checked" if stamp else "no file, where one was checked"
            raise changed_file(source.path, "file", got)
        if source_index not in self._files:
            self._files[source_index] = open(source.lines, "rb")  # noqa: SIM115 (kept open for the life of the dataset)
        return self._files[source_index]


def load_records(
    data_file_paths: Paths,
    image_folders: Paths | None = None,
    *,
    reward_methods: Paths | None = None,
    renaming: Renaming | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> RecordDataset:
    """Reads all rows of colon-separated (or listed) JSONL and parquet files.

    One image folder and one reward method for all files, or one for each; without folders, rows are text only.
    A row's own `accu_reward_method` wins over `reward_methods`; `renaming` tells the rows' names of our fields.
    Indices of large files, and what tables hold, are cached in `cache_dir` (default: $OPEN_R1_CACHE, else
    ~/.cache/open_r1).

    Raises DataError with every problem of every file.
    """
    data, problems = scan_records(
        data_file_paths,
        image_folders,
        reward_methods=reward_methods,
        renaming=renaming,
        cache_dir=cache_dir,
        progress=progress,
    )
    if problems:
        raise DataError(problems)
    return data


def scan_records(
    data_file_paths: Paths,
    image_folders: Paths | None = None,
    *,
    reward_methods: Paths | None = None,
    renaming: Renaming | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> tuple[RecordDataset, tuple[Problem, ...]]:
    """`load_records` that returns all problems beside the valid rows. Raises DataError for unusable arguments only."""
    sources = _sources(data_file_paths, image_folders, reward_methods, renaming or AS_NAMED)
    with reading_bar(progress) as bar:
        parts = [scan_source(source, cache_dir or default_cache_dir(), bar) for source in sources]
    problems = of_all_files([found for _, _, found in parts])
    return dataset_of([(source, index, found) for (source, index, _), found in zip(parts, problems, strict=True)])


def dataset_of(parts: Sequence[Part]) -> tuple[RecordDataset, tuple[Problem, ...]]:
    """The valid rows of all parts as one dataset, and all problems, each once: files may share a folder."""
    problems = dict.fromkeys(problem for _, _, defects in parts for problem in defects)
    return _dataset([(source, index) for source, index, _ in parts if source.stamp != (0,)]), tuple(problems)


def default_cache_dir() -> Path:
    """$OPEN_R1_CACHE, or ~/.cache/open_r1."""
    return Path(os.environ.get("OPEN_R1_CACHE") or Path.home() / ".cache" / "open_r1")


def _sources(files: Paths, folders: Paths | None, methods: Paths | None, renaming: Renaming) -> list[JsonlFile]:
    paths = data_files(files)
    columns = [per_file(folders, paths, "--image_folders"), per_file(methods, paths, "--reward_method")]
    return [JsonlFile(*entry, renaming=renaming) for entry in zip(paths, *columns, strict=True)]


def per_file(value: Paths | None, paths: list[str], flag: str) -> list[Any]:
    """One entry for each file: the single entry for all, the entry of each, or None where no value is set.

    Raises DataError for another number of entries.

    >>> per_file("rec", ["a.jsonl", "b.jsonl"], "--task"), per_file("rec:od", ["a.jsonl", "b.jsonl"], "--task")
    (['rec', 'rec'], ['rec', 'od'])
    """
    if value is None or value == "":
        return [None] * len(paths)
    parts = split_paths(value, flag)
    if len(parts) not in (1, len(paths)):
        got = f"{len(parts)} entries for {len(paths)} file(s) in --data_file_paths"
        remedy = "separate the entries with colons, in the order of the files"
        raise data_error(flag, "value", got, "one entry for all files, or one for each", remedy)
    return parts * len(paths) if len(parts) == 1 else parts


def _dataset(files: list[tuple[JsonlFile, Index]]) -> RecordDataset:
    places = [
        np.column_stack([np.full(len(index.lines_N), i), index.offsets_N, index.lengths_N, index.crcs_N])
        for i, (_, index) in enumerate(files)
    ]
    return RecordDataset(
        [source for source, _ in files],
        np.concatenate([np.zeros((0, 4), np.int64), *places]),
        np.concatenate([np.zeros(0, np.int64), *(index.lines_N for _, index in files)]),
        (f"{source.path}:{line}: {text}" for source, index in files for line, text in index.warnings),
    )


def changed_file(where: str, what: str, got: str) -> DataError:
    """The error about a file, or a line of it, that changed while it is in use."""
    return data_error(where, what, got, f"the same {what}", "start again, and do not edit the file while it is in use")
