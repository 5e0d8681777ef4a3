"""Sampled frames are exactly the frames of the file, whatever its codec, and are shown as a player shows them."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import moving_square, write_clip
from PIL import Image

from open_r1.data.video.decoding import containers
from open_r1.data.video.decoding.frame_choice import spaced_places
from open_r1.data.video.decoding.limits import LIMITS, VideoRefused
from open_r1.data.video.decoding.packets import CODECS
from open_r1.data.video.decoding.worker import read_video
from open_r1.data.video.types import FrameSampling, Video, VideoFrames

SAMPLING = FrameSampling(4.0, 32)
# name -> codec, pixel format, options: every way in which packets and frames relate
KINDS = {
    "b_frames.mp4": ("libx264", "yuv420p", {"g": "4", "bf": "3"}),
    "open_gop.mp4": ("libx264", "yuv420p", {"g": "4", "bf": "3", "x264-params": "open-gop=1"}),
    "refresh.mkv": ("libx264", "yuv420p", {"g": "6", "x264-params": "intra-refresh=1"}),
    "interlaced.mp4": ("libx264", "yuv420p", {"x264-params": "tff=1"}),
    "stream.ts": ("libx264", "yuv420p", {"g": "4"}),
    "flash.flv": ("libx264", "yuv420p", {}),
    "bare.h264": ("libx264", "yuv420p", {}),
    "ten_bit.mp4": ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    "hidden.webm": ("libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp8.webm": ("libvpx", "yuv420p", {"auto-alt-ref": "0"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "packed.avi": ("mpeg4", "yuv420p", {"bf": "2"}),
    "program.mpg": ("mpeg2video", "yuv420p", {"bf": "2"}),
    "grey.mp4": ("libx264", "gray", {}),
    "grey16.mkv": ("ffv1", "gray16le", {}),
    "prores.mov": ("prores_ks", "yuva444p10le", {}),
    "motion.avi": ("mjpeg", "yuvj420p", {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "5"}),
    "lossless.avi": ("ffv1", "yuv420p", {}),
    "sorenson.flv": ("flv", "yuv420p", {"g": "5"}),
    "b_frames.flv": ("libx264", "yuv420p", {"g": "4", "bf": "3"}),
    "odd.mkv": ("ffv1", "yuv444p", {}),
}
BY_PACKETS = {"hidden.webm", "vp8.webm", "flash.flv", "b_frames.flv", "sorenson.flv"}  # and not decoded twice
BY_PACKETS |= {"packed.avi", "motion.avi", "mpeg4.avi", "lossless.avi"}


def encode(
    path: Path,
    pixels: np.ndarray,
    codec: str = "libx264",
    form: str = "yuv420p",
    rate: int = 8,
    times: list[int] | None = None,
    second: int = 1000,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
    **options: str,
) -> Path:
    """A file of frames (T, H, W, 3); `times` of each, of which a `second` has 1000, in place of a rate."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], form
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, second)
        prepare(stream)
        for number, picture in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, second)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def read(path: Path, sampling: FrameSampling = SAMPLING, **fields: float) -> VideoFrames:
    return read_video(str(path), Video((path.name,), **fields), sampling, LIMITS)


def all_frames(path: Path) -> list[tuple[float | None, np.ndarray]]:
    """(seconds, pixels) of every frame, by decoding all."""
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


def assert_same(frames: VideoFrames, expected: list[tuple[float | None, np.ndarray]]) -> None:
    assert len(frames.seconds) == len(expected)
    for pixels, second, (time, picture) in zip(frames.pixels, frames.seconds, expected, strict=True):
        np.testing.assert_array_equal(pixels, picture)
        if time is not None:
            assert second == pytest.approx(time, abs=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_decoding_everything(tmp_path, monkeypatch, name):
    codec, form, options = KINDS[name]
    if name in BY_PACKETS:
        monkeypatch.setattr(containers, "_by_decoding_all", None)
    size = (63, 47) if name == "odd.mkv" else (64, 48)
    path = encode(tmp_path / name, moving_square(frames=12, size=size), codec, form, **options)
    whole, frames = all_frames(path), read(path)
    begin = whole[0][0] or 0.0
    chosen = [whole[place] for place in spaced_places(0, len(whole) - 1, len(frames.seconds))]
    assert len(whole) == 12 and len(frames.seconds) == (4 if name == "bare.h264" else 6)
    assert_same(frames, [(None if time is None else time - begin, pixels) for time, pixels in chosen])
    assert frames.span == pytest.approx(0.48 if name == "bare.h264" else 1.5)  # a bare stream has no rate: 25 a second


def test_frames_of_vp8_that_are_not_shown_are_none(tmp_path, monkeypatch):
    """Each packet stands a second time, half a frame before, as a frame that is kept for others and not shown."""
    plain, path = encode(tmp_path / "plain.webm", moving_square(frames=12), "libvpx", g="6"), tmp_path / "hidden.webm"
    with av.open(str(plain)) as source, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            if packet.pts and not packet.is_keyframe:
                hidden = bytearray(bytes(packet))
                hidden[0] &= ~0x10
                other = av.Packet(bytes(hidden))
                other.pts = other.dts = packet.pts - 60
                other.time_base, other.stream = packet.time_base, stream
                file.mux(other)
            packet.stream = stream
            file.mux(packet)
    whole = all_frames(path)
    monkeypatch.setattr(containers, "_by_decoding_all", None)
    frames = read(path, FrameSampling(8.0, 12))
    assert len(whole) == 12
    assert_same(frames, whole)


@pytest.mark.parametrize(("rate", "places"), [(25, 27), (8, 29)])  # at 8 the last frame is held for three places
def test_an_avi_whose_frames_stand_still_is_whole_and_one_that_ends_early_is_cut_short(tmp_path, rate, places):
    """AVI gives each frame that shows the one before again a place in its count, and no packet."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 48, 64, 3), np.uint8)
    times = [n + 3 * (n > 5) for n in range(24)]
    path = encode(tmp_path / "still.avi", pixels, "mpeg4", times=times, second=25, rate=rate)
    with av.open(str(path)) as file:
        assert file.streams.video[0].frames == places and len(all_frames(path)) == 24
    frames = read(path, FrameSampling(fps=25.0, max_frames=24))
    assert frames.seconds == pytest.approx([time / 25 for time in times], abs=1e-3)
    data = path.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoRefused, match=f"of its {places} frames: it is cut short"):
        read(tmp_path / "cut.avi")


CUT_FILES = {
    "a.mp4": ("libx264", {"bf": "3"}),
    "a.flv": ("libx264", {"bf": "3"}),
    "a.avi": ("mpeg4", {"bf": "2"}),
    "a.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "8"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT_FILES)
@pytest.mark.parametrize(
    ("start", "end"), [(0.9, 1.6), (5.0, None), (None, 1.1), (4.01, 4.7), (7.5, 7.6), (6.0, 99.0)]
)
def test_a_part_is_found_by_seeking_and_is_exact(tmp_path, monkeypatch, name, start, end):
    codec, options = CUT_FILES[name]
    path = encode(tmp_path / name, moving_square(frames=80), codec, rate=10, g="7", **options)
    monkeypatch.setattr(containers, "_by_decoding_all", None)  # seeking alone must do
    begin, *_ = (time for time, _ in all_frames(path))
    whole = [(time - begin, pixels) for time, pixels in all_frames(path)]
    whole = [one for one in whole if (start or 0) - 1e-6 <= one[0] <= (end or 99) + 1e-6]
    frames = read(path, FrameSampling(2.0, 4), start=start, end=end)
    assert_same(frames, [whole[place] for place in spaced_places(0, len(whole) - 1, len(frames.seconds))])


def test_few_frames_of_a_long_file_are_decoded_without_the_others(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4", moving_square(frames=600), rate=10, g="10")
    added = []
    monkeypatch.setattr(containers.Spent, "add", lambda self, frame: added.append(frame.pts))
    frames = read(path, FrameSampling(2.0, 4))
    assert frames.seconds == pytest.approx((0.0, 20.0, 39.9, 59.9)) and len(added) < 60


def test_times_are_the_frames_own_where_the_rate_varies(tmp_path):
    times = [0, 40, 80, 1000, 1040, 5000]
    path = encode(tmp_path / "a.mkv", moving_square(frames=6), "ffv1", "yuv444p", times=times)
    frames = read(path)
    assert frames.seconds == pytest.approx([0.0, 0.04, 0.08, 1.0, 1.04, 5.0]) and frames.span == pytest.approx(6.0)
    assert read(path, start=0.9, end=1.1).seconds == pytest.approx([1.0, 1.04])


def test_one_frame_is_a_video_of_one_frame(tmp_path):
    frames = read(write_clip(tmp_path / "a.mp4", moving_square(frames=1)))
    assert frames.pixels.shape == (1, 48, 64, 3) and frames.seconds == (0.0,) and frames.span == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("degrees", "turned"), [(90, 1), (180, 2), (270, 3)], ids=["a quarter", "upside down", "three quarters"]
)
def test_frames_are_turned_as_the_file_says(tmp_path, degrees, turned):
    pixels = moving_square("down", frames=4)
    path = encode(
        tmp_path / "a.mov", pixels, "png", "rgb24", prepare=lambda stream: stream.set_display_rotation(degrees)
    )
    with av.open(str(path)) as file:
        stated = next(file.decode(video=0)).rotation
    assert stated % 360 == degrees  # counter-clockwise, as numpy turns
    np.testing.assert_array_equal(read(path).pixels, np.rot90(pixels, turned, axes=(1, 2)))


def test_frames_are_mirrored_as_the_file_says(tmp_path):
    pixels = moving_square("right", frames=4)
    matrix = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    path = encode(tmp_path / "a.mov", pixels, "png", "rgb24", prepare=lambda stream: stream.set_display_matrix(matrix))
    np.testing.assert_array_equal(read(path).pixels, pixels[:, :, ::-1])


def test_pixels_that_are_wider_than_high_become_square(tmp_path):
    def wide(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)

    path = encode(tmp_path / "a.mp4", moving_square(frames=2), prepare=wide)
    assert read(path).pixels.shape == (2, 48, 96, 3)


def test_transparency_is_laid_on_white(tmp_path):
    clear = np.zeros((4, 48, 64, 4), np.uint8)
    clear[:, :24, :, 3] = 255
    with av.open(str(tmp_path / "a.mov"), "w") as file:
        stream = file.add_stream("png", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        for picture in clear:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        file.mux(stream.encode())
    pixels = read(tmp_path / "a.mov").pixels
    assert (pixels[:, :24] == 0).all() and (pixels[:, 24:] == 255).all()


def test_large_frames_are_scaled_down_with_their_proportion_and_even_sides(tmp_path):
    pixels = moving_square(frames=2, size=(321, 181))
    path = encode(tmp_path / "a.mkv", pixels, "ffv1", "yuv444p")
    frames = read(path, FrameSampling(max_pixels=10_000))
    _, height, width, _ = frames.pixels.shape
    assert (width, height) == (132, 74) and width * height <= 10_000
    expected = Image.fromarray(all_frames(path)[0][1]).resize((132, 74), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(frames.pixels[0], np.asarray(expected))


def test_tiny_frames_are_scaled_up_as_pictures_are(tmp_path):
    path = encode(tmp_path / "a.mkv", moving_square(frames=2, size=(16, 20)), "ffv1", "yuv444p")
    assert read(path).pixels.shape == (2, 35, 28, 3)


def animation(path: Path, durations: list[int], **options: object) -> Path:
    pictures = [Image.fromarray(pixels) for pixels in moving_square(frames=len(durations))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animated_pictures_are_videos(tmp_path, name):
    path = animation(tmp_path / name, [100, 100, 500, 100], **({"lossless": True} if name == "a.webp" else {}))
    frames = read(path)
    assert frames.seconds == pytest.approx([0.0, 0.1, 0.2, 0.7])
    np.testing.assert_allclose(frames.pixels, moving_square(frames=4), atol=8)  # GIF has 256 colours


def test_frames_of_an_animation_that_are_shown_for_no_time_take_a_tenth_of_a_second(tmp_path):
    frames = read(animation(tmp_path / "a.gif", [0, 0, 0, 0]))
    assert frames.seconds == pytest.approx([0.0, 0.1, 0.2, 0.3]) and frames.span == pytest.approx(0.4)


def test_sound_without_pictures_is_no_video(tmp_path):
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(VideoRefused) as refused:
        read(path)
    assert refused.value.got == "sound without pictures"


def test_each_codec_that_is_trusted_is_one_of_ffmpegs():
    assert CODECS - av.codecs_available == set()
    assert struct.calcsize("i") == 4  # of a display matrix
