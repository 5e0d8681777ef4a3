"""Every recipe of the five systems: its flags are theirs, and SMOKE=1 runs it to its end through the same code."""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.preloaded import ranked, venv
from helpers.repository import REPO
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, ModelConfig

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.training_arguments import GRPOArguments
from open_r1.trainer.checkpointing.identity import SHAPING

REC = {"num_generations": 8, "gradient_accumulation_steps": 2, "max_completion_length": 2048, "beta": 0.04}
REC |= {"per_device_train_batch_size": 8, "num_train_epochs": 2, "save_steps": 100, "learning_rate": 1e-6}
R1V = {"num_generations": 8, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "beta": 0.04}
R1V |= {"max_prompt_length": 1024, "max_completion_length": 512, "max_pixels": 401408, "num_train_epochs": 2}
R1_VLM = {"num_generations": 9, "beta": 0.001, "ref_model_sync_steps": 64, "learning_rate": 1e-6, "temperature": 1.0}
# What SYSTEMS says of each recipe. Batches count completions here: one prompt of R1-V is a group of 8.
FLAGS: dict[str, dict[str, Any]] = {
    "run_grpo_rec.sh": {**REC, "deepspeed": "local_scripts/zero3.json"},
    "run_grpo_rec_lora.sh": {
        **REC,
        "learning_rate": 1e-5,
        "lora_r": 64,
        "lora_alpha": 128,
        "lora_dropout": 0.05,
        "freeze_vision_modules": True,
        "deepspeed": "local_scripts/zero2.json",
    },
    "run_grpo_rec_16gb.sh": {
        **REC,
        "learning_rate": 1e-5,
        "gradient_accumulation_steps": 4,
        "max_completion_length": 512,
        "num_train_epochs": 1,
        "lora_r": 32,
        "lora_alpha": 64,
        "load_in_4bit": True,
        "use_bnb_nested_quant": True,
        "optim": "adamw_bnb_8bit",
        "max_pixels": 401408,
    },
    "run_grpo_rec_internvl.sh": {**REC, "deepspeed": "local_scripts/zero3.json"},
    "run_grpo_rec_more_params.sh": {**REC, "epsilon_high": 0.28, "max_pixels": 12845056, "min_pixels": 3136},
    "run_grpo_seg.sh": {**REC, "task_type": "seg"},
    "run_grpo_gui.sh": {"task_type": "gui", "reward_method": "all_match", "max_steps": 1200, "num_generations": 8},
    "run_grpo_od.sh": {**REC, "task_type": "od"},
    "run_grpo_counting.sh": {**R1V, "learning_rate": 1e-6, "save_steps": 100, "task_type": "counting"},
    "run_grpo_geoqa.sh": {**R1V, "learning_rate": 1e-6, "task_type": "math"},
    "run_grpo_math.sh": {
        "task_type": "math",
        "max_prompt_length": 8192,
        "max_completion_length": 8192,
        "max_pixels": 2359296,
        "save_total_limit": 8,
    },
    "run_grpo_digits.sh": {**R1_VLM, "task_type": "digits"},
    "run_grpo_decode.sh": {**R1_VLM, "deepspeed": "local_scripts/zero2_offload.json"},
    "run_grpo_area.sh": {
        "task_type": "area",
        "num_generations": 8,
        "learning_rate": 1e-5,
        "temperature": 0.6,
        "beta": 0.05,
        "ref_model_mixup_alpha": 0.1,
        "ref_model_sync_steps": 200,
    },
    "run_grpo_zoom.sh": {
        "task_type": "default",
        "tools": "zoom",
        "max_tool_turns": 4,
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 16,
        "max_prompt_length": 8192,
        "learning_rate": 1e-6,
        "beta": 0,
        "num_train_epochs": 1,
    },
    "run_grpo_video.sh": {
        "task_type": "default",
        "video_fps": 2.0,
        "video_max_frames": 16,
        "video_max_pixels": 100352,
        "max_pixels": 401408,
        "num_generations": 8,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_prompt_length": 16384,
        "max_completion_length": 768,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.01,
        "max_grad_norm": 5.0,
        "beta": 0.04,
        "num_train_epochs": 1,
        "deepspeed": "local_scripts/zero3.json",
    },
    "run_sft.sh": {"learning_rate": 2e-5, "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "num_train_epochs": 1},
    "run_grpo_jsonl.sh": {"num_generations": 8, "per_device_train_batch_size": 8, "save_steps": 100},
}
# SMOKE=1 makes these small; the rest of a recipe's flags reach the run.
SMALL = {"num_generations", "per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length"}
SMALL |= {"max_steps"}


def flags_of(script: str) -> dict[str, Any]:
    """Each `--flag value` of a recipe as it stands there."""
    text = (REPO / "run_scripts" / script).read_text()
    pairs = re.findall(r"--(\w+) ([^\s\\\"$]+)", text[text.index("launch.sh src") :])
    return {name: yaml.safe_load(value) for name, value in pairs}


def test_every_recipe_is_in_the_table():
    assert set(FLAGS) == {path.name for path in (REPO / "run_scripts").glob("run_*.sh")}


@pytest.mark.parametrize("script", FLAGS)
def test_flags_are_those_of_the_project_it_comes_from(script):
    found = flags_of(script)
    assert {
        name: float(found[name]) if isinstance(value, float) else found[name] for name, value in FLAGS[script].items()
    } == FLAGS[script]


# The loss of all five projects: the mean of each completion, then of the batch, and the plain low-variance KL.
SEEDS_LOSS = {"loss_type": "grpo", "use_bias_correction_kl": False}
GRPO_RECIPES = sorted(set(FLAGS) - {"run_sft.sh", "run_grpo_zoom.sh"})  # verl's mean over tokens is the default


@pytest.mark.parametrize("script", GRPO_RECIPES)
def test_a_recipe_names_the_loss_of_the_project_it_comes_from(script):
    found = flags_of(script)
    assert {name: found[name] for name in SEEDS_LOSS} == SEEDS_LOSS
    assert float(found["beta"]) > 0 and float(found["learning_rate"]) > 0


def test_migration_names_each_default_of_trl_that_a_recipe_changes():
    """Every flag of loss, rollouts and optimizer that a recipe sets to another value, with TRL's default as it is."""
    page = (REPO / "assets" / "docs" / "migration.md").read_text(encoding="utf-8")
    table = page.partition("## Defaults that differ")[2].partition("\n## ")[0]
    written = dict(re.findall(r"^\| `--(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    defaults = {f.name: f.default for f in fields(GRPOConfig)} | {f.name: f.default for f in fields(ModelConfig)}
    assert {name: text for name, text in written.items() if text.strip("` ") != plain(defaults[name])} == {}
    shaping = {n for kind in ("advantages and loss", "rollouts", "optimizer") for n in SHAPING[kind].split()}
    changed = {n for script in GRPO_RECIPES for n, v in flags_of(script).items() if n in shaping and v != defaults[n]}
    changed -= {n for n in changed if all(float_of(flags_of(s).get(n)) == float_of(defaults[n]) for s in GRPO_RECIPES)}
    own = {f.name for f in fields(GRPOArguments) if f.name in defaults and f.default != defaults[f.name]}
    own |= {f.name for f in fields(VLMConfig) if f.name in defaults and f.default != defaults[f.name]}
    assert (changed | own) - set(written) - WITHOUT_MEANING == set()


# Of our own dataclasses: help texts and types alone differ, the default says the same.
WITHOUT_MEANING = {"lora_target_modules"}


def plain(value: Any) -> str:
    return str(getattr(value, "value", value)).lower()


def float_of(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def smoke(script: str, out: Path, *flags: object, **environment: str) -> tuple[Path, dict[str, Any]]:
    """(folder, resolved configuration) of a recipe's small run."""
    env = {**ranked(), "VENV": venv(), "SMOKE": "1", "SMOKE_DIR": str(out), **environment}
    command = ["bash", f"run_scripts/{script}", *map(str, flags)]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    (folder,) = out.iterdir()
    return folder, yaml.safe_load((folder / "resolved_config.yaml").read_text())


# Each run takes up to a minute of starting Python twice, so `.ci/run` has one recipe of each way through the code.
ALWAYS = ("rec_lora", "rec_more_params", "gui", "counting", "decode", "area")
ALWAYS_RUN = {*(f"run_grpo_{name}.sh" for name in ALWAYS), "run_sft.sh"}
QUANTIZED = "run_grpo_rec_16gb.sh"
OTHERS = pytest.mark.skipif("not os.environ.get('ALL_RECIPES')", reason="set ALL_RECIPES=1 to run every recipe")


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        *(s if s in ALWAYS_RUN else pytest.param(s, marks=OTHERS) for s in FLAGS if s != QUANTIZED),
        pytest.param(QUANTIZED, marks=pytest.mark.quant),
    ],
)
def test_recipe_runs_in_small(script, tmp_path):
    folder, config = smoke(script, tmp_path)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2]
    if script != "run_sft.sh":
        assert (folder / "report.html").stat().st_size > 0 and (folder / "reward_curve.png").stat().st_size > 0
    AutoProcessor.from_pretrained(folder / "checkpoint")
    if "lora_r" not in FLAGS[script]:
        AutoModelForImageTextToText.from_pretrained(folder / "checkpoint")
    given = config["task"] | config["training"] | config["model"]
    expected = {name: value for name, value in FLAGS[script].items() if name not in SMALL}
    assert {name: given[name] for name in expected} == expected


@pytest.mark.slow
@OTHERS
def test_a_recipe_takes_more_flags(tmp_path):
    _, config = smoke("run_grpo_area.sh", tmp_path, "--prompt_mode", "direct", "--top_k", 5)
    assert config["task"]["prompt_mode"] == "direct" and config["training"]["top_k"] == 5
