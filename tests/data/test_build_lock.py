"""Processes that need the same index of a large file: one validates, the others wait, whatever becomes of the one."""

import logging
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from open_r1.data import jsonl_index
from open_r1.data.jsonl_index import index_file

ROWS = 12_000  # 1.1 MB: large enough for a cache
FORK = multiprocessing.get_context("fork")


def note(folder: Path, what: str) -> None:
    """One line, whole, whoever else writes."""
    with open(folder / "events", "a") as file:
        file.write(what + "\n")


def noted(folder: Path) -> Counter[str]:
    return Counter((folder / "events").read_text().split())


class _Waits(logging.Handler):
    """Notes each line of the log that says that a process waits."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def emit(self, record: logging.LogRecord) -> None:
        note(self.folder, "waits" if "waiting for it" in record.getMessage() else "says")


def rank(folder: Path, waiting: int, dies: bool) -> None:
    """One rank: the first to validate goes on when `waiting` others wait for it, or then dies."""
    logging.getLogger("open_r1").addHandler(_Waits(folder))
    scan = jsonl_index._scan

    def slow_scan(*args: Any) -> tuple:
        first = not noted(folder)["validates"]
        note(folder, "validates")
        deadline = time.monotonic() + 60
        while first and noted(folder)["waits"] < waiting:
            assert time.monotonic() < deadline, "the others do not wait"
            time.sleep(0.01)
        if first and dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return scan(*args)

    jsonl_index._scan = slow_scan
    index, problems = index_file(str(folder / "rows.jsonl"), None, folder / "cache")
    note(folder, f"rows={len(index.lines_N)},problems={len(problems)}")


def started(folder: Path, waiting: int, dies: bool = False, number: int = 4) -> list[int | None]:
    """The exit codes of ranks that start together."""
    ranks = [FORK.Process(target=rank, args=(folder, waiting, dies)) for _ in range(number)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(120)
    return sorted(one.exitcode for one in ranks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    row = '{"problem": "How many are one and one, and one more, if any?", "solution": "2", "level": "easy"}\n'
    (tmp_path / "rows.jsonl").write_text(row * ROWS)
    (tmp_path / "events").touch()
    assert (tmp_path / "rows.jsonl").stat().st_size > jsonl_index.CACHE_FROM_BYTES
    return tmp_path


@pytest.mark.slow
def test_one_of_four_ranks_validates_and_three_wait_for_its_index(folder: Path) -> None:
    assert started(folder, waiting=3) == [0, 0, 0, 0]
    assert noted(folder) == {"validates": 1, "waits": 3, f"rows={ROWS},problems=0": 4}
    assert [path.suffix for path in (folder / "cache").iterdir()] == [".npz"]


@pytest.mark.slow
def test_where_the_validating_rank_is_killed_the_next_one_validates(folder: Path) -> None:
    assert started(folder, waiting=3, dies=True) == [-signal.SIGKILL, 0, 0, 0]
    assert noted(folder) == {"validates": 2, "waits": 3, f"rows={ROWS},problems=0": 3}


@pytest.mark.slow
def test_an_old_index_is_built_again_once(folder: Path) -> None:
    index_file(str(folder / "rows.jsonl"), None, folder / "cache")
    with open(folder / "rows.jsonl", "a") as file:
        file.write('{"problem": "one more", "solution": 1}\n')
    assert started(folder, waiting=3) == [0, 0, 0, 0]
    assert noted(folder) == {"validates": 1, "waits": 3, f"rows={ROWS + 1},problems=0": 4}


@pytest.mark.slow
def test_a_file_with_problems_has_no_index_so_those_who_waited_validate_at_once(folder: Path) -> None:
    with open(folder / "rows.jsonl", "a") as file:
        file.write("{\n")
    assert started(folder, waiting=3) == [0, 0, 0, 0]
    assert noted(folder) == {"validates": 4, "waits": 3, f"rows={ROWS},problems=1": 4}


def unwritable(folder: Path) -> Path:
    return folder / "rows.jsonl" / "cache"  # below a file


def without_locks(folder: Path) -> Path:
    return folder / "cache"


@pytest.mark.parametrize("cache", [unwritable, without_locks])
def test_without_a_lock_each_validates_with_a_warning(
    folder: Path, cache: Callable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if cache is without_locks:
        monkeypatch.setattr("fcntl.flock", refuse)
    index, problems = index_file(str(folder / "rows.jsonl"), None, cache(folder))
    assert len(index.lines_N) == ROWS and problems == []
    assert f"no lock, so each process works for itself: validating {folder}/rows.jsonl" in caplog.text
