"""`eval/infer.py --video`: clips and folders of frames are asked about beside pictures; what cannot act is said."""

import runpy
from pathlib import Path

import pytest
from helpers.clips import moving_square, tiny_with_videos, write_clip
from helpers.repository import REPO
from PIL import Image

from open_r1.errors import UsageError
from open_r1.evaluation.question import Question

SCRIPT = REPO / "eval" / "infer.py"


def infer(monkeypatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["infer.py", *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A clip, a folder of three frames, a picture, and a model that takes them."""
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", moving_square(frames=16))  # two seconds
    (folder / "frames").mkdir()
    for number, pixels in enumerate(moving_square("down", frames=4)):
        Image.fromarray(pixels).save(folder / "frames" / f"{number}.png")
    (folder / "frames" / "notes.txt").write_text("no frame")
    (folder / "none").mkdir()
    Image.new("RGB", (56, 56), "navy").save(folder / "a.png")
    tiny_with_videos(folder / "model")
    return folder


def test_clips_folders_of_frames_and_pictures_are_asked_about_together(monkeypatch, media, tmp_path, capsys):
    words = ["--model", media / "model", "--image", media / "a.png", "--video", media / "clip.mp4", media / "frames"]
    words += ["--question", "<video> then <image> then <video> Which way?", "--gold", "right"]
    infer(monkeypatch, *words, "--video_fps", 4, "--max_completion_length", 6, "--out", tmp_path)
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.strip()]
    shown = [text for name, text in lines if name == "video"]
    assert shown == [
        "clip.mp4: 8 frames of 64x48 from 0.00 to 1.88 s",
        "frames: 4 frames of 64x48 from 0.00 to 0.75 s",
    ]
    assert dict(lines)["rewards"].startswith("accuracy 0.000")
    following = dict(lines)["next"]
    assert "eval/attention.py" in following and f"--video {media / 'clip.mp4'}" in following
    assert "--video_fps 4" in following and "--max_completion_length 6" in following and "--seed" not in following


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--question", "a", "--video_fps", "4"], "--video_fps: got a value, but no --video"),
        (["--question", "a", "--video", "none.mp4"], "none.mp4"),
        (["--question", "<video> <video>", "--video", "{media}/clip.mp4"], "question: got none"),
        (["--question", "a", "--video", "{media}/none"], "a folder without a picture"),
        (["--question", "a", "--video", "{media}/frames/notes.txt"], "notes.txt"),
        (["--question", "<video> or <video>?", "--video", "{media}/clip.mp4"], "<video>"),
        (["--data_file_paths", "a.jsonl", "--video", "a.mp4"], "--video: got a value, which acts without --data_file"),
    ],
)
def test_what_cannot_act_is_said_before_a_model_is_loaded(monkeypatch, media, words, message):
    with pytest.raises(SystemExit, match=message):
        infer(monkeypatch, "--model", media / "model", *(word.format(media=media) for word in words))


def test_a_model_that_takes_no_videos_is_asked_by_frames_alone(monkeypatch, media, tiny, tmp_path, capsys):
    words = ["--model", tiny, "--video", media / "clip.mp4", "--question", "Which way?"]
    with pytest.raises(SystemExit, match=r"--video_form: got auto and a video, but .*--video_form frames"):
        infer(monkeypatch, *words)
    infer(monkeypatch, *words, "--video_form", "frames", "--max_completion_length", 4, "--out", tmp_path)
    assert "clip.mp4: 4 frames of 64x48" in capsys.readouterr().out


def test_a_question_names_its_files_below_one_folder(media):
    question = Question("Which?", (media / "a.png",), videos=(media / "clip.mp4", media / "frames"))
    record = question.record("default")
    assert record.images == ("a.png",) and record.folder == str(media)
    assert [video.paths for video in record.videos] == [("clip.mp4",), tuple(f"frames/{n}.png" for n in range(4))]
    with pytest.raises(UsageError, match="a folder without a picture"):
        Question("Which?", videos=(media / "none",)).record("default")
