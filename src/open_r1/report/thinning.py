"""Choose fewer rollouts of a run: the newest ones, and older ones evenly spaced over training. (torch-free)"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import each_line, keep_lines

PICTURE = re.compile(r"[0-9a-f]{16}\.webp")  # the names that a run gives its pictures; only such files are deleted


def evenly_spaced(steps: Sequence[int], most: int) -> list[int]:
    """Indices of at most `most` of ascending steps, evenly spaced, with the first and the last.

    >>> evenly_spaced([0, 1, 2, 3, 4, 100], 3), evenly_spaced([5, 6], 3), evenly_spaced([1, 2, 3], 1)
    ([0, 5], [0, 1], [2])
    >>> evenly_spaced(range(100), 5)
    [0, 25, 50, 75, 99]
    """
    if len(steps) <= most:
        return list(range(len(steps)))
    gap = (steps[-1] - steps[0]) / max(most - 1, 1)
    targets = [steps[-1] - gap * i for i in reversed(range(most))]
    return sorted({min(bisect_left(steps, step), len(steps) - 1) for step in targets})


def kept_groups(steps: Sequence[int], most: int) -> list[int]:
    """Indices of at most `most` groups: half of them the newest, the others evenly over the steps before.

    >>> kept_groups(range(10), 4)
    [0, 7, 8, 9]
    """
    if len(steps) <= most:
        return list(range(len(steps)))
    newest = len(steps) - (most + 1) // 2
    return [*evenly_spaced(steps[:newest], most // 2), *range(newest, len(steps))]


def stored_pictures(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a group of `rollouts.jsonl` names: pictures and frames, those under noise, and those of tools.

    >>> turns = [{"answers": [{"images": ["c.webp"]}]}]
    >>> stored_pictures({"images": ["a.webp"], "noisy_images": ["b.webp"], "completions": [{"turns": turns}, {}]})
    ('a.webp', 'b.webp', 'c.webp')
    >>> stored_pictures({"images": [], "videos": [{"frames": ["1.webp", "2.webp"]}], "completions": []})
    ('1.webp', '2.webp')
    """
    turns = [turn for completion in group["completions"] for turn in completion.get("turns", ())]
    of_tools = [name for turn in turns for answer in turn["answers"] for name in answer["images"]]
    videos = (*group.get("videos", ()), *group.get("noisy_videos", ()))
    frames = [name for video in videos for name in video["frames"]]
    return (*group["images"], *group.get("noisy_images", ()), *frames, *of_tools)


def thin_rollouts(folder: Path, groups: int) -> int:
    """Keep at most `groups` groups in `rollouts.jsonl`, and the pictures that they name; returns how many groups."""
    path = folder / "rollouts.jsonl"
    indices = set(kept_groups([line["step"] for line in each_line(path)], groups))
    numbers = count()
    keep_lines(path, lambda _: next(numbers) in indices)
    pictures = {name for line in each_line(path) for name in stored_pictures(line)}
    for picture in (folder / "rollout_images").glob("*"):
        if PICTURE.fullmatch(picture.name) and picture.name not in pictures:
            picture.unlink()
    return len(indices)
