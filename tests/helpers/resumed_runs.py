"""Starts and resumes runs, compares their weights and logs, and makes checkpoint folders, for tests."""

import json
from pathlib import Path

import torch

from helpers.trainers import make_trainer
from open_r1.trainer.checkpointing.manifest import write_manifest

SMALL = "--per_device_train_batch_size 4 --num_train_epochs 2 --max_completion_length 4 --logging_steps 2"


# Four rows, two prompts a generation window, so two windows an epoch: of 2 micro-batches, or of 4 when used twice.
WINDOWS = {
    # 4 steps an epoch; an odd step ends inside a window, and the epoch's evaluation comes after the save of step 4
    "longer than a step": "--gradient_accumulation_steps 1 --steps_per_generation 2 --eval_strategy epoch "
    "--per_device_eval_batch_size 4",
    # 4 steps an epoch, 2 for each window; the reference follows at steps 3 and 6
    "used twice": "--gradient_accumulation_steps 2 --steps_per_generation 2 --num_iterations 2 --beta 0.04 "
    "--sync_ref_model true --ref_model_sync_steps 3 --freeze_vision_modules true",
    # 3 steps an epoch, of 3, 3 and 2 micro-batches: the second one begins inside one window and ends inside the next
    "across steps": "--gradient_accumulation_steps 3 --steps_per_generation 2 --num_iterations 2",
    # adapters alone are trained and saved
    "adapters": "--gradient_accumulation_steps 1 --steps_per_generation 2 --beta 0.04 --use_peft true --lora_r 4",
}


def train(tiny, data, out, window, *flags, checkpoint=None):
    """Train with the flags of a window of `WINDOWS`, from a checkpoint if given; the trainer."""
    trainer = make_trainer(tiny, data, out, *SMALL.split(), *WINDOWS[window].split(), *flags)
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return trainer


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def history(trainer) -> list[dict]:
    """The logs of training, without times and evaluations: an epoch's comes after the save at its last step."""
    lines = [line for line in trainer.state.log_history if not any("eval" in key for key in line)]
    untimed = [{k: v for k, v in line.items() if "time" not in k and "second" not in k} for line in lines]
    return [{k: str(v) for k, v in line.items()} for line in untimed]


def assert_same(resumed, undisturbed) -> None:
    """Both trainers have equal weights and logs."""
    expected = weights(undisturbed)
    assert [name for name, value in weights(resumed).items() if not torch.equal(value, expected[name])] == []
    assert history(resumed) == history(undisturbed)


PLAIN = "trainer_state.json model.safetensors optimizer.pt scheduler.pt rng_state.pth run_state_0.pt"


def make_checkpoint(folder: Path, names: str, **description) -> Path:
    """A folder with files of these names, a `run_state.json` of these values, and a manifest."""
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("global_step2" if name == "latest" else "{}")
    description = {"engine": "plain", "ranks": 1, "facts": {}} | description
    (folder / "run_state.json").write_text(json.dumps(description))
    write_manifest(folder)
    return folder
