"""A checkpoint, an output folder and an evaluation of an earlier version (2026-11-28, before the files moved to rooms)
resume, report and compare.

`earlier_run.tar.xz` holds 16 rows of digits, `run` (LoRA of rank 1 on the tiny VLM, four steps, `checkpoint-2` and the
final `checkpoint`), the adapter after step 4, and `evaluation` (four held-out rows):

    python src/open_r1/grpo_jsonl.py FLAGS --save_steps 2 --output_dir output/earlier/run
    python eval/evaluate.py EVALUATION
"""

import json
import os
import tarfile
from pathlib import Path

import pytest
import torch
from helpers.repository import REPO, run_script
from safetensors.torch import load_file

from open_r1.data.jsonl_io import read_lines
from open_r1.report.page import write_report
from open_r1.trainer.checkpointing.manifest import damages
from open_r1.trainer.checkpointing.required_files import missing, read_state

FLAGS = """--model_name_or_path assets/tiny-vlm --task_type digits --data_file_paths output/earlier/data/train.jsonl
--image_folders output/earlier/data --use_peft true --lora_r 1 --lora_target_modules q_proj --num_generations 4
--per_device_train_batch_size 16 --max_completion_length 40 --learning_rate 1e-3 --max_steps 4 --rollout_groups 1
--bf16 false --report_to none --disable_tqdm true --output_dir output/earlier/run"""
EVALUATION = """--model output/earlier/run/checkpoint --task digits --data_file_paths output/earlier/data/heldout.jsonl
--image_folders output/earlier/data --output_dir output/earlier/evaluation --max_completion_length 40 --batch_size 4"""
SAVED = 1795854281624431035  # ns; an evaluation knows weights by size and time, which an archive keeps less exactly
TIMED = ("seconds", "time", "per_second")


@pytest.fixture
def earlier(tmp_path) -> Path:
    """The folder that holds `run`, `evaluation` and `data`, where commands find them as they did."""
    (tmp_path / "assets").symlink_to(REPO / "assets")
    with tarfile.open(REPO / "tests" / "trainer" / "earlier_run.tar.xz") as archive:
        archive.extractall(tmp_path / "output", filter="data")
    adapter = tmp_path / "output" / "earlier" / "run" / "checkpoint" / "adapter_model.safetensors"
    os.utime(adapter, ns=(SAVED, SAVED))
    return tmp_path / "output" / "earlier"


def start(earlier: Path, script: str, flags: str, *more: object) -> str:
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = run_script(script, *flags.split(), *more, env=env, cwd=earlier.parents[1])
    return done.stdout + done.stderr


def untimed(lines: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if not any(word in k for word in TIMED)} for line in lines]


def test_the_checkpoint_is_whole(earlier):
    folder = earlier / "run" / "checkpoint-2"
    assert missing(folder) == [] and damages(folder) == [] and read_state(folder)["facts"]["--lora_r"] == 1


@pytest.mark.slow
def test_the_run_goes_on_to_the_weights_and_metrics_that_it_had(earlier):
    before = read_lines(earlier / "run" / "metrics.jsonl")
    start(earlier, "src/open_r1/grpo_jsonl.py", FLAGS, "--save_steps", 3, "--resume_from_checkpoint", "true")
    weights = load_file(earlier / "run" / "checkpoint" / "adapter_model.safetensors")
    for name, expected in load_file(earlier / "expected_adapter.safetensors").items():
        torch.testing.assert_close(weights[name], expected, atol=1e-5, rtol=0)
    after = read_lines(earlier / "run" / "metrics.jsonl")
    assert [line["step"] for line in after] == [1, 2, 3, 4, 4]
    for line, expected in zip(untimed(after), untimed(before), strict=True):
        shared = line.keys() & expected.keys()
        assert len(shared) >= len(expected) - 1 and {k: line[k] for k in shared} == pytest.approx(
            {k: expected[k] for k in shared}, abs=1e-4, nan_ok=True
        )


@pytest.mark.slow
def test_other_flags_are_still_refused(earlier):
    with pytest.raises(AssertionError, match=r"--beta: 0\.0 in the checkpoint, 0\.1 in this run"):
        start(earlier, "src/open_r1/grpo_jsonl.py", FLAGS, "--beta", 0.1, "--resume_from_checkpoint", "true")


def test_the_output_folder_is_reported(earlier):
    page = write_report([earlier / "run"], earlier / "report.html").read_text()
    first = read_lines(earlier / "run" / "rollouts.jsonl")[0]
    assert first["where"] in page and "assets/tiny-vlm" in page and "lora_r" in page


@pytest.mark.slow
def test_the_evaluation_is_gone_on_with_and_compared(earlier):
    predictions = (earlier / "evaluation" / "predictions.jsonl").read_bytes()
    summary = json.loads((earlier / "evaluation" / "summary.json").read_text())
    start(earlier, "eval/evaluate.py", EVALUATION)  # all rows are there: none is answered again
    assert (earlier / "evaluation" / "predictions.jsonl").read_bytes() == predictions
    assert json.loads((earlier / "evaluation" / "summary.json").read_text())["think"] == summary["think"]
    again = EVALUATION.replace("--output_dir output/earlier/evaluation", "--output_dir output/earlier/again")
    start(earlier, "eval/evaluate.py", again)
    table = start(earlier, "eval/compare.py", "output/earlier/evaluation output/earlier/again")
    assert "4 rows" in table and "+0.000" in table
