"""How large and how long a video may be, and the refusal of one that cannot be shown. (torch-free)"""

import os
from dataclasses import dataclass

from open_r1.data.geometry.coordinates import MAX_ASPECT
from open_r1.errors import UsageError

SECONDS_VARIABLE = "OPEN_R1_VIDEO_SECONDS"
LENGTH_BYTES = 8  # of the length before an answer of a worker process


@dataclass(frozen=True)
class VideoLimits:
    """Bounds of what reading one video may take.

    `file_bytes` of the file; `seconds` that are shown of it; `pixels` of a frame; `frames_decoded` and
    `pixels_decoded` on the way to the frames that are shown; `packets` that are listed; `memory_bytes` of the process
    that decodes, beyond what it takes empty.
    """

    file_bytes: int = 4 << 30
    seconds: float = 4 * 3600
    pixels: int = 8192 * 4352
    frames_decoded: int = 100_000
    pixels_decoded: int = 60_000_000_000  # 29,000 frames of 1920 x 1080
    packets: int = 2_000_000
    memory_bytes: int = 4 << 30


LIMITS = VideoLimits()


class VideoRefused(Exception):
    """A video that cannot be shown: what was `got`, what is `expected`, and the `remedy`."""

    def __init__(self, got: str, expected: str, remedy: str):
        super().__init__(got, expected, remedy)
        self.got, self.expected, self.remedy = got, expected, remedy


def decode_seconds() -> float:
    """The deadline of one video: $OPEN_R1_VIDEO_SECONDS, else 120. Raises UsageError for what is no time."""
    value = os.environ.get(SECONDS_VARIABLE, "120")
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"${SECONDS_VARIABLE}: got {value!r}, expected seconds above 0; correct it, or unset it")
    return seconds


def check_size(width: int, height: int, limits: VideoLimits) -> None:
    """Raises VideoRefused for frames without pixels, with too many, and for stripes."""
    size, remedy = f"frames of {width}x{height} pixels", "save the video smaller, or remove the row"
    if min(width, height) < 1:
        raise VideoRefused("frames without pixels", "a video with frames", "save it anew, or remove the row")
    if width * height > limits.pixels:
        raise VideoRefused(size, f"at most {limits.pixels:,} pixels", remedy)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise VideoRefused(size, f"sides within 1:{MAX_ASPECT}", remedy)


def check_decoded(frames: int, pixels: int, limits: VideoLimits) -> None:
    """Raises VideoRefused where decoding took more frames or pixels than allowed."""
    remedy = "cut the part that is shown into a file of its own, or save it with fewer and smaller frames"
    if frames > limits.frames_decoded:
        got = f"over {limits.frames_decoded:,} frames to decode"
        raise VideoRefused(got, f"at most {limits.frames_decoded:,}", remedy)
    if pixels > limits.pixels_decoded:
        got = f"over {limits.pixels_decoded:,} pixels to decode"
        raise VideoRefused(got, f"at most {limits.pixels_decoded:,}", remedy)
