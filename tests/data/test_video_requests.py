"""What rows ask of their videos and do not get is a warning of the doctor; what flags alone decide is none."""

import json
from pathlib import Path

import pytest
from helpers.clips import moving_square, write_clip

from open_r1.check import main as check
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.video.requests import unmet_requests
from open_r1.data.video.types import FrameSampling, Video, VideoShape

# 10 s at 8 frames a second, and 0.4 s with 3 frames
FILES = {"long.mp4": 80, "short.mp4": 3}
UNMET = [
    (
        {"video": "long.mp4", "video_end": 200},
        "video_end: got 200, expected at most 10, where the frames end; write it in",
    ),
    ({"video": "long.mp4", "nframes": 100000}, "nframes: got 100000, of which 16 are shown, expected at most 16, the"),
    (
        {"video": "short.mp4", "nframes": 30},
        "nframes: got 30, of which 2 are shown, expected no more frames than there",
    ),
    ({"video": "long.mp4", "nframes": 7}, "nframes: got 7, for which 8 are shown, expected an even number"),
    ({"video": "short.mp4", "nframes": 3}, "nframes: got 3, of which 2 are shown, expected an even number"),
    (
        {"video": "short.mp4", "fps": 1000},
        "fps: got 1000, shown at 5.33 a second, expected at most the rate of the file",
    ),
    ({"video": "long.mp4", "fps": 4}, "fps: got 4, shown at 1.6 a second, expected at most 16 frames, the bound of"),
]
MET = [
    {"video": "long.mp4"},
    {"video": "long.mp4", "video_end": 10.3},
    {"video": "long.mp4", "video_start": 2, "video_end": 4, "fps": 8},
    {"video": "long.mp4", "fps": 1.5},
    {"video": "long.mp4", "nframes": 16},
    {"video": "short.mp4", "nframes": 1},
    {"video": "short.mp4", "fps": 8},
    {"video": None, "video_start": None, "fps": None},
    {"video": []},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("requests")
    for name, frames in FILES.items():
        write_clip(home / name, moving_square(frames=frames), 8)
    rows = [row | {"problem": "Which way?", "solution": "up"} for row in [row for row, _ in UNMET] + MET]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def test_the_doctor_warns_of_each_request_that_is_not_met(folder, capsys):
    rows = str(folder / "rows.jsonl")
    words = ["--data_file_paths", rows, "--image_folders", str(folder), "--attack_limit", "1"]
    assert check([*words, "--video_max_frames", "16"]) == 0
    said = capsys.readouterr().out
    warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(UNMET), said
    for line, ((_, text), warning) in enumerate(zip(UNMET, warnings, strict=True), 1):
        assert warning.startswith(f"warning: {rows}:{line}: {text}"), warning
    cells = dict(line.split("│")[1:3] for line in said.splitlines() if line.count("│") > 2)
    lines = {name.strip(): value.strip() for name, value in cells.items()}
    assert lines["extra fields"] == "none" and lines["unique videos"].startswith("14 (of 2 files")
    frames = [int(part.split(":")[0]) for part in lines["frames of a video"].split(", ")]
    assert frames == sorted(frames) and len(frames) > 2
    assert lines["seconds of a video"].startswith("< 1 s")


def test_fields_of_videos_that_are_empty_are_no_extra_fields(folder):
    records = load_records(str(folder / "rows.jsonl"), str(folder), progress=False)
    assert [record.extra for record in records if not record.videos] == [{}, {}]


def test_frames_that_are_far_apart_reach_to_the_end_that_is_asked_for():
    shape = VideoShape(64, 48, (5.0, 10.0, 15.0), 15.0)  # one frame in five seconds
    assert not list(unmet_requests(Video(("a.mp4",), start=1.0, end=19.0), shape, FrameSampling(), "a.jsonl:1"))


def test_the_doctor_warns_of_fields_that_look_like_requests_and_act_on_nothing(folder, tmp_path, capsys):
    ask = {"problem": "Which way?", "solution": "up"}
    rows = [
        ask | {"video": "short.mp4", "num_frames": 4, "video_fps": 2, "end": "left"},
        ask | {"video": "short.mp4", "num_frames": 8, "fps": 8},
        ask | {"video_start": 1.5, "fps": 30},
    ]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--data_file_paths", str(tmp_path / "odd.jsonl"), "--image_folders", str(folder), "--attack_limit", "1"]
    assert check(words) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.removeprefix(f"warning: {tmp_path}/odd.jsonl:") for line in warnings] == [
        "1: num_frames: got a field that no video is sampled by, in 2 row(s) with videos, expected 'nframes'; rename "
        "it, unless it is for your rewards",
        "1: video_fps: got a field that no video is sampled by, in 1 row(s) with videos, expected 'fps'; rename it, "
        "unless it is for your rewards",
        "3: video_start: got a request of a video, in 1 row(s) without one, expected 'video' beside it; name the "
        "video, or remove the field",
    ]
