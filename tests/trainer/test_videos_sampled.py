"""The flags of videos reach the code that reads them, and trackers get film strips, by the scripts of training."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.clips import clip_rows, moving_square, tiny_with_videos
from helpers.repository import run_script
from PIL import Image

from open_r1 import grpo_jsonl, sft_jsonl
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.strips import CAPTION, GAP, strip_picture
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.trainer.outputs.video_log import pictures_for_tracker

GRPO = ["--num_generations", "4", "--max_completion_length", "4", "--reward_funcs", "accuracy"]
SCRIPTS = {"sft_batches": (sft_jsonl.main, []), "prompt_loader": (grpo_jsonl.main, GRPO)}


@pytest.mark.slow
@pytest.mark.parametrize("reader", SCRIPTS)
def test_a_run_samples_and_keeps_frames_as_its_flags_say(tmp_path, monkeypatch, reader):
    asked: list[tuple[FrameSampling, FrameCache]] = []

    def noted(records, sampling, *, workers, cache):
        asked.append((sampling, cache))
        return load_videos(records, sampling, workers=workers, cache=cache)

    room = "trainer" if reader == "sft_batches" else "rollout"
    monkeypatch.setattr(f"open_r1.{room}.{reader}.load_videos", noted)
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))
    main, flags = SCRIPTS[reader]
    rows, model = clip_rows(tmp_path, 4), tiny_with_videos(tmp_path / "model")
    words = f"--model_name_or_path {model} --data_file_paths {rows} --image_folders {tmp_path}"
    words += f" --output_dir {tmp_path / 'out'} --max_steps 1 --per_device_train_batch_size 4 --use_cpu true"
    words += " --report_to none --save_strategy no --video_fps 4 --video_max_frames 4 --video_max_pixels 2000"
    main([*words.split(), *flags, "--video_cache_gb", "0.001"])
    assert {sampling for sampling, _ in asked} == {FrameSampling(4.0, 4, 2000)}
    assert {(cache.folder, cache.max_bytes) for _, cache in asked} == {(tmp_path / "cache" / "frames", 10**6)}
    assert list(Path(tmp_path, "cache", "frames").glob("*/*.frames"))


def test_a_film_strip_shows_the_first_and_last_frame_of_a_long_video():
    pixels = np.repeat(np.arange(0, 200, 5, dtype=np.uint8), 40 * 60 * 3).reshape(40, 40, 60, 3)
    strip = np.asarray(strip_picture(VideoFrames(pixels, tuple(map(float, range(40))), 40.0), most=16))
    height, width = 40 + CAPTION + GAP, 60 + GAP
    assert strip.shape == (2 * height + GAP, 8 * width + GAP, 3)
    seen = [strip[GAP + line * height + 5, GAP + column * width + 5, 0] for line in range(2) for column in range(8)]
    assert seen[0] == 0 and seen[-1] == 195 and sorted(set(seen)) == seen


def test_completions_of_one_row_share_its_pictures_and_strips():
    video, picture = VideoFrames(moving_square(frames=4), (0.0, 0.5, 1.0, 1.5), 2.0), Image.new("RGB", (8, 8))
    mixed = SimpleNamespace(prompt=object(), pictures=[picture], videos=[video, video])
    plain = SimpleNamespace(prompt=object(), pictures=[picture], videos=[])
    first, again, other = pictures_for_tracker([mixed, mixed, plain])
    assert [one.size[0] for one in first] == [8, 4 * (64 + GAP) + GAP, 4 * (64 + GAP) + GAP]
    assert first[1] is again[1] and other == [picture]


@pytest.mark.slow
@pytest.mark.parametrize("shown", (True, False))
def test_wandb_gets_film_strips_of_rows_of_clips(tmp_path, monkeypatch, shown):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))  # what a table shows waits here for its upload
    rows, model = clip_rows(tmp_path, 4), tiny_with_videos(tmp_path / "model")
    words = f"--model_name_or_path {model} --data_file_paths {rows} --image_folders {tmp_path} --use_cpu true"
    words += f" --output_dir {tmp_path / 'out'} --max_steps 1 --per_device_train_batch_size 4 --save_strategy no"
    words += f" --report_to wandb --log_completions true --log_multimodal {shown} --video_max_frames 4"
    run_script("src/open_r1/grpo_jsonl.py", *words.split(), *GRPO)
    tables = [path for path in (tmp_path / "data").rglob("tmp*") if path.read_bytes()[:1] == b"{"]
    strips = [Image.open(path) for path in (tmp_path / "data").rglob("tmp*") if path.read_bytes()[1:4] == b"PNG"]
    assert tables and all(("image" in json.loads(path.read_text())["columns"]) == shown for path in tables)
    assert {strip.size for strip in strips} == ({(4 * (64 + GAP) + GAP, 48 + CAPTION + 2 * GAP)} if shown else set())
