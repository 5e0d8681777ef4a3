"""Other frames for a row's videos, as many of the same size and times, so that its tokens stay.

Blank ones, those of another row, the own ones in another order, or the first one all along: what is right with the
last two did not need the order of what happens, or that anything happens.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from open_r1.data.record import Record
from open_r1.data.video.types import VideoFrames
from open_r1.rollout.other_pictures import Rgb

ORDERS = 64  # that are drawn for one other than the true one


def blank_videos(videos: Sequence[VideoFrames], color: Rgb) -> list[VideoFrames]:
    """Videos of one colour."""
    blank = [np.broadcast_to(np.asarray(color, np.uint8), video.pixels.shape).copy() for video in videos]
    return [replace(video, pixels=pixels) for video, pixels in zip(videos, blank, strict=True)]


def fitted_videos(videos: Sequence[VideoFrames], like: Sequence[VideoFrames]) -> list[VideoFrames]:
    """As many videos as `like`, with as many frames of the same size and at the same times: frames evenly over each of
    `videos`, in turn where there are fewer."""
    pairs = ((videos[number % len(videos)], other) for number, other in enumerate(like))
    return [replace(other, pixels=fitted_frames(video.pixels, other.pixels.shape[:3])) for video, other in pairs]


def fitted_frames(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """(T, H, W, 3) of frames (t, h, w, 3), evenly chosen and resized, where `shape` is (T, H, W).

    >>> pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, axis=3)
    >>> fitted_frames(pixels, (2, 1, 1))[:, 0, 0, 0].tolist(), fitted_frames(pixels, (1, 2, 3)).shape
    ([0, 3], (1, 2, 3, 3))
    """
    count, height, width = shape
    chosen = pixels[np.linspace(0, len(pixels) - 1, count).round().astype(int)]
    if chosen.shape[:3] == shape:
        return chosen
    pictures = map(Image.fromarray, chosen)
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BICUBIC)) for one in pictures])


def shuffled_videos(record: Record, videos: Sequence[VideoFrames], seed: int) -> list[VideoFrames]:
    """A row's videos with the frames of each in another order, at the times of the true one.

    The order is drawn by (seed, name of the row's file, its line, number of the video) alone.
    """
    orders = (frame_order(f"{seed}/frames/{record.name_and_line}/{n}", video.pixels) for n, video in enumerate(videos))
    return [replace(video, pixels=video.pixels[order]) for video, order in zip(videos, orders, strict=True)]


def frame_order(drawn_by: str, pixels: np.ndarray) -> list[int]:
    """An order of frames (T, H, W, 3) in which they look another; the true one where all are alike, or after ORDERS.

    >>> frame_order("0", np.arange(2).reshape(2, 1, 1, 1)), frame_order("0", np.zeros((2, 1, 1, 1)))
    ([1, 0], [0, 1])
    """
    true, draw = list(range(len(pixels))), random.Random(drawn_by)
    if (pixels == pixels[:1]).all():
        return true
    orders = (draw.sample(true, len(true)) for _ in range(ORDERS))
    return next((order for order in orders if not np.array_equal(pixels[order], pixels)), true)


def still_videos(videos: Sequence[VideoFrames]) -> list[VideoFrames]:
    """Videos that show their first frame all along."""
    return [replace(video, pixels=np.repeat(video.pixels[:1], len(video.pixels), axis=0)) for video in videos]
