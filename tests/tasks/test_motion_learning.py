"""The embedded model of clips learns `motion` by GRPO, through the scripts, and needs the order of frames for it."""

from pathlib import Path

import pytest
from helpers.repository import REPO, make_dataset, run_script

from open_r1.evaluation.cli import parser_of, run_evaluation

MODEL = REPO / "assets" / "tiny-vlm-motion"
TRAINING = "--task_type motion --max_steps 30 --num_generations 8 --per_device_train_batch_size 64 --beta 0 --seed 0"
TRAINING += " --max_completion_length 40 --learning_rate 1e-4 --lr_scheduler_type linear --warmup_steps 5"
TRAINING += " --gradient_checkpointing false --save_strategy no --use_cpu true --report_to none"


def accuracy(model: Path, data: Path, out: Path, view: str) -> float:
    flags = f"--model {model} --task motion --data_file_paths {data}/heldout.jsonl --image_folders {data}"
    flags += f" --output_dir {out} --batch_size 64 --max_completion_length 40 --view {view}"
    return run_evaluation(parser_of(None).parse_args(flags.split()))["think"]["accuracy"]


@pytest.mark.slow
def test_grpo_teaches_it_to_answer_about_time(tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    make_dataset("motion", data, "--rows", 400, "--heldout_rows", 128)
    before = accuracy(MODEL, data, tmp_path / "before", "own")
    files = ("--data_file_paths", data / "train.jsonl", "--image_folders", data, "--output_dir", run)
    run_script("src/open_r1/grpo_jsonl.py", "--model_name_or_path", MODEL, *files, *TRAINING.split())
    after = {view: accuracy(run / "checkpoint", data, tmp_path / view, view) for view in ("own", "shuffled_frames")}
    assert after["own"] > before + 0.15
    assert after["shuffled_frames"] < 0.5 < after["own"]
