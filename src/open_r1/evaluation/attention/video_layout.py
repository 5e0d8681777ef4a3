"""The place of each token of a prompt's videos: on which frames, and where on them.

A family is known where its processor gives a grid of (steps, rows, columns) for each video that has as many cells as
there are tokens (Qwen-VL: a step is two frames), or where each frame is one run of tokens that is a square (InternVL).
"""

from collections.abc import Collection, Iterator, Sequence
from math import isqrt

import numpy as np
from transformers import PreTrainedModel

from open_r1.data.video.types import VideoFrames
from open_r1.errors import UsageError
from open_r1.evaluation.attention.grids import Fields
from open_r1.evaluation.attention.tiles import Tile

Steps = list[list[Tile]]  # a video's steps, each with the tiles of its frames


def locate_videos(
    model: PreTrainedModel, fields: Fields, tokens: Collection[int], videos: Sequence[VideoFrames]
) -> list[Steps]:
    """The steps of each video of a prompt whose video tokens are `tokens`; `fields`: the processor's, a batch of one.

    Raises UsageError for a family whose tokens do not say on which frame they lie.
    """
    if not videos:
        return []
    at = np.flatnonzero(np.isin(fields["input_ids"][0].cpu().numpy(), sorted(tokens)))
    for grids in candidate_grids(fields, len(videos)):
        if steps := by_grids(grids, at):
            return steps
    if steps := by_runs(at, videos):
        return steps
    raise UsageError(
        f"attention: got videos in a prompt of {model.config.model_type}, whose {len(at)} tokens do not say on which "
        "frame they lie; ask with --video_form frames, or about pictures"
    )


def candidate_grids(fields: Fields, videos: int) -> Iterator[np.ndarray]:
    """(videos, 3) steps, rows and columns: whole numbers of a processor's fields of videos."""
    for name, values in fields.items():
        if "video" in name and not values.is_floating_point() and values.shape == (videos, 3):
            yield values.cpu().numpy()


def by_grids(grids: np.ndarray, at: np.ndarray) -> list[Steps] | None:
    """Steps of k x k merged cells of these grids, where that makes as many cells as there are tokens."""
    merge = isqrt(int(grids.prod(1).sum()) // len(at)) if len(at) else 0
    if not merge or (grids[:, 1:] % merge).any() or grids.prod(1).sum() != len(at) * merge**2:
        return None
    sizes = [(int(steps), int(rows) // merge, int(columns) // merge) for steps, rows, columns in grids]
    parts = np.split(at, np.cumsum([steps * rows * columns for steps, rows, columns in sizes])[:-1])
    return [
        [[Tile(step, rows, columns)] for step in part.reshape(steps, -1)]
        for part, (steps, rows, columns) in zip(parts, sizes, strict=True)
    ]


def by_runs(at: np.ndarray, videos: Sequence[VideoFrames]) -> list[Steps] | None:
    """A step for each frame, where each is one run of tokens, and all runs are squares of one size."""
    runs, counts = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1), [len(video.pixels) for video in videos]
    side = isqrt(len(runs[0]))
    if len(runs) != sum(counts) or any(len(run) != side * side for run in runs):
        return None
    steps = iter([[Tile(run, side, side)] for run in runs])
    return [[next(steps) for _ in range(count)] for count in counts]
