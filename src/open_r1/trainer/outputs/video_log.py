"""The videos of a row as logs hold them: small frames with their times, evenly chosen of many.

wandb and trackio get a picture of each video, `rollouts.jsonl` its frames one by one:
`{"frames": [file under rollout_images], "seconds": [float], "span": seconds of the video, "sampled": T}`: T frames
were sampled for the model, of which SAVED_FRAMES or fewer are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from open_r1.data.video.strips import evenly, strip_picture
from open_r1.data.video.types import VideoFrames
from open_r1.rollout.prompts import Example

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
    chosen = evenly(count, most)
    return {
        "frames": [save(Image.fromarray(video.pixels[number]), SAVED_FRAME_SIDE) for number in chosen],
        "seconds": [round(video.seconds[number], 2) for number in chosen],
        "span": round(video.span, 2),
        "sampled": count,
    }


def pictures_for_tracker(examples: Sequence[Example]) -> list[list[Image.Image]]:
    """What a tracker's table shows of each row: its pictures, then a film strip of each of its videos. Completions of
    one row share them."""
    strips: dict[int, list[Image.Image]] = {}
    for example in examples:
        if id(example.prompt) not in strips:
            strips[id(example.prompt)] = [strip_picture(video) for video in example.videos]
    return [[*example.pictures, *strips[id(example.prompt)]] for example in examples]
