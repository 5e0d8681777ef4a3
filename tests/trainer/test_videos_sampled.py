"""The flags of videos reach the code that reads them, through the scripts of training."""

from pathlib import Path

import pytest
from helpers.clips import clip_rows, tiny_with_videos

from open_r1 import grpo_jsonl, sft_jsonl
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.types import FrameSampling

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
