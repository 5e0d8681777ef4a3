"""The flags of videos: refused where they could not act, and made into what reads the frames."""

import argparse
import logging
from collections.abc import Iterable
from math import inf
from typing import Protocol

from open_r1.config.task_arguments import TaskArguments
from open_r1.data.jsonl_dataset import default_cache_dir
from open_r1.data.record import Record
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.types import FRAME_FACTOR, FrameSampling
from open_r1.errors import UsageError

logger = logging.getLogger(__name__)

LEAST_PIXELS = 28 * 28  # of a frame: one token of Qwen2-VL
BY_DEFAULT, BY_DEFAULT_FORM = FrameSampling(), "auto"


class VideoSettings(Protocol):
    """What holds the flags of videos: those of a training script, or the settings of an evaluation."""

    video_fps: float
    video_max_frames: int
    video_max_pixels: int
    video_form: str
    video_cache_gb: float


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of videos to a tool's own, with the defaults of training."""
    add, plain = parser.add_argument, BY_DEFAULT
    add("--video_fps", type=float, default=plain.fps, help="frames a second of a video, as in training")
    add("--video_max_frames", type=int, default=plain.max_frames, help="most frames of a video")
    add("--video_max_pixels", type=int, default=plain.max_pixels, help="largest area of a frame")
    forms = ["auto", "native", "frames"]
    add("--video_form", choices=forms, default=BY_DEFAULT_FORM, help="how videos are shown, of which tokens differ")
    parser.set_defaults(video_cache_gb=0.0)


def frame_sampling(settings: VideoSettings) -> FrameSampling:
    """How the flags say that videos are sampled."""
    return FrameSampling(settings.video_fps, settings.video_max_frames, settings.video_max_pixels)


def frame_cache(settings: VideoSettings) -> FrameCache | None:
    """What keeps sampled frames on disk, None where the flags say none."""
    if not settings.video_cache_gb:
        return None
    return FrameCache(default_cache_dir() / "frames", int(settings.video_cache_gb * 1e9))


def check_videos(settings: VideoSettings) -> None:
    """Refuse rates, numbers and areas that no video could have. Raises UsageError, a ValueError."""
    fps, frames, pixels = settings.video_fps, settings.video_max_frames, settings.video_max_pixels
    if not 0 < fps < inf:
        raise UsageError(f"--video_fps: got {fps:g}, expected frames a second above 0, such as {BY_DEFAULT.fps:g}")
    if frames < FRAME_FACTOR or frames % FRAME_FACTOR:
        raise UsageError(
            f"--video_max_frames: got {frames}, expected an even number of at least {FRAME_FACTOR}, since frames make "
            f"tokens in pairs, such as {BY_DEFAULT.max_frames}"
        )
    if pixels < LEAST_PIXELS:
        raise UsageError(f"--video_max_pixels: got {pixels}, expected at least {LEAST_PIXELS}, a frame of 28 x 28")
    if not 0 <= settings.video_cache_gb < inf:
        raise UsageError(f"--video_cache_gb: got {settings.video_cache_gb:g}, expected 0 for none, or a disk space")


def refuse_no_videos(records: Iterable[Record], settings: VideoSettings) -> None:
    """Raises UsageError where a flag is about videos and no row has one."""
    acting = {
        "video_fps": settings.video_fps != BY_DEFAULT.fps,
        "video_max_frames": settings.video_max_frames != BY_DEFAULT.max_frames,
        "video_max_pixels": settings.video_max_pixels != BY_DEFAULT.max_pixels,
        "video_form": settings.video_form != BY_DEFAULT_FORM,
        "video_cache_gb": settings.video_cache_gb > 0,
    }
    flags = [f"--{name}" for name, acts in acting.items() if acts]
    if flags and not any(record.videos for record in records):
        raise UsageError(f"{flags[0]}: got rows without any video, expected some with videos; leave it out")


def warn_of_clips_alone(records: Iterable[Record], settings: TaskArguments) -> None:
    """Warn of a flag about the sizes of pictures where rows have videos alone."""
    names = ("max_pixels", "min_pixels", "max_anyres_num")
    flags = [f"--{name}" for name in names if getattr(settings, name) is not None]
    if not flags or settings.video_form == "frames":  # frames as pictures
        return
    videos = 0
    for record in records:
        if record.images:
            return  # most often the first row
        videos += len(record.videos)
    if videos:
        logger.warning(
            "%s: acts on pictures, and no row has one, only videos; --video_max_pixels limits their frames", flags[0]
        )
