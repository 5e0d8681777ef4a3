"""Prompts with videos are measured without decoding these, and the bound of a row is never under its length."""

import json
from pathlib import Path

import pytest
from helpers.clips import clip_rows, moving_square, tiny_with_videos, write_clip
from transformers import AutoProcessor

from open_r1.check import main as check
from open_r1.data.chat import messages, with_videos
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.prompt_length import LengthBound, prompt_length_limit, refuse_unusable_prompts
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.data.video.files import load_videos, video_shapes
from open_r1.data.video.inputs import as_frames
from open_r1.data.video.types import FrameSampling
from open_r1.errors import DataError
from open_r1.rollout.processing import process

SAMPLINGS = [FrameSampling(2.0, 8), FrameSampling(4.0, 4), FrameSampling(2.0, 16, 1500)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    clip_rows(folder, 2, name="rows.jsonl")
    write_clip(folder / "wide.webm", moving_square(frames=40, size=(160, 48)), 10, "libvpx-vp9")
    write_clip(folder / "moving.gif", moving_square(frames=6), 5, "gif", "rgb8")
    more = [{"video": name, "problem": "Which way?", "solution": "up"} for name in ("wide.webm", "moving.gif")]
    more[0] |= {"video_start": 1.0, "video_end": 3.0}
    write_clip(folder / "thin.mp4", moving_square(frames=16, size=(20, 1600)), 8.0)  # 28 x 2240 pixels at any limit
    more.append({"video": "thin.mp4", "problem": "Which way?", "solution": "up"})
    with open(folder / "rows.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    return folder


@pytest.fixture(scope="module")
def records(rows):
    return load_records(str(rows / "rows.jsonl"), str(rows))


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    return AutoProcessor.from_pretrained(tiny_with_videos(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_shapes_are_those_of_the_frames_that_are_read(records, sampling):
    for record in records:
        (shape,), ((frames,),) = video_shapes(record, sampling), load_videos([record], sampling)
        assert (len(shape.seconds), shape.height, shape.width, 3) == frames.pixels.shape
        assert shape.seconds == frames.seconds and shape.span == frames.span


@pytest.mark.parametrize("form", ["native", "frames"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_prompt_is_as_long_as_the_processor_makes_it_and_within_its_bound(records, processor, sampling, form):
    bound = LengthBound(processor, "{question} Say it.", False, sampling, form)
    for record in records:
        chat = with_videos(messages(record, "{question} Say it."), load_videos([record], sampling)[0])
        made = process(processor, [as_frames(chat) if form == "frames" else chat])["input_ids"].shape[1]
        assert prompt_tokens(record, processor, "{question} Say it.", None, sampling, form) == made
        assert made <= bound(record)


@pytest.mark.slow
def test_rows_with_long_videos_are_refused_before_training(records, processor):
    lengths = [prompt_tokens(record, processor, None) for record in records]
    limit = prompt_length_limit(sorted(lengths)[-1] - 1)
    with pytest.raises(DataError) as refused:
        refuse_unusable_prompts(records, processor, None, [limit])
    assert "--video_max_frames" in str(refused.value) and str(max(lengths)) in str(refused.value)
    refuse_unusable_prompts(records, processor, None, [limit], frames=FrameSampling(2.0, 2))


# --------------------------------------------------------------------------------------------------------- the doctor


def doctor(capsys: pytest.CaptureFixture, rows: Path, *flags: str) -> tuple[int, str]:
    words = ["--data_file_paths", str(rows / "rows.jsonl"), "--image_folders", str(rows), "--attack_limit", "1"]
    status = check([*words, *flags])
    return status, capsys.readouterr().out


@pytest.mark.slow
def test_the_doctor_counts_videos_their_seconds_frames_and_tokens(capsys, rows, tmp_path):
    model = tiny_with_videos(tmp_path / "model")
    *_, framed = doctor(capsys, rows, "--model", str(model), "--video_max_frames", "4", "--video_form", "frames")
    status, said = doctor(capsys, rows, "--model", str(model), "--video_max_frames", "4")
    tokens = [line for text in (said, framed) for line in text.splitlines() if "tokens a video" in line]
    assert len(tokens) == 2 and tokens[0] != tokens[1]  # each frame has a line with its time
    cells = (line.split("│")[1:3] for line in said.splitlines() if line.count("│") > 2)
    lines = {name.strip(): value.strip() for name, value in cells}
    assert status == 0 and lines["unique videos"].startswith("5 (of 5 files") and lines["videos a row"] == "1: 5"
    assert lines["seconds of a video"] == "1-4 s: 5" and lines["frames of a video"] == "4: 5"
    assert "max" in lines["prompt tokens"] and "of 5 videos" in lines["tokens a video"]


def test_the_doctor_opens_every_video(capsys, rows, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "0.mp4").write_bytes(b"<html>")
    write_clip(tmp_path / "clips" / "1.mp4", moving_square())
    (tmp_path / "rows.jsonl").write_text("".join((rows / "rows.jsonl").read_text().splitlines(keepends=True)[:2]))
    status, said = doctor(capsys, tmp_path)
    assert status == 1 and "a web page" in said and "1 defect" in said


def test_flags_of_the_doctor_that_no_video_could_have_are_refused(capsys, rows):
    with pytest.raises(SystemExit) as stop:
        doctor(capsys, rows, "--video_max_frames", "3")
    assert stop.value.code == 2 and "--video_max_frames: got 3" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_without_a_form_of_videos_is_a_defect_of_the_rows_as_in_training(capsys, rows):
    tiny = str(Path(__file__).parents[2] / "assets/tiny-vlm")
    status, said = doctor(capsys, rows, "--model", tiny, "--attack_limit", "1")
    assert status == 1 and "5 defects" in said and "add --video_form frames" in said
    assert doctor(capsys, rows, "--model", tiny, "--attack_limit", "1", "--video_form", "frames")[0] == 0
