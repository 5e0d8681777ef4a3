"""The frames of a video by its packets alone: their times, and where decoding can begin. (torch-free)

Packets tell the frames of a file exactly in the containers and codecs named here, in which each packet is one frame
and has its time. Of others, frames are counted by decoding them.
"""

from dataclasses import dataclass

import av
import numpy as np

from open_r1.data.video.decoding.limits import VideoLimits, VideoRefused

CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "prores", "mjpeg", "ffv1"}
# container -> codecs whose packets tell their frames there: AVI has no times of H.264's frames in order
CODECS_IN = {
    "mov": CODECS,
    "matroska": CODECS | {"vp8"},
    "flv": {"h264", "flv"},
    "avi": {"mpeg4", "mjpeg", "ffv1"},
}
TWO_FRAMES = b"DivX"  # what encoders write that put two frames into one packet of MPEG-4
FIRST_PACKETS = 64  # in which the earliest time of a file stands
SEEK_MARGIN = 3.0  # seconds before a window at which its packets begin


@dataclass(frozen=True)
class FrameTimes:
    """Frames in the order in which they are shown.

    `ticks`: their times in the stream's unit, ascending; `seconds`: since the begin of the file; `keys`: (tick, tick
    to seek to) of those at which decoding can begin; `packets`: how many were read.
    """

    ticks: list[int]
    seconds: list[float]
    keys: list[tuple[int, int]]
    packets: int


def frame_times(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    start: float,
    end: float | None,
    limits: VideoLimits,
) -> FrameTimes | None:
    """The frames around the window from `start` to `end` seconds; None where packets do not tell. Raises VideoRefused
    for too many packets."""
    codecs = (known for name, known in CODECS_IN.items() if name in container.format.name.split(","))
    if not any(stream.codec_context.name in known for known in codecs):
        return None
    earliest = _earliest(container, stream)
    if earliest is None:
        return None
    origin, decoded_first = earliest
    for begin in (start - SEEK_MARGIN, 0.0) if start > SEEK_MARGIN else (0.0,):
        target = origin + int(begin / stream.time_base) if begin > 0 else decoded_first
        container.seek(target, stream=stream, backward=True)
        found = _listed(container, stream, origin, end, limits)
        if found is None or begin <= 0 or (found.keys and found.seconds[0] <= start):
            return found
    return None


def _earliest(container: av.container.InputContainer, stream: av.VideoStream) -> tuple[int, int] | None:
    """The times, in the stream's unit, of the first frame and of the first that is decoded; None without a frame, and
    where a packet has no time, or two frames."""
    first: list[int] = []
    decoded: list[int] = []
    for packet in container.demux(stream):
        if packet.size and (packet.pts is None or _is_packed(packet, stream)):
            return None
        if packet.size and not packet.is_discard and is_shown(packet, stream):
            first.append(packet.pts)
            decoded.append(packet.pts if packet.dts is None else min(packet.pts, packet.dts))
        if len(first) >= FIRST_PACKETS:
            break
    return (min(first), min(decoded)) if first else None


def _is_packed(packet: av.Packet, stream: av.VideoStream) -> bool:
    return stream.codec_context.name == "mpeg4" and packet.is_keyframe and TWO_FRAMES in bytes(packet)[:4096]


def is_shown(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether a packet is a frame that is shown: those of VP8 say so in the fifth bit (RFC 6386, 9.1)."""
    return stream.codec_context.name != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _listed(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    origin: int,
    end: float | None,
    limits: VideoLimits,
) -> FrameTimes | None:
    """The frames from here to `end` seconds, from the first one at which decoding can begin."""
    last = None if end is None else origin + int(end / stream.time_base)
    ticks: list[int] = []
    keys: list[tuple[int, int]] = []
    packets = 0
    for packet in container.demux(stream):
        if not packet.size:
            continue
        packets += 1
        if packets > limits.packets:
            got, most = f"over {limits.packets:,} packets", f"at most {limits.packets:,}"
            raise VideoRefused(got, most, "cut the part that is shown into a file of its own")
        if packet.pts is None:
            return None
        if packet.is_keyframe:
            keys.append((packet.pts, packet.pts if packet.dts is None else min(packet.pts, packet.dts)))
        if not packet.is_discard and is_shown(packet, stream):
            ticks.append(packet.pts)
        if last is not None and (packet.pts if packet.dts is None else packet.dts) > last:
            break
    keys.sort()
    shown = np.unique(np.asarray([tick for tick in ticks if keys and tick >= keys[0][0]], np.int64))
    if len(shown) == 0 or len(ticks) - len(shown) > sum(tick < keys[0][0] for tick in ticks):
        return None  # none, or two frames at one time
    seconds = ((shown - origin) * float(stream.time_base)).tolist()
    return FrameTimes(shown.tolist(), seconds, keys, packets)
