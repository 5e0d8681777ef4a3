"""Locks an output folder for one run at a time: two would write into each other's checkpoints, metrics and rollouts.

Rank 0 holds the lock of the folder's `.lock` during the run; the system frees it when the process ends in any way.
"""

import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from transformers import TrainingArguments

from open_r1.errors import UsageError
from open_r1.trainer.distributed import on_all_ranks

LOCK = ".lock"
LEAST_FREE = 50_000_000  # bytes on the folder's disk; a checkpoint needs its own size on top
logger = logging.getLogger(__name__)


@contextmanager
def only_run(training: TrainingArguments) -> Iterator[None]:
    """Context that holds the lock of the output folder. Raises UsageError, on all ranks, if another run holds it."""
    file = on_all_ranks(lambda: acquire_lock(Path(training.output_dir)) if training.process_index == 0 else None)
    try:
        yield
    finally:
        if file is not None:
            file.close()


def refuse_other_folder(training: TrainingArguments) -> None:
    """Raises UsageError, on all ranks, if the folder that this run locked has left its path while it started."""
    on_all_ranks(lambda: check_holder(Path(training.output_dir)) if training.process_index == 0 else None)


def check_holder(folder: Path) -> None:
    """Raises UsageError if the lock in a folder is not this process's."""
    path = folder / LOCK
    if not path.is_file() or not path.read_text(encoding="utf-8").startswith(own_name()):
        raise UsageError(
            f"--output_dir: got {folder}, which was moved, replaced or deleted while the run started, expected it to "
            "stay; start again"
        )


def own_name() -> str:
    """This process and machine, as a lock names them."""
    return f"process {os.getpid()} on {socket.gethostname()},"


def acquire_lock(folder: Path) -> IO[str]:
    """The open file that holds the lock. Raises UsageError with the process that holds it already, and for a folder
    that cannot be written: no right to, a full or read-only disk, a file in its place.

    On a file system without locks it warns and continues.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free >= LEAST_FREE:
            return _locked(folder)
        problem = f"{free / 1e6:.1f} MB are free there, and logs alone need {LEAST_FREE / 1e6:.0f} MB"
    except OSError as error:
        problem = error.strerror
    raise UsageError(
        f"--output_dir: got {folder}, expected a folder that can be written ({problem}); make room or give the right "
        "to write there, or choose another folder"
    )


def _locked(folder: Path) -> IO[str]:
    """The open file of the folder's lock, with this process in it."""
    file = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 (open during the run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UsageError(
            f"--output_dir: got {folder}, where a run is going on ({holder}), expected a folder of its own; wait for "
            "that run, end it, or choose another folder"
        ) from error
    except OSError as error:
        logger.warning("%s cannot be locked (%s): see that no second run writes there", folder, error.strerror)
    file.truncate(0)
    file.write(f"{own_name()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()
    return file
