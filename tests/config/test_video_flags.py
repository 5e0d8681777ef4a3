"""The flags of videos: what no video could have is refused, as are flags about videos beside rows without any."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from helpers.clips import clip_rows, tiny_with_videos

from open_r1 import grpo_jsonl, sft_jsonl
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.video_flags import frame_sampling, refuse_no_videos, warn_of_clips_alone
from open_r1.data.record import Record
from open_r1.data.video.types import FrameSampling, Video
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of
from open_r1.evaluation.settings import settings_of
from open_r1.tasks.recipe import Recipe

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "/tmp/o", "--use_cpu", "true"]
ROWS = [Record("1", (), "", (), ""), Record("2", (), "", (), "", videos=(Video(("a.mp4",)),))]


@pytest.mark.parametrize("script", [lambda words: parse(JsonlArguments, words), sft_jsonl.parse_sft])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--video_fps 0", "--video_fps: got 0, expected frames a second above 0, such as 2"),
        ("--video_fps inf", "--video_fps: got inf, expected frames a second"),
        ("--video_max_frames 7", "--video_max_frames: got 7, expected an even number of at least 2"),
        ("--video_max_frames 0", "--video_max_frames: got 0, expected an even number of at least 2"),
        ("--video_max_pixels 100", "--video_max_pixels: got 100, expected at least 784"),
        ("--video_cache_gb -1", "--video_cache_gb: got -1, expected 0 for none"),
    ],
)
def test_what_no_video_could_have_is_refused_through_the_script(capsys, script, flags, message):
    with pytest.raises(SystemExit) as stop:
        script([*NEEDED, *flags.split()])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_the_flags_are_the_sampling_of_a_run():
    task, _, _ = parse(JsonlArguments, [*NEEDED, "--video_fps", "4", "--video_max_frames", "8"])
    assert frame_sampling(task) == FrameSampling(fps=4.0, max_frames=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("video_fps", 3.0),
        ("video_max_frames", 8),
        ("video_max_pixels", 9_000),
        ("video_form", "frames"),
        ("video_cache_gb", 1.0),
    ],
)
def test_a_flag_about_videos_needs_rows_with_some(name, value):
    plain = {"video_fps": 2.0, "video_max_frames": 32, "video_max_pixels": 100_352, "video_form": "auto"}
    plain |= {"video_cache_gb": 0.0}
    refuse_no_videos(ROWS[:1], Namespace(**plain))
    changed = Namespace(**plain | {name: value})
    refuse_no_videos(ROWS, changed)
    with pytest.raises(UsageError, match=f"^--{name}: got rows without any video"):
        refuse_no_videos(ROWS[:1], changed)


@pytest.mark.parametrize(
    ("flags", "gold", "message"),
    [
        (
            "--tools zoom",
            "left",
            "--tools: got zoom, which look at pictures, and rows without any (a tool is",
        ),
        ("", "[1, 2, 30, 40]", "clips.jsonl:1: image: got a video alone (and 7 alike"),
    ],
)
def test_what_needs_pictures_is_refused_of_clips_before_a_model_is_loaded(tmp_path, monkeypatch, flags, gold, message):
    monkeypatch.setattr("open_r1.trainer.run.load_model", None)
    data, model = clip_rows(tmp_path, 1), tiny_with_videos(tmp_path / "model")
    method = {"accu_reward_method": "iou"} if "[" in gold else {}
    data.write_text((json.dumps(json.loads(data.read_text()) | method | {"solution": gold}) + "\n") * 8)
    command = f"--model_name_or_path {model} --data_file_paths {data} --image_folders {tmp_path} --num_generations 4"
    command += f" --per_device_train_batch_size 8 --output_dir {tmp_path / 'out'} {flags}"
    with pytest.raises(SystemExit) as refused:
        grpo_jsonl.main(command.split())
    assert message in str(refused.value)


def test_an_evaluation_samples_as_the_checkpoint_was_trained_unless_told(tmp_path):
    model, rows, out = tmp_path / "m", tmp_path / "a.jsonl", tmp_path / "out"
    model.mkdir()
    rows.touch()
    Recipe("digits", video_fps=1.0, video_max_frames=8).save(model)
    words = ["--model", str(model), "--data_file_paths", str(rows), "--output_dir", str(out)]
    sampled = lambda *flags: frame_sampling(settings_of(parser_of(None).parse_args([*words, *flags])))  # noqa: E731
    assert sampled() == FrameSampling(1.0, 8)
    assert sampled("--video_fps", "2", "--video_max_pixels", "9000") == FrameSampling(2.0, 8, 9000)
    with pytest.raises(UsageError, match="--video_max_frames: got 3"):
        sampled("--video_max_frames", "3")
    assert Path(out).exists() is False


@pytest.mark.parametrize("main", [grpo_jsonl.main, sft_jsonl.main])
def test_a_size_of_pictures_beside_clips_alone_is_said_before_a_model_is_loaded(tmp_path, monkeypatch, caplog, main):
    def stop(*args, **kwargs):
        raise UsageError("loaded")

    for room in ("run", "sft_trainer"):
        monkeypatch.setattr(f"open_r1.trainer.{room}.load_processor", stop)
    rows, model = clip_rows(tmp_path, 8), tiny_with_videos(tmp_path / "model")
    words = f"--model_name_or_path {model} --data_file_paths {rows} --image_folders {tmp_path} --use_cpu true"
    words += f" --output_dir {tmp_path / 'out'} --max_pixels 3136"
    with pytest.raises(SystemExit):
        main([*words.split(), *(["--reward_funcs", "accuracy"] if main is grpo_jsonl.main else [])])
    assert "--max_pixels: acts on pictures, and no row has one, only videos; --video_max_pixels" in caplog.text


def test_a_size_of_pictures_is_not_said_to_idle_where_it_acts(caplog):
    sizes = {"max_pixels": 3136, "min_pixels": None, "max_anyres_num": None}
    picture = Record("3", ("a.png",), "", (), "")
    warn_of_clips_alone([*ROWS, picture], Namespace(**sizes, video_form="auto"))
    warn_of_clips_alone(ROWS, Namespace(**sizes, video_form="frames"))
    assert not caplog.text
