"""Trains on each rank of `tests/trainer/test_loud_on_ranks.py`, with silent failures; started by torchrun.

    torchrun --nproc_per_node 2 tests/helpers/loud_on_ranks.py ENGINE OUT DATA

DATA has text rows alone, so that the vision tower learns nothing. Rank 1 gets a loss that is NaN in the second step
and an infinite gradient in the third. OUT/{run}_{rank}.json has each rank's error, warnings and changed steps.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from helpers.ranks import generate_by_key, place_fsdp, trainer_for
from open_r1.config import hardware
from open_r1.errors import UsageError
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.checks.weight_updates import fingerprint, optimized_part
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

FLAGS = "--max_steps 4 --num_iterations 1 --beta 0 --report_to none"


class FingerprintRecorder(TrainerCallback):
    """Fingerprints of what this rank's optimizer writes, before each step and after the last."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def on_step_begin(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        self.steps.append([int(fingerprint(optimized_part(p))) for p in model.parameters() if p.requires_grad])


class WarningRecorder(logging.Handler):
    """Records the warnings of this package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        logging.getLogger("open_r1").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def plant_nonfinite(trainer: VLMGRPOTrainer) -> None:
    """On rank 1 alone, make the loss NaN in the second step and the gradient infinite in the third."""
    plain = trainer._compute_loss

    def compute_loss(*args: Any) -> torch.Tensor:
        loss = plain(*args)
        if trainer.accelerator.process_index == 1 and trainer.state.global_step == 1:
            return loss * float("nan")
        if trainer.accelerator.process_index == 1 and trainer.state.global_step == 2:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    trainer._compute_loss = compute_loss


def run(engine: str, out: Path, data: Path, name: str, *flags: str, faulty: bool = True) -> None:
    """Train once, and write this rank's results."""
    warnings, weights = WarningRecorder(), FingerprintRecorder()
    trainer = trainer_for(engine, out / name, data, *FLAGS.split(), *flags)
    trainer._generate_single_turn = generate_by_key(trainer)
    trainer.add_callback(weights)
    if faulty:
        plant_nonfinite(trainer)
    error = saved = None
    try:
        trainer.train()
    except UsageError as raised:
        error = raised
        saved = save_checkpoint_now(trainer) if name == "stop" else None
    weights.on_step_begin(model=trainer.model)
    pairs = zip(weights.steps, weights.steps[1:], strict=False)
    results = {
        "kind": type(error).__name__,
        "error": str(error),
        "moved": [before != after for before, after in pairs],
        "warnings": warnings.messages,
        "steps": trainer.nonfinite_steps,
        "saved": saved and sorted(path.name for path in saved.iterdir()),
    }
    (out / f"{name}_{trainer.accelerator.process_index}.json").write_text(json.dumps(results))


def main(engine: str, out: Path, data: Path) -> None:
    hardware._refuse_fsdp_on_cpu = place_fsdp
    run(engine, out, data, "skip", "--on_nonfinite", "skip")
    run(engine, out, data, "stop")
    run(engine, out, data, "still", "--learning_rate", "1e-20", "--weight_decay", "0", faulty=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
