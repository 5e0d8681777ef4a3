"""Videos of a conversation as processors take them: pixels, and the times of their frames. (torch-free)"""

from collections.abc import Iterator, Sequence
from math import frexp, ldexp
from typing import Any

import numpy as np
from PIL import Image

from open_r1.data.video.types import VideoFrames

MILLISECOND = 2**11  # ticks in which the times of frames are counted: files of a variable rate have no other clock
TICKS = 1000 * MILLISECOND  # a second


def metadata_of(video: VideoFrames) -> dict[str, Any]:
    """What processors read of the times of a video's frames, of which its rate is T / span to half a per cent.

    Qwen2.5-VL cuts multiples of the seconds a frame to whole positions: the trainer in float32, vLLM in float64 of
    seconds that it rounds to the type of the weights. Seconds that bfloat16 holds are the same multiples to all.
    """
    height, width = video.pixels.shape[1:3]
    frames = len(video.seconds)
    return {
        "total_num_frames": max(1, round(frames * in_eight_bits(video.span / frames) * TICKS)),
        "fps": TICKS,
        "width": width,
        "height": height,
        "duration": video.span,
        "frames_indices": [round(seconds * 1000) * MILLISECOND for seconds in video.seconds],
    }


def in_eight_bits(value: float) -> float:
    """The nearest number with a mantissa of eight bits, as bfloat16 has.

    >>> in_eight_bits(0.5), in_eight_bits(0.7), in_eight_bits(0.0)
    (0.5, 0.69921875, 0.0)
    """
    mantissa, exponent = frexp(value)
    return ldexp(round(mantissa * 2**8), exponent - 8)


def grey_video(frames: int, width: int, height: int, span: float) -> VideoFrames:
    """A video of so many grey frames of this size in pixels, evenly over `span` seconds: what a processor makes of it
    has the tokens of every video of this shape."""
    pixels = np.full((frames, height, width, 3), 99, dtype=np.uint8)
    return VideoFrames(pixels, tuple(span * i / frames for i in range(frames)), span)


def media_shown(chat: Sequence[dict[str, Any]]) -> list[Image.Image | VideoFrames]:
    """The pictures and videos of a conversation, in order."""
    return [part[part["type"]] for part in _parts_of(chat) if part["type"] in ("image", "video")]


def videos_in(chat: Sequence[dict[str, Any]]) -> Iterator[VideoFrames]:
    """The videos of a conversation, in order."""
    yield from (part["video"] for part in _parts_of(chat) if part["type"] == "video")


def pictures_shown(chat: Sequence[dict[str, Any]]) -> Iterator[Image.Image]:
    """The pictures of a conversation, in order."""
    yield from (part["image"] for part in _parts_of(chat) if part["type"] == "image")


def _parts_of(chat: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from (part for message in chat if not isinstance(message["content"], str) for part in message["content"])


def with_pixels(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy of a conversation in which each video is its pixels (T, H, W, 3)."""
    return [message | {"content": _with_pixels(message["content"])} for message in chat]


def _with_pixels(parts: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(parts, str):
        return parts
    return [part | {"video": part["video"].pixels} if part["type"] == "video" else part for part in parts]


def as_frames(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy of a conversation in which each video is its frames as pictures, each behind a line with its time.

    >>> chat = [{"role": "user", "content": [{"type": "video", "video": grey_video(2, 4, 4, span=1.0)}]}]
    >>> [part.get("text", part["type"]) for part in as_frames(chat)[0]["content"]]
    ['0.0s: ', 'image', '\\n0.5s: ', 'image', '\\n']
    """
    return [message | {"content": _as_frames(message["content"])} for message in chat]


def _as_frames(parts: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(parts, str):
        return parts
    return [made for part in parts for made in (frame_parts(part["video"]) if part["type"] == "video" else [part])]


def frame_parts(video: VideoFrames) -> list[dict[str, Any]]:
    """A video's frames as content parts: a line of text with the frame's time in seconds, then its picture."""
    parts: list[dict[str, Any]] = []
    for number, (seconds, picture) in enumerate(zip(video.seconds, video.pictures(), strict=True)):
        parts.append({"type": "text", "text": "\n" * (number > 0) + f"{seconds:.1f}s: "})
        parts.append({"type": "image", "image": picture})
    return [*parts, {"type": "text", "text": "\n"}]


def video_options(chats: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The options of a processor's call for the videos of conversations, none without any."""
    videos = [list(videos_in(chat)) for chat in chats]
    return of_videos(videos) if any(videos) else {}


def of_videos(rows: Sequence[Sequence[VideoFrames]]) -> dict[str, Any]:
    """The options of a processor's call for the videos of rows: their frames are chosen, and have these times."""
    return {"do_sample_frames": False, "video_metadata": [list(map(metadata_of, row)) for row in rows]}
