"""Decodes the sampled frames of video files and of lists of frame pictures. (torch-free)"""

from collections.abc import Sequence

import av
import numpy as np

from open_r1.data.images import open_image
from open_r1.data.paths import ImageFolder
from open_r1.data.record import Record
from open_r1.data.videos import FrameSampling, Video, VideoFrames


def load_videos(records: Sequence[Record], sampling: FrameSampling, *, workers: int = 4) -> list[list[VideoFrames]]:
    """The sampled frames of each record's videos. Raises DataError with the problems of all files."""
    return [[frames_of(record, video, sampling) for video in record.videos] for record in records]


def frames_of(record: Record, video: Video, sampling: FrameSampling) -> VideoFrames:
    """The sampled frames of one video of a record."""
    if video.of_frames:
        pictures = [open_image(record.folder, path, where=record.where) for path in video.paths]
        rate = video.fps or sampling.fps
        times = np.arange(len(pictures)) / rate
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        return VideoFrames(pixels, tuple(times.tolist()), len(pictures) / rate)
    with av.open(ImageFolder(record.folder).resolve(video.paths[0], record.where)) as file:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        rate = float(file.streams.video[0].average_rate)
    span = len(frames) / rate
    count = min(len(frames), sampling.max_frames, max(2, round(span * (video.fps or sampling.fps) / 2) * 2))
    chosen = np.linspace(0, len(frames) - 1, video.nframes or count).round().astype(int)
    return VideoFrames(np.stack([frames[i][1] for i in chosen]), tuple(float(frames[i][0]) for i in chosen), span)
