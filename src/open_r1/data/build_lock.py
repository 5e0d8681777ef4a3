"""A lock file: one process builds a file that several need, the others wait for it. (torch-free)

The lock (flock) is on a file beside the one to build; the system releases it when its process ends, however it ends.
filelock opens the lock file again at each try, so waiting processes would follow one another; here they go on
together.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


@contextmanager
def one_builder(path: Path, work: str) -> Iterator[None]:
    """Runs its block while no other process runs one for the same `path`; a wait is logged once, naming the `work`.

    Look for `path` in the block: another process may have built it meanwhile. Those that waited for a block that ended
    without an error run theirs at the same time: if that block left nothing to share, neither would theirs. Where
    locking is impossible (a folder that cannot be written, a file system without locks), the block runs at once with a
    warning.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path.with_suffix(".lock"), "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        logger.warning("%s: no lock, so each process works for itself: %s (%s)", path, work, error)
        yield
        return
    with file:
        is_first = _acquire(file, path, work)
        yield
        if is_first:
            Path(file.name).unlink(missing_ok=True)


def _acquire(file: IO[bytes], path: Path, work: str) -> bool:
    """Wait for the lock; True where it is held, False where it was removed meanwhile or cannot be had."""
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another process is %s: waiting for it", work)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("%s: no lock, so each process works for itself: %s (%s)", path, work, error)
        return False
    if os.fstat(file.fileno()).st_nlink:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
