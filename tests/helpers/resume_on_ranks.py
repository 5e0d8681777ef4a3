"""Trains on two ranks with a save at each step, and resumes from some, for `tests/trainer/test_resume.py`.

    torchrun --standalone --nproc_per_node 2 tests/helpers/resume_on_ranks.py MODEL DATA OUT CONFIG STEPS [FLAGS]

CONFIG is DeepSpeed's, STEPS such as 1,7 are those to resume from.

Rank 0 writes OUT/differences.json: step -> largest difference of the final weights to those of the undisturbed run.
What ranks learned of rows (--row_sampling difficulty) must be equal on both.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from safetensors.torch import load_file

from helpers import trainers
from helpers.trainers import make_trainer

FLAGS = "--per_device_train_batch_size 4 --gradient_accumulation_steps 1 --steps_per_generation 2 --use_cpu true "
FLAGS += "--max_completion_length 4 --num_train_epochs 2 --beta 0.04 --sync_ref_model true --ref_model_sync_steps 2"


def train(tiny: str, data: Path, out: Path, config: str, *flags: str, checkpoint: Path | None = None) -> dict:
    """The final weights of a run."""
    AcceleratorState._reset_state()  # as in a new process: it takes one engine's settings only once
    trainer = make_trainer(tiny, data, out, *FLAGS.split(), "--deepspeed", config, *flags)
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    trainer.save_model(str(out / "checkpoint"))
    trainer.accelerator.wait_for_everyone()
    if difficulty := trainer.row_choice.difficulty:
        learned = gather_object([difficulty.saved()])
        assert all(torch.equal(learned[0][name], learned[1][name]) for name in ("counts", "visits"))
        assert max(line.get("rollouts/discarded", 0) for line in trainer.state.log_history) > 0
    return load_file(out / "checkpoint" / "model.safetensors")


def parity(completions, **_):
    """A reward that many groups have no spread of."""
    return [float(len(completion[0]["content"]) % 2) for completion in completions]


def main(tiny: str, data: str, out: str, config: str, steps: str, *more: str) -> None:
    torch.set_num_threads(1)
    trainers.count_characters = parity if more else trainers.count_characters
    few = Path(data).with_name("eight.jsonl")  # 4 prompts a window, so 2 windows and 4 steps an epoch
    few.write_text("".join(Path(data).read_text().splitlines(keepends=True)[:8]))
    undisturbed = train(tiny, few, Path(out), config, *more, "--save_strategy", "steps", "--save_steps", "1")
    differences = {}
    for step in map(int, steps.split(",")):
        resumed = train(tiny, few, Path(out) / "again", config, *more, checkpoint=Path(out) / f"checkpoint-{step}")
        differences[step] = max((resumed[name] - value).abs().max().item() for name, value in undisturbed.items())
    if torch.distributed.get_rank() == 0:
        (Path(out) / "differences.json").write_text(json.dumps(differences))


if __name__ == "__main__":
    main(*sys.argv[1:])
