"""The sampled frames of records' videos: of files, which other processes decode, and of pictures. (torch-free)"""

from collections.abc import Sequence

import numpy as np

from open_r1.data.geometry.coordinates import shown_size
from open_r1.data.images import open_image, original_size
from open_r1.data.opened_files import opened_all
from open_r1.data.paths import ImageFolder
from open_r1.data.record import Record
from open_r1.data.video.decoding.frame_choice import chosen_pictures
from open_r1.data.video.decoding.limits import LIMITS, VideoLimits, VideoRefused, decode_seconds
from open_r1.data.video.decoding.pictures import FrameShape, fitted_size
from open_r1.data.video.decoding.processes import decode_apart, measure_apart
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.types import FrameSampling, Video, VideoFrames, VideoShape
from open_r1.errors import DataError, data_error, shorten

VideoPlace = tuple[str, Video]  # folder, video: rows that show the same share its frames


def load_videos(
    records: Sequence[Record],
    sampling: FrameSampling,
    *,
    workers: int = 4,
    cache: FrameCache | None = None,
    limits: VideoLimits = LIMITS,
) -> list[list[VideoFrames]]:
    """The sampled frames of each record's videos, in at most `workers` processes at once; a video that two records
    name is read once and its frames shared, so do not write to them.

    Raises DataError with the problems of all videos.
    """
    places: dict[VideoPlace, str] = {}
    for record in records:
        for video in record.videos:
            places.setdefault((record.folder, video), record.where)
    if not places:
        return [[] for _ in records]
    loaded = opened_all(places, lambda place: _read(*place, places[place], sampling, cache, limits), workers)
    return [[loaded[record.folder, video] for video in record.videos] for record in records]


def video_shapes(record: Record, sampling: FrameSampling, *, limits: VideoLimits = LIMITS) -> list[VideoShape]:
    """The shapes of a record's videos as `load_videos` reads them, at a fraction of the time. Raises DataError."""
    return [_shape(record.folder, video, record.where, sampling, limits) for video in record.videos]


def _shape(folder: str, video: Video, where: str, sampling: FrameSampling, limits: VideoLimits) -> VideoShape:
    try:
        if video.of_frames:
            places, times, span = _chosen_pictures(video, sampling)
            size = original_size(folder, video.paths[places[0]], where=where, field="video")
            return VideoShape(*fitted_size(*shown_size(size), sampling.max_pixels), tuple(times), span)
        path = ImageFolder(folder).resolve(video.paths[0], where, "video")
        return measure_apart(path, video, sampling, limits, decode_seconds())
    except VideoRefused as refused:
        raise _data_error(video, where, refused) from refused


def _data_error(video: Video, where: str, refused: VideoRefused) -> DataError:
    got = f"{shorten(video.paths[0])}, {refused.got}"
    return data_error(where, "video", got, refused.expected, refused.remedy)


def _read(
    folder: str, video: Video, where: str, sampling: FrameSampling, cache: FrameCache | None, limits: VideoLimits
) -> VideoFrames:
    """The sampled frames of one video. Raises DataError (field `video`)."""
    try:
        if video.of_frames:
            return _of_pictures(folder, video, where, sampling)
        path = ImageFolder(folder).resolve(video.paths[0], where, "video")
        known = cache.get(path, video, sampling) if cache else None
        if known is not None:
            return known
        frames = decode_apart(path, video, sampling, limits, decode_seconds())
        if cache:
            cache.put(path, video, sampling, frames)
        return frames
    except VideoRefused as refused:
        raise _data_error(video, where, refused) from refused


def _of_pictures(folder: str, video: Video, where: str, sampling: FrameSampling) -> VideoFrames:
    """The sampled frames of a video that is a list of pictures."""
    places, times, span = _chosen_pictures(video, sampling)

    def refuse(got: str) -> VideoRefused:
        return VideoRefused(f"a list of {got}", "frames of one proportion", "list the pictures of one video")

    shape, pixels = FrameShape(sampling.max_pixels, None, refuse), []
    for place in places:
        picture = open_image(folder, video.paths[place], where=where, field="video")
        pixels.append(shape.fitted(np.asarray(picture), picture.size))
    return VideoFrames(np.stack(pixels), tuple(times), span)


def _chosen_pictures(video: Video, sampling: FrameSampling) -> tuple[list[int], list[float], float]:
    """As `chosen_pictures`. Raises VideoRefused where none is shown."""
    places, times, span = chosen_pictures(video, sampling)
    if not places:
        held, remedy = f"{len(video.paths)} frames", "correct video_start and video_end, or their rate, fps"
        raise VideoRefused("no frame between video_start and video_end", f"a part of its {held}", remedy)
    return places, times, span
