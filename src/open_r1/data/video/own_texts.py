"""Conversations whose videos a processor would stack, or take for equally long: each video's text as of it alone.

transformers' processors make a text of each video (`replace_video_token`), which stands for it in the conversation.
(torch-free)
"""

from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

from open_r1.data.video.inputs import grey_video, video_options, with_pixels
from open_r1.data.video.types import VideoFrames

Made = dict[str, Any]  # what a processor makes
Make = Callable[[Any, Sequence[VideoFrames]], Made]  # of one conversation with these videos in place of its own
TRIED_LENGTHS = (4, 2)  # frames of the videos that are tried, two a second
TRIED_SIDES = (96, 64)  # pixels of a frame


def made_of(processor: Any, chat: Sequence[dict[str, Any]], prompts: bool = True, **template: Any) -> Made:
    """The processor's fields of a conversation with its pictures and videos; `prompts`: for the next turn."""
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": prompts}
    given = {"processor_kwargs": video_options([chat]), **template}
    return processor.apply_chat_template([with_pixels(chat)], **options, **given)


def made_with_own_texts(processor: Any, videos: Sequence[VideoFrames], make: Make) -> Made:
    """What `make` makes of a conversation with `videos`, with each video's text as of that video alone.

    Its fields of videos are those of the shortest, as often. Raises ValueError where the processor writes no text.
    """
    texts, other = [text_of_video(processor, video) for video in videos], copy(processor)
    other.replace_video_token = lambda inputs, video_idx, **options: texts[video_idx]
    return make(other, [min(videos, key=lambda video: len(video.pixels))] * len(videos))


def text_of_video(processor: Any, video: VideoFrames) -> str:
    """What the processor writes for a video alone. Raises ValueError where it writes nothing."""
    written, watched = [], copy(processor)

    def replace_video_token(*inputs: Any, **options: Any) -> str:
        written.append(processor.replace_video_token(*inputs, **options))
        return written[-1]

    watched.replace_video_token = replace_video_token
    made_of(watched, chat_about([video]))
    if len(written) != 1:
        raise ValueError(f"{type(processor).__name__} writes {len(written)} texts of a video, expected 1")
    return written[0]


def chat_about(shown: Sequence[Any]) -> list[dict[str, Any]]:
    """A conversation of one turn with these pictures and videos, and a full stop."""
    kinds = ["video" if isinstance(each, VideoFrames) else "image" for each in shown]
    parts = [{"type": kind, kind: each} for kind, each in zip(kinds, shown, strict=True)]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "."}]}]


def with_other_videos(chat: Sequence[dict[str, Any]], videos: Sequence[VideoFrames]) -> list[dict[str, Any]]:
    """A copy of a conversation with these videos in place of its own."""
    others = iter(videos)

    def shown(parts: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if isinstance(parts, str):
            return parts
        return [part | {"video": next(others)} if part["type"] == "video" else part for part in parts]

    return [message | {"content": shown(message["content"])} for message in chat]


def why_one_length(processor: Any, **template: Any) -> str | None:
    """Why the processor itself takes no videos of two lengths in a conversation, or None where it writes each as if
    alone."""
    videos = [grey_video(frames, *TRIED_SIDES, frames / 2) for frames in TRIED_LENGTHS]
    try:
        both = made_of(processor, chat_about(videos), **template)
    except Exception as error:  # each processor refuses in its own way
        return f"{type(processor).__name__} stacks them: {' '.join(str(error).split())[:120]}"
    none, *each = (made_of(processor, chat_about(some), **template) for some in ([], *([video] for video in videos)))
    if sorted(_ids(both) + _ids(none)) != sorted(_ids(each[0]) + _ids(each[1])):
        return f"{type(processor).__name__} writes one number of frames for all of them"
    return None


@lru_cache(maxsize=8)
def needs_own_texts(processor: Any) -> bool:
    """Whether videos of two lengths have their texts only apart."""
    return hasattr(processor, "replace_video_token") and why_one_length(processor) is not None


def _ids(made: Made) -> list[int]:
    return made["input_ids"][0].tolist()
