"""Notices that the output folder was moved, replaced or deleted under a run, which would go on in two folders."""

import os
from pathlib import Path

from open_r1.errors import RunEnded


class FolderMoved(RunEnded):
    """The output folder is no longer at its path."""


class HeldFolder:
    """An output folder that is held open: it stays known wherever it is moved.

    Raises OSError where it cannot be made or opened.
    """

    def __init__(self, path: str):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def is_at(self, path: Path) -> bool:
        """Whether the folder is what `path` leads to. Raises OSError where the disk does not answer."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self.handle))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def new_place(self) -> Path | None:
        """Where the folder is now; its old path where it was deleted; None where nothing has happened to it."""
        if self.is_at(self.path):
            return None
        place = Path(f"/proc/self/fd/{self.handle}").readlink()
        return place if self.is_at(place) else self.path


def moved_text(path: str, place: str) -> str:
    """The message about a folder that was at `path`.

    >>> moved_text("out", "/data/old").split(", ")[1]
    'which was moved to /data/old while the run writes there'
    """
    gone = f"moved to {place}" if place != path else "deleted"
    remedy = f"go on with --output_dir {place}" if place != path else "it is made again for the checkpoint"
    return f"--output_dir: got {path}, which was {gone} while the run writes there, expected it to stay; {remedy}"
