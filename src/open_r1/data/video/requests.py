"""What a row asks of its videos and does not get: seconds and frames that a file or a run has not. (torch-free)"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from open_r1.data.record import Record
from open_r1.data.video.types import FRAME_FACTOR, FrameSampling, Video, VideoShape
from open_r1.errors import Problem

SLACK_SECONDS = 0.5  # by which an end may lie beyond that of the file: lengths are rounded, sound is longer
SLACK_RATE = 0.05  # share of its frames by which a video may miss the rate that a row asks for
_BY_FLAG = "--video_max_frames"
# Names that other projects and slips of the pen give to what a row says of its videos -> ours.
NEAR_OPTIONS = {
    **dict.fromkeys(("nframe", "n_frames", "num_frames", "frames", "video_nframes", "max_frames"), "nframes"),
    **dict.fromkeys(("video_fps", "sample_fps", "frame_rate", "framerate"), "fps"),
    **dict.fromkeys(("start", "start_time", "start_sec", "begin", "video_begin"), "video_start"),
    **dict.fromkeys(("end", "end_time", "end_sec", "video_stop"), "video_end"),
}
OF_VIDEOS_ALONE = ("video_start", "video_end", "nframes")  # say nothing of a row without one; `fps` may be a column


@dataclass
class UnreadRequests:
    """Counts fields that look like a request of a row's videos and act on nothing, for the doctor."""

    alike: Counter[str] = field(default_factory=Counter)
    without_video: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)  # name -> the first row with it

    def add(self, record: Record) -> None:
        """Counts the fields of one row; its rewards see them, whatever they are."""
        counter, names = (self.alike, NEAR_OPTIONS) if record.videos else (self.without_video, OF_VIDEOS_ALONE)
        for name in names:
            value = record.extra.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                counter[name] += 1
                self.first.setdefault(name, record.where)

    def hints(self) -> tuple[str, ...]:
        """What is to be said of them, a line each."""
        alike = (
            f"{self.first[name]}: {name}: got a field that no video is sampled by, in {count} row(s) with videos, "
            f"expected {NEAR_OPTIONS[name]!r}; rename it, unless it is for your rewards"
            for name, count in self.alike.items()
        )
        without = (
            f"{self.first[name]}: {name}: got a request of a video, in {count} row(s) without one, expected 'video' "
            "beside it; name the video, or remove the field"
            for name, count in self.without_video.items()
        )
        return (*alike, *without)


def unmet_requests(video: Video, shape: VideoShape, sampling: FrameSampling, where: str) -> Iterator[Problem]:
    """The row's own `video_end`, `nframes` and `fps` that its sampled frames, of `shape`, are otherwise than asked.

    What a run's flags alone decide is no request of the row: a long clip has `--video_max_frames` frames.
    """
    yield from _unmet_end(video, shape, where)
    shown, bound = len(shape.seconds), sampling.max_frames // FRAME_FACTOR * FRAME_FACTOR
    if video.nframes is not None and video.nframes != shown:
        yield _unmet_count(video.nframes, shown, bound, where)
    if video.fps is not None and not video.of_frames:
        yield from _unmet_rate(video.fps, shape, bound, where)


def _unmet_end(video: Video, shape: VideoShape, where: str) -> Iterator[Problem]:
    """The problem of an end that lies beyond the last frame by more than the time that it is shown."""
    interval = max(0.0, shape.span - (shape.seconds[-1] - shape.seconds[0]))  # from one frame of the file to the next
    held = shape.seconds[-1] + interval
    if video.end is not None and video.end > held + max(SLACK_SECONDS, interval):
        remedy = "write it in seconds of the file, or remove it"
        yield Problem(where, "video_end", f"{video.end:g}", f"at most {held:.3g}, where the frames end", remedy)


def _unmet_count(asked: int, shown: int, bound: int, where: str) -> Problem:
    got = f"{asked}, of which {shown} are shown" if shown < asked else f"{asked}, for which {shown} are shown"
    if shown >= bound and asked > bound:
        expected, remedy = f"at most {bound}, the bound of {_BY_FLAG}", f"ask for fewer, or raise {_BY_FLAG}"
    elif shown < asked - 1:
        expected, remedy = "no more frames than there are", "ask for fewer, or for none: nframes is then the run's"
    else:
        expected, remedy = "an even number, within the frames that are there", f"write {shown}"
    return Problem(where, "nframes", got, expected, remedy)


def _unmet_rate(asked: float, shape: VideoShape, bound: int, where: str) -> Iterator[Problem]:
    """The problem of a rate that is not reached; an odd frame that is left out is none."""
    shown, wanted = len(shape.seconds), shape.span * asked
    if shown >= wanted // FRAME_FACTOR * FRAME_FACTOR or shown >= wanted * (1 - SLACK_RATE):
        return
    got = f"{asked:g}, shown at {shown / shape.span:.3g} a second"
    if shown >= bound:
        expected, remedy = (
            f"at most {bound} frames, the bound of {_BY_FLAG}",
            f"write a lower one, or raise {_BY_FLAG}",
        )
    else:
        expected, remedy = "at most the rate of the file", "write a lower one, or remove it"
    yield Problem(where, "fps", got, expected, remedy)
