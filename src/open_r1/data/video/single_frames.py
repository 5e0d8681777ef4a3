"""Videos of one frame, which some processors refuse: there the frame is shown twice. (torch-free)"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from open_r1.data.video.inputs import grey_video, videos_in
from open_r1.data.video.own_texts import TRIED_SIDES, chat_about, made_of, with_other_videos
from open_r1.data.video.types import VideoFrames

logger = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def takes_one_frame(processor: Any) -> bool:
    """Whether the processor takes a video of one frame; it is tried."""
    try:
        made_of(processor, chat_about([grey_video(1, *TRIED_SIDES, span=0.5)]))
    except Exception as error:  # each processor refuses in its own way
        logger.info("%s takes no video of one frame: %s", type(processor).__name__, error)
        return False
    return True


def with_doubled_frames(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy of a conversation in which a video of one frame shows it twice, at its time."""
    return with_other_videos(chat, [of_two_frames(video) for video in videos_in(chat)])


def of_two_frames(video: VideoFrames) -> VideoFrames:
    """A video of one frame as one of two, others as they are.

    >>> len(of_two_frames(grey_video(1, 4, 4, 1.0)).pixels), len(of_two_frames(grey_video(3, 4, 4, 1.0)).pixels)
    (2, 3)
    """
    if len(video.seconds) > 1:
        return video
    return replace(video, pixels=video.pixels.repeat(2, axis=0), seconds=video.seconds * 2)
