"""Every family trains through the script: rows with no, one and two pictures, two steps, a checkpoint that loads."""

import json
import math

import pytest
import torch
from helpers import families
from helpers.clips import moving_square, write_clip
from helpers.families.prompts import picture
from helpers.families.rows import NO_ROUTER_LOSS, TRAINED
from helpers.families.runs import SIZES, make_reward, make_rows, run
from helpers.trainers import sft_trainer
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from open_r1.check import main as check
from open_r1.errors import UsageError
from open_r1.models.model_parts import vision_parameters

WAYS = [{}, {"freeze_vision_modules": "true"}, {"use_peft": "true", "lora_r": 4}]  # of training, in turn

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return make_rows(folder), make_reward(folder)


def run_of(number: int, name: str):
    way = WAYS[number % len(WAYS)]
    flags = way | ({"router_aux_loss_coef": 0} if name in NO_ROUTER_LOSS else {})
    return pytest.param(name, flags, id=f"{name}-{'-'.join(way) or 'all'}")


@pytest.mark.parametrize(("name", "way"), [run_of(number, name) for number, name in enumerate(TRAINED)])
def test_it_trains_and_its_checkpoint_loads(name, way, rows, tmp_path):
    file, reward = rows
    steps = run(families.save(name, tmp_path / "model"), file, tmp_path / "out", reward_funcs=reward, **way)
    losses = [step["loss"] for step in steps if "loss" in step]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    assert any(step.get("grad_norm", 0) > 0 for step in steps)
    said = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert said and (tmp_path / "out" / "checkpoint-2").is_dir()
    if "use_peft" in way:
        adapters = load_file(tmp_path / "out" / "checkpoint-2" / "adapter_model.safetensors")
        assert any(weight.abs().max() > 0 for key, weight in adapters.items() if "lora_B" in key)
        return
    before, after = (
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        for folder in (tmp_path / "model", tmp_path / "out" / "checkpoint-2")
    )
    changed = {id(p): not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True)}
    of_vision = [changed[id(p)] for p in vision_parameters(before)]
    assert any(changed.values()) and any(of_vision) == ("freeze_vision_modules" not in way)


@pytest.mark.parametrize("name", ["smolvlm", "internvl", "gemma4", "minicpmv4_6", "llava_onevision"])
def test_rows_with_videos_of_two_lengths_and_a_picture_are_checked_trained_and_taught(name, rows, tmp_path):
    """Whose processors take them one by one alone."""
    _, reward = rows
    for number, frames in enumerate((8, 16)):
        write_clip(tmp_path / f"{number}.mp4", moving_square(frames=frames), 4.0)
    picture(SIZES[1], torch.Generator()).save(tmp_path / "p.png")
    asked = {"image": "p.png", "video": ["0.mp4", "1.mp4"], "problem": "<video>Is it <image> or <video>?"}
    both = {"video": asked["video"], "problem": "<video>or<video>?"}
    said = [("user", "<video>What?"), ("assistant", "It moves."), ("user", "And <video>?")]
    turns = {"video": asked["video"], "messages": [{"role": role, "content": text} for role, text in said]}
    lines = [asked, both, {"problem": "What is it?"}, turns]
    text = "".join(json.dumps(line | {"id": str(i), "solution": str(i)}) + "\n" for i, line in enumerate(lines))
    (tmp_path / "rows.jsonl").write_text(text)
    model = families.save(name, tmp_path / "model")
    flags = f"--data_file_paths {tmp_path / 'rows.jsonl'} --image_folders {tmp_path} --model {model}"
    assert check(flags.split()) == 0
    steps = run(model, tmp_path / "rows.jsonl", tmp_path / "out", reward_funcs=reward)
    assert all(math.isfinite(step["loss"]) for step in steps if "loss" in step)
    trainer = supervised(name, (tmp_path / "rows.jsonl", None), tmp_path)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"])


def supervised(name: str, rows, out, *flags: str):
    """A trainer of `sft_jsonl.py` on the rows, for a step."""
    command = f"--max_steps 1 --per_device_train_batch_size 4 --use_cpu true --bf16 false --output_dir {out}/out"
    data = f"--data_file_paths {rows[0]} --image_folders {rows[0].parent} --box_space relative_1000"
    model = families.save(name, out / "model")
    return sft_trainer([*f"{command} {data} --model_name_or_path {model}".split(), *flags])


@pytest.mark.parametrize(
    ("name", "flags"), [("qwen2_5_omni_thinker", ()), ("llama4", ("--router_aux_loss_coef", "0"))]
)
def test_supervised_training_takes_models_that_are_their_own_backbone(name, flags, rows, tmp_path):
    trainer = supervised(name, rows, tmp_path, *flags)
    trainer.train()
    step = trainer.state.log_history[0]
    assert math.isfinite(step["loss"]) and step["grad_norm"] > 0


@pytest.mark.parametrize("name", NO_ROUTER_LOSS)
def test_supervised_training_refuses_a_balancing_loss_that_cannot_be_computed(name, rows, tmp_path):
    with pytest.raises(UsageError, match=f"{NO_ROUTER_LOSS[name]}; add --router_aux_loss_coef 0"):
        supervised(name, rows, tmp_path)
