"""Reads animated pictures (GIF, WebP, PNG) as videos, with Pillow, which composes their frames. (torch-free)"""

from typing import BinaryIO

import numpy as np
from PIL import Image

from open_r1.data.images import as_rgb
from open_r1.data.video.decoding.frame_choice import frame_count, frame_rate, spaced_places, window_of
from open_r1.data.video.decoding.limits import VideoLimits, VideoRefused, check_decoded, check_size
from open_r1.data.video.decoding.pictures import FrameShape
from open_r1.data.video.types import FrameSampling, Video, VideoFrames

ANIMATED_FORMATS = ("GIF", "WEBP", "PNG")
LEAST_MS, SHOWN_MS = 10, 100  # browsers show a frame of at most 10 ms for 100 ms


def is_animation(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a picture that may move.

    >>> is_animation(b"GIF89a"), is_animation(b"RIFF....WEBPVP8X"), is_animation(b"RIFF....AVI ")
    (True, True, False)
    """
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith((b"GIF8", b"\x89PNG\r\n\x1a\n")) or webp


def read_animation(
    file: BinaryIO, video: Video, sampling: FrameSampling, limits: VideoLimits, only_first: bool = False
) -> VideoFrames:
    """The sampled frames of an animated picture; `only_first`: with the pixels of the first one alone. Raises
    VideoRefused for a still one, and for damaged files."""
    try:
        with Image.open(file, formats=ANIMATED_FORMATS) as image:
            check_size(*image.size, limits)
            count = getattr(image, "n_frames", 1)
            if count < 2:
                remedy = "name it under 'image', or list the pictures of the frames under 'video'"
                raise VideoRefused(f"a still picture ({image.format})", "a video", remedy)
            check_decoded(count, count * image.width * image.height, limits)
            return _sampled(image, count, video, sampling, only_first)
    except VideoRefused:
        raise
    except Exception as error:  # decoders raise many types for a damaged file
        got = f"a damaged animation ({type(error).__name__}: {error})"
        raise VideoRefused(got, "one that decodes to its end", "copy the file again, or remove the row") from error


def _sampled(image: Image.Image, count: int, video: Video, sampling: FrameSampling, only_first: bool) -> VideoFrames:
    times, end = [], 0.0
    for number in range(count):
        image.seek(number)
        image.load()  # WebP knows how long a frame is shown when it is decoded
        times.append(end)
        shown = float(image.info.get("duration") or 0)
        end += (shown if shown > LEAST_MS else SHOWN_MS) / 1000
    first, stop = window_of(times, video.start, video.end)
    if first >= stop:
        raise VideoRefused("no frame between video_start and video_end", f"a part of its {end:.3g} s", "correct them")
    rate = frame_rate(times[first:stop], count / end)
    chosen = spaced_places(first, stop - 1, frame_count(stop - first, rate, video, sampling))
    shape = FrameShape(sampling.max_pixels, None, ValueError)
    pixels = []
    for number in chosen[:1] if only_first else chosen:
        image.seek(number)
        picture = as_rgb(image)
        pixels.append(shape.fitted(np.asarray(picture), picture.size))
    return VideoFrames(np.stack(pixels), tuple(times[number] for number in chosen), (stop - first) / rate)
