"""The videos of a row as `rollouts.jsonl` holds them: small frames with their times, evenly chosen of many.

`{"frames": [file under rollout_images], "seconds": [float], "span": seconds of the video, "sampled": T}`: T frames
were sampled for the model, of which SAVED_FRAMES or fewer are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from open_r1.data.video.types import VideoFrames

SAVED_FRAMES = 32  # of a row, shared out to its videos
SAVED_FRAME_SIDE = 192  # pixels of a saved frame's longer side

SaveFrame = Callable[[Image.Image, int], str]


def logged_videos(videos: Sequence[VideoFrames], save: SaveFrame) -> list[dict[str, Any]]:
    """The videos of a row; `save` stores a picture of at most so many pixels a side and returns its file name."""
    most = max(2, SAVED_FRAMES // max(1, len(videos)))
    return [logged_video(video, save, most) for video in videos]


def logged_video(video: VideoFrames, save: SaveFrame, most: int) -> dict[str, Any]:
    """One video with at most `most` frames, the first and the last among them."""
    count = len(video.seconds)
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return {
        "frames": [save(Image.fromarray(video.pixels[number]), SAVED_FRAME_SIDE) for number in chosen],
        "seconds": [round(video.seconds[number], 2) for number in chosen],
        "span": round(video.span, 2),
        "sampled": count,
    }
