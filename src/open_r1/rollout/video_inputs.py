"""Videos of a conversation as processors take them: pixels, and the times of their frames."""

from collections.abc import Iterator, Sequence
from typing import Any

from transformers.video_utils import VideoMetadata

from open_r1.data.videos import VideoFrames

TICKS = 1000  # a second, in which the times of frames are counted: files of a variable rate have no other clock


def metadata_of(video: VideoFrames) -> VideoMetadata:
    """What processors read of the times of a video's frames, of which its rate is T / span."""
    height, width = video.pixels.shape[1:3]
    ticks = [round(seconds * TICKS) for seconds in video.seconds]
    return VideoMetadata(max(1, round(video.span * TICKS)), TICKS, width, height, video.span, frames_indices=ticks)


def videos_in(chat: Sequence[dict[str, Any]]) -> Iterator[VideoFrames]:
    """The videos of a conversation, in order."""
    parts = (part for message in chat if not isinstance(message["content"], str) for part in message["content"])
    yield from (part["video"] for part in parts if part["type"] == "video")


def with_pixels(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy of a conversation in which each video is its pixels (T, H, W, 3)."""

    def content(parts: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(parts, str):
            return parts
        return [part | {"video": part["video"].pixels} if part["type"] == "video" else part for part in parts]

    return [message | {"content": content(message["content"])} for message in chat]


def video_options(chats: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The options of a processor's call for the videos of conversations, none without any: their frames are chosen."""
    metadata = [list(map(metadata_of, videos_in(chat))) for chat in chats]
    return {"do_sample_frames": False, "video_metadata": metadata} if any(metadata) else {}
