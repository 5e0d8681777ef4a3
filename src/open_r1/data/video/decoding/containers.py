"""Decodes the sampled frames of a video file with FFmpeg, through PyAV, within limits. (torch-free)

The file is given to FFmpeg as an open file and not as a path, and formats that name other files or addresses
(playlists, HLS, concat) are not known here, so that a file can make it read nothing else.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from os import SEEK_END
from typing import BinaryIO

import av
import numpy as np

from open_r1.data.video.decoding.frame_choice import frame_count, frame_rate, spaced_places, window_of
from open_r1.data.video.decoding.limits import VideoLimits, VideoRefused, check_decoded, check_size
from open_r1.data.video.decoding.packets import FrameTimes, frame_times
from open_r1.data.video.decoding.pictures import FrameShape
from open_r1.data.video.types import FrameSampling, Video, VideoFrames

CONTAINER_FORMATS = "mov,matroska,avi,mpeg,mpegts,flv,asf,ogg,ivf,mxf,dv,rm,h264,hevc,m4v,mpegvideo,yuv4mpegpipe"
CUT_WORDS = ("partial file", "ended prematurely", "moov atom not found", "truncat")  # FFmpeg's words
NO_MEMORY = ("get_buffer() failed", "Cannot allocate memory")
CUT_VIDEO, WHOLE_VIDEO = "a video that is cut short", "a whole video"
UNKNOWN_FORMAT = "not on whitelist"  # FFmpeg's words
NO_STREAM, NO_FRAME = "a file without a video stream", "a video without a frame"
AGAIN = "copy the file again, save it anew, or remove the row"


@dataclass
class Spent:
    """The frames and pixels that were decoded of a file so far, and how far that may go."""

    limits: VideoLimits
    only_first: bool = False  # of the frames that are shown, only the first is decoded
    frames: int = 0
    pixels: int = 0

    def add(self, frame: av.VideoFrame) -> None:
        """Counts a frame. Raises VideoRefused over the limits."""
        check_size(frame.width, frame.height, self.limits)
        self.frames, self.pixels = self.frames + 1, self.pixels + frame.width * frame.height
        check_decoded(self.frames, self.pixels, self.limits)


@dataclass
class OpenVideo:
    """An open file with its first moving stream."""

    container: av.container.InputContainer
    stream: av.VideoStream
    spent: Spent

    def decoded(self) -> Iterator[av.VideoFrame]:
        """The frames from here on. Raises VideoRefused over the limits."""
        for frame in self.container.decode(self.stream):
            self.spent.add(frame)
            yield frame

    @property
    def rate(self) -> float | None:
        """Frames a second, as the file states it on average."""
        return float(self.stream.average_rate) if self.stream.average_rate else None

    def seconds_held(self, seconds: list[float]) -> float:
        """How long the file is: as it says, else up to its last frame that is known."""
        stated = self.stream.duration
        return seconds[-1] if stated is None else max(seconds[-1], float(stated * self.stream.time_base))


def read_container(
    file: BinaryIO, video: Video, sampling: FrameSampling, limits: VideoLimits, only_first: bool = False
) -> VideoFrames:
    """The sampled frames of an open video file; `only_first`: with the pixels of the first one alone. Raises
    VideoRefused for what cannot be shown."""
    spent = Spent(limits, only_first)
    with av.logging.Capture(True) as logged:
        try:
            frames = _by_seeking(file, video, sampling, spent) or _by_decoding_all(file, video, sampling, spent)
        except av.error.FFmpegError as error:
            raise _damaged(error, _told(logged), limits) from error
        except VideoRefused as refused:
            is_cut = refused.got in (NO_STREAM, NO_FRAME) and _says(logged, CUT_WORDS)
            raise (VideoRefused(CUT_VIDEO, WHOLE_VIDEO, AGAIN) if is_cut else refused) from refused
    if video.end is None and _says(logged, CUT_WORDS):
        raise VideoRefused(CUT_VIDEO, WHOLE_VIDEO, AGAIN)
    return frames


def _told(logged: list[tuple[int, str, str]]) -> str:
    """What FFmpeg said, a line each."""
    return "".join(text for _, _, text in logged)


def _says(logged: list[tuple[int, str, str]], words: Sequence[str]) -> bool:
    return any(each in _told(logged) for each in words)


def _damaged(error: av.error.FFmpegError, said: str, limits: VideoLimits) -> VideoRefused:
    if any(words in said for words in CUT_WORDS):
        return VideoRefused(CUT_VIDEO, WHOLE_VIDEO, AGAIN)
    if isinstance(error, MemoryError) or any(words in said for words in NO_MEMORY):
        most = f"at most {limits.memory_bytes >> 20:,} MiB of memory"
        return VideoRefused("a video that takes more to decode", most, "save the video smaller")
    if UNKNOWN_FORMAT in said:
        got, remedy = (
            "a file in none of the formats of videos",
            "name the file of the video, or save it as H.264 in MP4",
        )
        return VideoRefused(got, "MP4, WebM, AVI or another container of videos", remedy)
    reason = (said.strip().splitlines() or [error.strerror or type(error).__name__])[0].strip(" .")
    return VideoRefused(f"a damaged video ({reason})", "a video that decodes", AGAIN)


@contextmanager
def _opened(file: BinaryIO, spent: Spent) -> Iterator[OpenVideo]:
    """The file from its begin, with its first stream of moving pictures; cover pictures are none."""
    file.seek(0)
    with av.open(file, container_options={"format_whitelist": CONTAINER_FORMATS}) as container:
        cover = av.stream.Disposition.attached_pic
        moving = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not moving:
            has_sound = any(stream.type == "audio" for stream in container.streams)
            got = "sound without pictures" if has_sound else NO_STREAM
            remedy = "name the file of the video" if has_sound else "copy the file again: it may be cut short"
            raise VideoRefused(got, "a video", f"{remedy}, or remove the row")
        stream = moving[0]
        if stream.codec_context is None:
            raise VideoRefused("a video in an unknown codec", "one that FFmpeg decodes", "save it as H.264 in MP4")
        stream.codec_context.thread_count = 1
        check_size(stream.codec_context.width, stream.codec_context.height, spent.limits)
        yield OpenVideo(container, stream, spent)


def _by_seeking(file: BinaryIO, video: Video, sampling: FrameSampling, spent: Spent) -> VideoFrames | None:
    """The sampled frames, each decoded from the last place before it at which decoding can begin; None where packets
    do not tell which frames there are."""
    with _opened(file, spent) as opened:
        times = frame_times(opened.container, opened.stream, video.start or 0.0, video.end, spent.limits)
        if times is None:
            return None
        _refuse_cut(opened, file, times, video)
        chosen, span = _chosen(times.seconds, opened, video, sampling)
        wanted = chosen[:1] if spent.only_first else chosen
        pictures = _sought(opened, times, [times.ticks[place] for place in wanted], sampling)
        if pictures is None:
            return None
        return VideoFrames(np.stack(pictures), tuple(times.seconds[place] for place in chosen), span)


def _refuse_cut(opened: OpenVideo, file: BinaryIO, times: FrameTimes, video: Video) -> None:
    """Raises VideoRefused where a file holds fewer frames than it says. AVI counts places, of which those that show
    the frame before again have no packet: there the place of the last frame tells, or the length of the file."""
    stream, whole = opened.stream, video.start is None and video.end is None
    if whole and stream.frames > times.packets:
        last_place = times.ticks[-1] - (stream.start_time or 0) + 1
        if opened.container.format.name == "avi" and (last_place >= stream.frames or _is_as_long_as_stated(file)):
            return
        got = f"{times.packets:,} of its {stream.frames:,} frames: it is cut short"
        raise VideoRefused(got, WHOLE_VIDEO, AGAIN)


def _is_as_long_as_stated(file: BinaryIO) -> bool:
    """Whether a file is one RIFF chunk with nothing missing behind; its reader's position stays."""
    position = file.tell()
    file.seek(4)
    stated, held = int.from_bytes(file.read(4), "little"), file.seek(0, SEEK_END) - 8
    file.seek(position)
    return stated <= held <= stated + 1  # a chunk of an odd size has a byte behind


def _chosen(seconds: list[float], opened: OpenVideo, video: Video, sampling: FrameSampling) -> tuple[list[int], float]:
    """The places among frames at `seconds` that are shown, and the seconds that they stand for."""
    first, stop = window_of(seconds, video.start, video.end)
    if not seconds:
        raise VideoRefused(NO_FRAME, "a video with frames", AGAIN)
    if first >= stop:
        end = "its end" if video.end is None else f"{video.end:g}"
        got, held = f"no frame from second {video.start or 0:g} to {end}", opened.seconds_held(seconds)
        raise VideoRefused(got, f"a part of its {held:.3g} s", "correct video_start and video_end")
    total, rate = stop - first, frame_rate(seconds[first:stop], opened.rate)
    if (span := total / rate) > opened.spent.limits.seconds:
        most = f"at most {opened.spent.limits.seconds:g} s"
        raise VideoRefused(f"{span:.0f} s of video", most, "give the row video_start and video_end, or remove it")
    return spaced_places(first, stop - 1, frame_count(total, rate, video, sampling)), span


def _sought(
    opened: OpenVideo, times: FrameTimes, ticks: list[int], sampling: FrameSampling
) -> list[np.ndarray] | None:
    """(H, W, 3) of the frames at ascending `ticks`; None where one does not appear after the place to seek to."""
    shape, starts = _shape_of(opened, sampling), [key for key, _ in times.keys]
    pictures: list[np.ndarray] = []
    at: int | None = None  # the newest frame that was decoded
    frames: Iterator[av.VideoFrame] = iter(())
    for tick in ticks:
        place = bisect_right(starts, tick) - 1
        if at is None or starts[place] > at:
            opened.container.seek(times.keys[place][1], stream=opened.stream, backward=True)
            frames = opened.decoded()
        frame = next((frame for frame in frames if frame.pts is None or frame.pts >= tick), None)
        if frame is None or frame.pts != tick:
            return None
        at = tick
        pictures.append(_picture(frame, shape))
    return pictures


def _by_decoding_all(file: BinaryIO, video: Video, sampling: FrameSampling, spent: Spent) -> VideoFrames:
    """The sampled frames of a video whose frames are found by decoding: once to list them, and once to take them."""
    with _opened(file, spent) as opened:
        seconds = _listed_seconds(opened)
        chosen, span = _chosen(seconds, opened, video, sampling)
    with _opened(file, spent) as opened:
        shape, wanted = _shape_of(opened, sampling), chosen[:1] if spent.only_first else chosen
        until = zip(range(wanted[-1] + 1), opened.decoded(), strict=False)
        pictures = {number: _picture(frame, shape) for number, frame in until if number in wanted}
    if len(pictures) < len(wanted):
        raise VideoRefused("a video whose frames differ from one reading to the next", WHOLE_VIDEO, AGAIN)
    return VideoFrames(np.stack([pictures[n] for n in wanted]), tuple(seconds[n] for n in chosen), span)


def _listed_seconds(opened: OpenVideo) -> list[float]:
    """The seconds of all frames since the first one; where the file does not tell them, by its rate."""
    times = [frame.time for frame in opened.decoded()]
    if None in times or any(later <= earlier for earlier, later in pairwise(times)):
        return [number / (opened.rate or 1.0) for number in range(len(times))]
    return [time - times[0] for time in times]


def _shape_of(opened: OpenVideo, sampling: FrameSampling) -> FrameShape:
    def refuse(got: str) -> VideoRefused:
        return VideoRefused(got, "frames of one proportion", "cut the video where its size changes, or remove the row")

    return FrameShape(sampling.max_pixels, opened.stream.sample_aspect_ratio, refuse)


def _picture(frame: av.VideoFrame, shape: FrameShape) -> np.ndarray:
    if frame.is_corrupt:
        got = "a damaged frame" + ("" if frame.time is None else f" at {frame.time:.3g} s")
        raise VideoRefused(got, "a video that decodes", AGAIN)
    return shape.picture(frame)
