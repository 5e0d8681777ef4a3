"""grpo_jsonl.py, grpo_rec.py and grpo.py as users start them, on the tiny VLM; real rows where they are at hand."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, Features, Image, Value
from helpers.preloaded import ranked, venv
from helpers.repository import REPO, free_port, run_script
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

pytestmark = pytest.mark.slow
SHORT = "--max_steps 2 --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 32 --bf16 false"
SHORT += " --learning_rate 1e-3 --gradient_checkpointing false --use_cpu true"


USERS_REWARDS = """
def brightness(completion, record, images):
    return images[0].getpixel((0, 0))[0] / 255 + len(completion)

def batch(completions, solution, kind, **columns):
    return [float(len(s) + len(k)) for s, k in zip(solution, kind)]
"""


@pytest.fixture
def rewards(tmp_path) -> list[object]:
    """Flags that add a user's reward: the tiny VLM answers no real row, so accuracy and format alone teach nothing."""
    (tmp_path / "mine.py").write_text(USERS_REWARDS)
    return ["--reward_funcs", "accuracy", "format", f"{tmp_path}/mine.py:brightness"]


def train(script: str, tiny: str, out: Path, *flags: object, check: bool = True):
    return run_script(
        f"src/open_r1/{script}", "--model_name_or_path", tiny, "--output_dir", out, *SHORT.split(), *flags, check=check
    )


def assert_trained(tiny: str, out: Path) -> None:
    """Every parameter of the final model moved and is finite, and the run left what it promises."""
    before, after = (AutoModelForImageTextToText.from_pretrained(at) for at in (tiny, out / "checkpoint"))
    after = dict(after.named_parameters())
    assert [name for name, weights in before.named_parameters() if weights.equal(after[name])] == []
    assert all(weights.isfinite().all() for weights in after.values())
    for name in ("metrics.jsonl", "reward_curve.png", "report.html", "resolved_config.yaml"):
        assert (out / name).stat().st_size > 0


def test_jsonl_run_leaves_a_checkpoint_that_answers_as_it_lies_there(tiny, mixed, tmp_path):
    done = train(
        "grpo_jsonl.py",
        tiny,
        tmp_path,
        "--data_file_paths",
        f"{mixed}:{mixed.parent}/train.jsonl",
        "--image_folders",
        mixed.parent,
        "--reward_method",
        "default:digits",
        "--task_type",
        "digits",
        "--val_split_ratio",
        "0.1",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
        "--save_steps",
        "1",
    )
    assert_trained(tiny, tmp_path)
    for fact in ("rows", "115 and 13 for evaluation", "tokens per group", "accuracy x 1, format x 1", "GiB"):
        assert fact in done.stderr
    for folder in ("checkpoint-1", "checkpoint-2", "checkpoint"):
        processor = AutoProcessor.from_pretrained(tmp_path / folder)
        assert processor.chat_template == AutoProcessor.from_pretrained(tiny).chat_template
        AutoModelForImageTextToText.from_pretrained(tmp_path / folder)
    config = yaml.safe_load((tmp_path / "resolved_config.yaml").read_text())
    assert config["training"]["max_steps"] == 2 and config["task"]["reward_method"] == "default:digits"
    run_script(
        "eval/evaluate.py",
        "--model",
        tmp_path / "checkpoint",
        "--task",
        "digits",
        "--limit",
        4,
        "--data_file_paths",
        mixed.parent / "heldout.jsonl",
        "--image_folders",
        mixed.parent,
        "--output_dir",
        tmp_path / "eval",
        "--max_completion_length",
        8,
    )
    assert json.loads((tmp_path / "eval" / "summary.json").read_text())["think"]["n"] == 4


def test_a_run_continues_from_its_newest_checkpoint(tiny, digits, tmp_path):
    flags = ["--data_file_paths", digits / "train.jsonl", "--image_folders", digits, "--save_steps", 1]
    train("grpo_jsonl.py", tiny, tmp_path, *flags)
    train("grpo_jsonl.py", tiny, tmp_path, *flags, "--max_steps", 3, "--resume_from_checkpoint", "true")
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps[-2:] == [3, 3] and steps.count(1) == 1


def test_bad_rows_stop_the_run_before_anything_is_loaded(tiny, digits, tmp_path):
    row = {
        "image": "images/none.png",
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": None}],
    }
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    done = train(
        "grpo_jsonl.py",
        tiny,
        tmp_path / "out",
        "--data_file_paths",
        tmp_path / "bad.jsonl",
        "--image_folders",
        digits,
        check=False,
    )
    assert done.returncode == 1
    assert "bad.jsonl:1: image: got" in done.stderr and "Nothing was trained" in done.stderr
    assert not (tmp_path / "out").exists()


def test_long_prompts_are_refused_by_name(tiny, digits, tmp_path):
    done = train(
        "grpo_jsonl.py",
        tiny,
        tmp_path / "out",
        "--data_file_paths",
        digits / "train.jsonl",
        "--image_folders",
        digits,
        "--max_prompt_length",
        20,
        check=False,
    )
    assert (
        done.returncode == 1 and "train.jsonl:1: prompt: got" in done.stderr and "expected at most 20" in done.stderr
    )


def test_too_few_rows_are_explained(tiny, digits, tmp_path):
    (tmp_path / "one.jsonl").write_text((digits / "train.jsonl").read_text().splitlines()[0])
    done = train(
        "grpo_jsonl.py",
        tiny,
        tmp_path / "out",
        "--data_file_paths",
        tmp_path / "one.jsonl",
        "--image_folders",
        digits,
        check=False,
    )
    assert done.returncode != 0 and "1 rows: expected at least 2" in done.stderr


def test_wandb_gets_curves_and_completions(tiny, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    flags = ["--data_file_paths", digits / "train.jsonl", "--image_folders", digits, "--report_to", "wandb"]
    train("grpo_jsonl.py", tiny, tmp_path / "out", *flags, "--log_completions", "true")
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/table/completions*"))


def test_users_rewards_see_images_and_columns(tiny, digits, tmp_path):
    reward = tmp_path / "mine.py"
    reward.write_text(USERS_REWARDS)
    train(
        "grpo_jsonl.py",
        tiny,
        tmp_path / "out",
        "--data_file_paths",
        digits / "train.jsonl",
        "--image_folders",
        digits,
        "--reward_funcs",
        f"{reward}:brightness",
        f"{reward}:batch",
        "--reward_weights",
        "1",
        "0.5",
    )
    first = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert any("brightness" in key for key in first) and any("batch" in key for key in first)


FAULTY_REWARDS = """
import os
def dies(completion, record):
    return os._exit(1) if record.id.endswith(("0", "2", "4", "6", "8")) else float(len(completion))
def raises(completion, record):
    raise LookupError("no such level")  # HERE
"""


def test_users_rewards_that_die_or_raise_do_what_the_flags_say(tiny, digits, tmp_path):
    reward = tmp_path / "faulty.py"
    reward.write_text(FAULTY_REWARDS)
    flags = ["--data_file_paths", digits / "train.jsonl", "--image_folders", digits, "--reward_seconds", 20]
    flags += ["--reward_funcs", f"{reward}:dies", f"{reward}:raises"]
    stopped = train("grpo_jsonl.py", tiny, tmp_path / "stop", *flags, check=False)
    assert stopped.returncode != 0 and 'faulty.py", line 6, in raises' in stopped.stderr
    place = r"(?m)^\S*train\.jsonl:\d+: reward \S*:raises: LookupError: no such level"
    assert re.search(place, stopped.stderr) and "worker_pool" not in stopped.stderr  # no traceback of ours
    out = tmp_path / "skip"
    done = train("grpo_jsonl.py", tiny, out, *flags, "--reward_errors", "skip", "--max_steps", 8)
    assert done.stderr.count("LookupError: no such level\n") == 2  # one warning: what was raised, and its traceback
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["grading/errors"] for line in lines if "loss" in line] == [8.0 * step for step in range(1, 9)]
    assert max(line.get("grading/crashes", 0) for line in lines) > 0
    assert "Gradings that raised" in (out / "report.html").read_text()


def test_lora_trains_its_adapter_only(tiny, digits, tmp_path):
    train(
        "grpo_jsonl.py",
        tiny,
        tmp_path,
        "--data_file_paths",
        digits / "train.jsonl",
        "--image_folders",
        digits,
        "--use_peft",
        "true",
        "--lora_r",
        4,
        "--freeze_vision_modules",
        "true",
        "--beta",
        "0.01",
    )
    adapter = load_file(tmp_path / "checkpoint" / "adapter_model.safetensors")
    assert adapter and all("lora" in name and "visual" not in name for name in adapter)
    assert any(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)


def test_hub_style_dataset(tiny, digits, tmp_path):
    rows = [json.loads(line) for line in (digits / "train.jsonl").read_text().splitlines()]
    features = Features({"image": Image(), "problem": Value("string"), "solution": Value("string")})
    data = {
        "image": [str(digits / row["image"]) for row in rows],
        "problem": [row["conversations"][0]["value"].removeprefix("<image>") for row in rows],
        "solution": [f"<answer> {row['conversations'][1]['value']} </answer>" for row in rows],
    }
    Dataset.from_dict(data, features=features).save_to_disk(str(tmp_path / "saved"))
    train("grpo.py", tiny, tmp_path / "out", "--dataset_name", tmp_path / "saved", "--task_type", "digits")
    assert_trained(tiny, tmp_path / "out")


def test_real_boxes(tiny, shared, tmp_path, rewards):
    flags = [
        "--data_file_paths",
        shared / "coco" / "rec.jsonl",
        "--image_folders",
        shared / "coco",
        "--max_pixels",
        50176,
        *rewards,
    ]
    train("grpo_rec.py", tiny, tmp_path / "rec", *flags)
    assert_trained(tiny, tmp_path / "rec")
    train("grpo_jsonl.py", tiny, tmp_path / "jsonl", *flags, "--reward_method", "iou")
    assert_trained(tiny, tmp_path / "jsonl")


def test_real_questions(tiny, shared, tmp_path, rewards):
    converted = tmp_path / "qa.jsonl"
    run_script(
        "local_scripts/convert_jsonl.py",
        shared / "superclevr" / "qa.jsonl",
        "--out",
        converted,
        "--image_prefix",
        "images",
    )
    train(
        "grpo_jsonl.py",
        tiny,
        tmp_path / "out",
        "--data_file_paths",
        converted,
        "--image_folders",
        shared / "superclevr",
        "--max_pixels",
        50176,
        *rewards,
    )
    assert_trained(tiny, tmp_path / "out")


@pytest.mark.distributed
@pytest.mark.parametrize("engine", [[], ["--deepspeed", "local_scripts/zero2.json"]], ids=["ddp", "zero2"])
def test_two_ranks(tiny, digits, tmp_path, engine):
    flags = ["--data_file_paths", digits / "train.jsonl", "--image_folders", digits, "--task_type", "digits", *engine]
    bash(
        "run_scripts/launch.sh",
        "src/open_r1/grpo_jsonl.py",
        "--model_name_or_path",
        tiny,
        "--output_dir",
        tmp_path,
        *SHORT.split(),
        *flags,
        NPROC="2",
    )
    assert_trained(tiny, tmp_path)


@pytest.mark.distributed
def test_the_recipe_for_own_rows_runs_zero3_on_two_ranks(tiny, digits, tmp_path):
    done = bash(
        "run_scripts/run_grpo_jsonl.sh",
        *SHORT.split(),
        "--output_dir",
        tmp_path,
        "--task_type",
        "digits",
        "--gradient_accumulation_steps",
        1,
        NPROC="2",
        MODEL=tiny,
        data_paths=str(digits / "train.jsonl"),
        image_folders=str(digits),
        reward_method="digits",
    )
    assert "1,339,072, of which 1,339,072 are trained" in done.stderr
    assert_trained(tiny, tmp_path)


def bash(script: str, *flags: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A recipe as users start it, with the environment of this interpreter."""
    env = {**ranked(), "MASTER_PORT": str(free_port()), "VENV": venv(), **environment}
    command = ["bash", script, *map(str, flags)]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    return done


def test_quickstart_goes_on_where_it_was_stopped(tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    env = {**os.environ, "OUT": str(out), "STEPS": "8", "ROWS": "64", "VENV": venv(), "OMP_NUM_THREADS": "1"}
    command = ["bash", "run_scripts/quickstart.sh"]
    with open(log, "w") as file:
        run = subprocess.Popen(command, cwd=REPO, env=env, stdout=file, stderr=file, start_new_session=True)
    while run.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    assert run.wait(timeout=120) == 0 and "stopped on the way; the same command goes on" in log.read_text()
    assert not (out / "checkpoint").exists()
    subprocess.run(command, cwd=REPO, env=env, check=True, capture_output=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "reward" in line] == list(range(1, 9))
    assert json.loads((out / "summary.json").read_text())["after"]["n"] == 256 and not (out / "earlier").exists()


def test_quickstart_keeps_its_promise(tmp_path):
    env = {**os.environ, "OUT": str(tmp_path / "out"), "SEED": "0", "VENV": venv()}
    done = subprocess.run(["bash", "run_scripts/quickstart.sh"], cwd=REPO, text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["before"]["n"] == summary["after"]["n"] == 256
    assert summary["before"]["accuracy"] <= 0.60 and summary["after"]["accuracy"] >= 0.90
