"""What a processor makes of trial videos: whether it takes them, beside pictures, and of several lengths."""

from collections.abc import Mapping
from typing import Any

from transformers import ProcessorMixin

from open_r1.rollout.media_joins import Join
from open_r1.rollout.processing import Values, is_of_pixels, process, tried, user_turn

TRIED_FRAMES, OTHER_FRAMES = 4, 2  # of the videos that are tried, two a second


def video_trials(
    processor: ProcessorMixin, template: Mapping[str, Any] | None
) -> tuple[Values, Values | None, Values | None] | None:
    """What a processor makes of one video, of two, and of two conversations of one; None where it takes no video or
    its chat template drops it."""
    if why_no_native_videos(processor, template):
        return None
    one = process(processor, [user_turn("What?", videos=[TRIED_FRAMES])], template)
    two = tried(processor, [user_turn("What?", videos=[TRIED_FRAMES] * 2)], template)
    return one, two, tried(processor, [user_turn("What?", videos=[TRIED_FRAMES])] * 2, template)


def why_no_native_videos(processor: ProcessorMixin, template: Mapping[str, Any] | None = None) -> str | None:
    """Why a model's own processor and chat template do not show a video, or None where they do; they are tried."""
    name = type(processor).__name__
    if getattr(processor, "video_processor", None) is None:
        return f"{name} has no processor of videos"
    try:
        shown = process(processor, [user_turn("What?", videos=[TRIED_FRAMES])], template)
    except Exception as error:  # each processor refuses in its own way
        return f"{name} takes no video: {' '.join(str(error).split())[:120]}"
    without = process(processor, [user_turn("What?")], template)
    if not any(map(is_of_pixels, shown.values())) or shown["input_ids"].shape[1] <= without["input_ids"].shape[1] + 1:
        return "the chat template leaves videos out"
    return None


def why_unmixed(
    processor: ProcessorMixin,
    template: Mapping[str, Any] | None,
    picture: Values,
    video: Values,
    joins: Mapping[str, Join],
) -> str | None:
    """Why a conversation with a picture and a video is not made of both, or None; `joins` are those of pictures."""
    try:
        both = process(processor, [user_turn("What?", 1, [TRIED_FRAMES])], template)
    except Exception as error:
        return f"{type(processor).__name__} takes no picture beside a video: {' '.join(str(error).split())[:120]}"
    shared = [name for name in joins.keys() & picture.keys() & video.keys() if is_of_pixels(picture[name])]
    for name in shared:
        row = joins[name].row
        if both[name].shape[row] < picture[name].shape[row] + video[name].shape[row]:
            return f"{type(processor).__name__} drops the picture beside a video"
    return None
