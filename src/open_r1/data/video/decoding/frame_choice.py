"""Which frames of a video are shown: as many as qwen_vl_utils' `smart_nframes` takes, evenly spaced. (torch-free)"""

from collections.abc import Sequence

import numpy as np

from open_r1.data.video.types import FRAME_FACTOR, FrameSampling, Video

LEAST_FRAMES = 4  # of a video that has them, at a rate
SAME_TIME = 1e-6  # by which a time that a row names may miss that of a frame


def window_of(times: Sequence[float], start: float | None, end: float | None) -> tuple[int, int]:
    """The first frame at or after `start` and the first one after `end`, of ascending `times` in seconds.

    >>> window_of([0.0, 0.5, 1.0, 1.5], 0.5, 1.2), window_of([0.0, 0.5], None, None)
    ((1, 3), (0, 2))
    """
    first = 0 if start is None else int(np.searchsorted(times, start - SAME_TIME, "left"))
    stop = len(times) if end is None else int(np.searchsorted(times, end + SAME_TIME, "right"))
    return first, stop


def frame_rate(times: Sequence[float], stated: float | None) -> float:
    """Frames a second of frames at `times`: the rate that the file states where its frames keep it within half a
    frame, else what their times show.

    >>> frame_rate([0.0, 0.04, 0.08], 25.0), frame_rate([0.0, 1.0, 2.0], 25.0), frame_rate([0.0], None)
    (25.0, 1.0, 1.0)
    """
    elapsed = times[-1] - times[0]
    if elapsed <= 0:
        return stated or 1.0
    if stated and abs((len(times) - 1) / stated - elapsed) <= 0.5 / stated:
        return stated
    return (len(times) - 1) / elapsed


def frame_count(total: int, rate: float, video: Video, sampling: FrameSampling) -> int:
    """How many of `total` frames at `rate` a second are shown, at least 1.

    An even number: the row's `nframes`, or a rate's share of them and at least 4, within `--video_max_frames` and what
    is there. A row that asks for one frame has one.

    >>> frame_count(300, 30.0, Video(("a.mp4",)), FrameSampling(2.0, 32))
    20
    """
    if video.nframes is not None:
        wanted = 1 if video.nframes == 1 else round(video.nframes / FRAME_FACTOR) * FRAME_FACTOR
        bounded = min(wanted, sampling.max_frames, total)
        return bounded if bounded == 1 else bounded // FRAME_FACTOR * FRAME_FACTOR
    wanted = total / rate * (sampling.fps if video.fps is None or video.of_frames else video.fps)
    bounded = min(min(max(wanted, LEAST_FRAMES), sampling.max_frames), total)
    return max(1, int(bounded // FRAME_FACTOR) * FRAME_FACTOR)


def spaced_places(first: int, last: int, count: int) -> list[int]:
    """`count` whole numbers from `first` to `last`, as `torch.linspace(first, last, count).round()` in float32.

    >>> spaced_places(0, 9, 4)
    [0, 3, 6, 9]
    """
    if count == 1:
        return [first]
    step = np.float64(np.float32(last - first) / np.float32(count - 1))
    places = np.arange(count, dtype=np.float64)
    exact = np.where(places < count // 2, first + step * places, last - step * (count - 1 - places))
    return exact.astype(np.float32).round().astype(int).tolist()


def chosen_pictures(video: Video, sampling: FrameSampling) -> tuple[list[int], list[float], float]:
    """Of a video that is a list of frame pictures: the places that are shown, their seconds, and the seconds of all.

    Pictures without a rate of their own (`fps`) are taken as sampled at the run's. All are shown where they fit.
    """
    rate = video.fps or sampling.fps
    times = [number / rate for number in range(len(video.paths))]
    first, stop = window_of(times, video.start, video.end)
    total = stop - first
    if total <= 0:
        return [], [], 0.0
    whole = video.nframes is None and rate <= sampling.fps and total <= sampling.max_frames
    count = total if whole else frame_count(total, rate, video, sampling)
    places = spaced_places(first, stop - 1, count)
    return places, [times[place] for place in places], total / rate
