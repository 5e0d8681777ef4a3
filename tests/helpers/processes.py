"""Processes by their numbers, as Linux shows them: any of them may end while it is looked at."""

import time
from pathlib import Path


def stat_of(process: int) -> list[str]:
    """What follows the name in a process's `stat`: its state, its parent, and more; nothing where it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(process: int) -> bool:
    """Whether a process runs, or could: one that has ended may wait for its parent."""
    return stat_of(process)[:1] not in ([], ["Z"])


def children_of(parent: int) -> list[int]:
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [process for process in numbers if stat_of(process)[1:2] == [str(parent)]]


def all_end(*processes: int, seconds: float = 60) -> bool:
    """Whether all have ended within `seconds`, which are far more than it takes on an idle machine."""
    until = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(is_alive, processes))
