"""The videos of a row: where their frames come from, and which of them are shown. (torch-free)"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

FRAME_FACTOR = 2  # frames are sampled in pairs, which Qwen makes into one step of tokens
VIDEO_ENDINGS = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp"}
FRAME_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}  # of pictures; a GIF is a video itself


@dataclass(frozen=True)
class Video:
    """A video of a row, as the row names it.

    `paths`: one video file, or, with `of_frames`, the pictures of its frames in order; relative to the row's folder.
    `start` and `end`: the seconds of the file between which it is shown, None for its begin and its end. `fps`: frames
    that are sampled in a second, or, with `of_frames`, the rate at which the pictures were taken; `nframes`: how many
    are sampled, in place of a rate. None leaves both to the run's flags.
    """

    paths: tuple[str, ...]
    of_frames: bool = False
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    nframes: int | None = None


@dataclass(frozen=True)
class FrameSampling:
    """How many frames of a video a run shows: `fps` a second, at most `max_frames`, each of at most `max_pixels`."""

    fps: float = 2.0
    max_frames: int = 32
    max_pixels: int = 128 * 28 * 28


@dataclass(frozen=True)
class VideoFrames:
    """The sampled frames of a video, T of H x W pixels.

    `pixels`: (T, H, W, 3) uint8, RGB, upright. `seconds`: T times since the begin of the file, ascending. `span`: the
    seconds that the frames stand for, so that T / span is their rate.
    """

    pixels: np.ndarray
    seconds: tuple[float, ...]
    span: float

    def pictures(self) -> Iterator[Image.Image]:
        """The frames as RGB pictures, in order."""
        yield from map(Image.fromarray, self.pixels)


@dataclass(frozen=True)
class VideoShape:
    """What is known of the sampled frames of a video without their pixels: sides in pixels, `seconds` and `span` as of
    `VideoFrames`."""

    width: int
    height: int
    seconds: tuple[float, ...]
    span: float

    def grey(self) -> VideoFrames:
        """A grey video of this shape, of which a processor makes as many tokens."""
        pixels = np.full((len(self.seconds), self.height, self.width, 3), 99, np.uint8)
        return VideoFrames(pixels, self.seconds, self.span)
