"""Each file that is no video within the limits is a message with its row; a hostile one ends no run."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import moving_square, write_clip
from helpers.processes import all_end
from PIL import Image

from open_r1.data.record import Record
from open_r1.data.video.decoding import processes
from open_r1.data.video.decoding.limits import LIMITS, decode_seconds
from open_r1.data.video.files import load_videos
from open_r1.data.video.types import FrameSampling, Video, VideoFrames
from open_r1.errors import DataError, UsageError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n"
SOUNDS = {"mp3.mp3": "libmp3lame", "wav.wav": "pcm_s16le", "flac.flac": "flac", "ogg.ogg": "libopus"}
SOUNDS |= {"aac.aac": "aac", "m4a.m4a": "aac", "wv.wv": "wavpack", "aiff.aiff": "pcm_s16be"}
CUT = "a video that is cut short, expected a whole video; copy the file again"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One file of each bad kind, and `good.mp4`."""
    home = tmp_path_factory.mktemp("videos")
    good = write_clip(home / "good.mp4", moving_square(frames=24)).read_bytes()
    put = lambda name, content: (home / name).write_bytes(content)  # noqa: E731
    put("empty.mp4", b"")
    put("pointer.mp4", LFS)
    put("page.mp4", b"<!DOCTYPE html><html>404</html>")
    put("error.mp4", b'{"error": "rate limited"}')
    put("list.mp4", PLAYLIST)
    put("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n")
    put("packed.mp4", b"PK\x03\x04" + good)
    put("noise.mp4", np.random.default_rng(0).bytes(4000))
    put("text.mp4", b"which way does it move?\n" * 50)
    put("tail.mp4", good[: len(good) // 3])  # the index stands at the end
    put("index.mp4", good[: len(good) * 2 // 3])  # within it
    put("matroska.mkv", write_clip(home / "whole.mkv", moving_square(frames=24)).read_bytes()[:-900])
    put("codec.mp4", good.replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    front = home / "front.mp4"
    with av.open(str(front), "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in moving_square(frames=24):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    put("front.mp4", front.read_bytes()[:-500])
    still = Image.fromarray(moving_square(frames=1)[0])
    for name, form in (("jpeg.mp4", "JPEG"), ("png.mp4", "PNG"), ("still.gif", "GIF"), ("still.webp", "WEBP")):
        still.save(home / name, form)
    put("animation.gif", b"GIF89a" + b"\x00" * 40)
    sound(home / "sound.mp4")
    for name, codec in SOUNDS.items():
        sound(home / name, codec)
        (home / name).rename(home / f"{Path(name).stem}_sound.mp4")
    put("id3.mp4", b"ID3\x04" + (home / "mp3_sound.mp4").read_bytes()[4:])
    write_clip(home / "stripe.mkv", np.zeros((2, 2, 600, 3), np.uint8), codec="ffv1", form="yuv444p")
    return home


def sound(path: Path, codec: str = "aac") -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=16_000, layout="mono")
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 1024
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def row(folder: Path, *videos: Video, line: int = 17) -> Record:
    return Record("1", (), str(folder), (), "", where=f"train.jsonl:{line}", videos=videos)


def load(folder: Path, *names: str, **options: object) -> list[VideoFrames]:
    return load_videos([row(folder, *(Video((name,)) for name in names))], FrameSampling(), **options)[0]


def message(folder: Path, name: str, **options: object) -> str:
    with pytest.raises(DataError) as refused:
        load(folder, name, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.mp4", "an empty file (0 bytes), expected a video; copy the file again, or remove the row"),
        ("pointer.mp4", "a Git LFS pointer, without the video, expected a video; fetch the videos: git lfs pull"),
        ("page.mp4", "a web page, expected a video; download the video itself"),
        ("error.mp4", "JSON, expected a video; download the video itself"),
        ("list.mp4", "a playlist, which names other files, expected a video; download the video itself, as one file"),
        ("packed.mp4", "a ZIP archive, expected a video; unpack it"),
        ("concat.mp4", "a file in none of the formats of videos, expected MP4, WebM, AVI or another"),
        ("noise.mp4", "a damaged video ("),
        ("text.mp4", "a damaged video ("),
        ("tail.mp4", CUT),
        ("front.mp4", "of its 24 frames: it is cut short, expected a whole video"),
        ("matroska.mkv", CUT),
        ("codec.mp4", "a video in an unknown codec, expected one that FFmpeg decodes; save it as H.264 in MP4"),
        ("jpeg.mp4", "a still picture (JPEG), expected a video; name it under 'image', or list the pictures"),
        ("png.mp4", "a still picture (PNG), expected a video"),
        ("still.gif", "a still picture (GIF), expected a video"),
        ("still.webp", "a still picture (WEBP), expected a video"),
        ("animation.gif", "a damaged animation ("),
        ("sound.mp4", "sound without pictures, expected a video; name the file of the video, or remove the row"),
        ("stripe.mkv", "frames of 600x2 pixels, expected sides within 1:200; save the video smaller"),
        ("missing.mp4", "'missing.mp4', expected an existing file under"),
        ("../secret.mp4", "'../secret.mp4', expected a path relative to"),
        ("/etc/passwd", "copy the video below the folder and write its relative path"),
        ("index.mp4", "a file without a video stream, expected a video; copy the file again: it may be cut short"),
        ("https://a.example/b.mp4", "download the video below the folder: nothing is fetched"),
        (".", "a folder, expected a regular file; name a video file"),
    ],
)
def test_what_is_no_video_is_a_message_with_its_row(folder, name, said):
    text = message(folder, name)
    assert text.startswith(f"train.jsonl:17: video: got {name!r}") and said in text, text


@pytest.mark.parametrize("name", [*(f"{Path(name).stem}_sound.mp4" for name in SOUNDS), "id3.mp4"])
def test_sound_under_the_name_of_a_video_is_told_as_sound(folder, name):
    text = message(folder, name)
    assert (
        f"got {name!r}, sound without pictures" in text and "; name the file of the video, or remove the row" in text
    )


def test_all_problems_of_a_batch_are_told_at_once(folder):
    rows = [
        row(folder, Video(("empty.mp4",)), Video(("good.mp4",)), line=1),
        row(folder, Video(("page.mp4",)), line=2),
    ]
    with pytest.raises(DataError) as refused:
        load_videos(rows, FrameSampling())
    assert [problem.where for problem in refused.value.problems] == ["train.jsonl:1", "train.jsonl:2"]


def test_a_video_of_two_rows_is_read_once(folder):
    (first,), (second,), empty = load_videos(
        [row(folder, Video(("good.mp4",))), row(folder, Video(("good.mp4",))), row(folder)], FrameSampling()
    )
    assert first is second and empty == [] and first.pixels.shape == (6, 48, 64, 3)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"file_bytes": 100}, "bytes, expected at most 100; save the video smaller"),
        ({"seconds": 2.0}, "3 s of video, expected at most 2 s; give the row video_start and video_end"),
        ({"pixels": 3000}, "frames of 64x48 pixels, expected at most 3,000 pixels"),
        ({"frames_decoded": 5}, "over 5 frames to decode, expected at most 5; cut the part that is shown"),
        ({"pixels_decoded": 9000}, "over 9,000 pixels to decode, expected at most 9,000"),
        ({"packets": 20}, "over 20 packets, expected at most 20"),
    ],
)
def test_each_limit_is_a_message(folder, limits, said):
    assert said in message(folder, "good.mp4", limits=replace(LIMITS, **limits))


def test_a_part_that_the_video_does_not_have_is_a_message(folder):
    with pytest.raises(
        DataError, match=r"no frame from second 7 to its end, expected a part of its 3 s; correct video_s"
    ):
        load_videos([row(folder, Video(("good.mp4",), start=7.0))], FrameSampling())


def test_a_link_to_a_file_outside_is_refused(folder):
    (folder / "link.mp4").symlink_to("/etc/hostname")
    assert "a link that leads outside, expected a file inside" in message(folder, "link.mp4")


# ------------------------------------------------------------------------------------------------- lists of frames


def test_listed_pictures_are_the_frames(tmp_path):
    pixels = moving_square(frames=5)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    names = tuple(f"{number}.png" for number in range(5))
    frames = load_videos([row(tmp_path, Video(names, of_frames=True))], FrameSampling())[0][0]
    np.testing.assert_array_equal(frames.pixels, pixels)
    assert frames.seconds == (0.0, 0.5, 1.0, 1.5, 2.0) and frames.span == 2.5


def test_a_bad_picture_among_frames_and_frames_of_two_shapes_are_messages(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    Image.new("RGB", (48, 64)).save(tmp_path / "b.png")
    for names, said in (
        (("a.png", "c.png"), "video: got 'c.png', expected an existing file"),
        (
            ("a.png", "b.png"),
            "video: got 'a.png', a list of frames of 64x48 and of 48x64, expected frames of one prop",
        ),
    ):
        with pytest.raises(DataError) as refused:
            load_videos([row(tmp_path, Video(names, of_frames=True))], FrameSampling())
        assert said in str(refused.value)


# --------------------------------------------------------------------------------------------- hostile, processes


@pytest.fixture
def fresh(monkeypatch):
    """No process that decoded before, and none that a test started afterwards; one that ends may take its time."""
    monkeypatch.setattr(processes, "ENDING_SECONDS", 60.0)
    processes.end_decoders()
    yield
    processes.end_decoders()


def test_a_video_that_takes_too_long_is_refused_and_its_process_ended(folder, fresh, monkeypatch):
    load(folder, "good.mp4")
    process = processes._idle[0]
    monkeypatch.setattr(processes, "START_ALLOWANCE", 0.0)
    monkeypatch.setenv("OPEN_R1_VIDEO_SECONDS", "0.000001")
    os.kill(process.program.pid, signal.SIGSTOP)  # it would answer before this process has a turn
    text = message(folder, "good.mp4")
    assert "over 1e-06 s to decode, expected at most 1e-06 s; save it smaller" in text
    assert process.program.poll() is not None and processes._idle == []


@pytest.mark.slow
def test_a_video_that_takes_too_much_memory_is_refused(tmp_path, fresh):
    write_clip(tmp_path / "wide.mp4", np.zeros((2, 2160, 4096, 3), np.uint8))
    text = message(tmp_path, "wide.mp4", limits=replace(LIMITS, memory_bytes=24 << 20))
    assert "memory" in text and text.startswith("train.jsonl:17: video: got 'wide.mp4'")
    assert load(tmp_path, "wide.mp4")[0].pixels.shape[0] == 2  # in another process, with the usual limit


def test_a_video_that_ends_its_process_is_tried_again_and_then_refused(folder, fresh, monkeypatch, tmp_path):
    (tmp_path / "crashing.py").write_text("import os, sys\nsys.stdin.buffer.readline()\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(processes, "MODULE", "crashing")
    assert "a video that ends the process which decodes it (SIGSEGV), expected a video" in message(folder, "good.mp4")


def test_a_process_that_was_ended_meanwhile_costs_no_video(folder, fresh):
    load(folder, "good.mp4")
    processes._idle[0].program.kill()
    assert load(folder, "good.mp4")[0].pixels.shape[0] == 6


def test_a_process_has_no_secret_and_holds_few_files(folder, fresh, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load(folder, "good.mp4")
    held = Path("/proc", str(processes._idle[0].program.pid))
    assert b"hf_secret" not in (held / "environ").read_bytes()
    limits = (held / "limits").read_text()
    assert "Max open files            64" in limits and "Max file size             0" in limits


@pytest.mark.slow
def test_processes_end_with_the_one_that_asked(folder):
    code = (
        "import sys; from open_r1.data.video.files import *; from open_r1.data.video.decoding import processes\n"
        "load_videos([Record('1', (), sys.argv[1], (), '', videos=(Video(('good.mp4',)),))], FrameSampling())\n"
        "print(processes._idle[0].program.pid, 'torch' in sys.modules, flush=True); import os; os._exit(1)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True).stdout.split()
    assert told[1:] == ["False"]
    assert all_end(int(told[0]))


def test_a_forked_child_has_processes_of_its_own(folder, fresh):
    load(folder, "good.mp4")
    child = os.fork()
    if child == 0:
        ok = processes._idle == [] and load(folder, "good.mp4")[0].pixels.shape[0] == 6
        processes.end_decoders()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert load(folder, "good.mp4")[0].pixels.shape[0] == 6


@pytest.mark.slow
def test_processes_are_replaced_and_no_file_stays_open(folder, fresh, monkeypatch):
    monkeypatch.setattr(processes, "CALLS", 3)
    load(folder, "good.mp4")
    held = lambda: len(os.listdir("/proc/self/fd"))  # noqa: E731, PTH208
    before, pids = held(), set()
    for _ in range(9):
        load(folder, "good.mp4")
        pids |= {process.program.pid for process in processes._idle}
    processes.end_decoders()
    assert held() <= before and len(pids) >= 3


@pytest.mark.parametrize("value", ["0", "soon", "inf", "-1"])
def test_a_deadline_that_is_no_time_is_refused(monkeypatch, value):
    monkeypatch.setenv("OPEN_R1_VIDEO_SECONDS", value)
    with pytest.raises(UsageError, match=r"\$OPEN_R1_VIDEO_SECONDS: got .*, expected seconds above 0"):
        decode_seconds()
