"""A model of 48 weights, its training with the checks for silent failures, and the warnings of these."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from open_r1.trainer.checks.nonfinite import NonfiniteGuard
from open_r1.trainer.checks.weight_updates import WeightUpdates


class Net(torch.nn.Module):
    """`layers` learn, `idle` has no effect; `fault` changes the loss of a row's step."""

    def __init__(self, fault: Any = lambda loss, step: loss):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(2)])
        self.idle = torch.nn.Linear(4, 4, bias=False)
        self.fault = fault

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
        output = x.to(self.idle.weight.dtype) @ (self.layers[0].weight + self.layers[1].weight)
        return {"loss": self.fault(output.float().pow(2).mean(), int(step[0]))}


class Small(NonfiniteGuard, Trainer):
    """A trainer of a Net, whose rows are step numbers."""

    def rows_of(self, inputs: dict[str, Any]) -> torch.Tensor:
        return inputs["step"]

    def place_of(self, row: Any) -> str:
        return f"rows.jsonl:{int(row)}"


def train(folder: Path, model: torch.nn.Module, steps: int = 4, on_nonfinite: str = "stop", **options: Any) -> Small:
    """Train a Net for a few steps with the checks of a run; the trainer."""
    defaults = {"lr_scheduler_type": "constant", "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"}
    args = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=1, use_cpu=True, **(defaults | options)
    )
    args.on_nonfinite = on_nonfinite
    rows = [{"x": torch.arange(4.0) + 1, "step": step} for step in range(1, 40)]
    trainer = Small(model=model, args=args, train_dataset=rows)
    trainer._get_train_sampler = lambda *_: None  # in order: row n is used in step n
    trainer.add_callback(WeightUpdates(trainer))
    trainer.train()
    return trainer


def warnings(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The log messages of a file of `trainer.checks`."""
    return [record.getMessage() for record in caplog.records if record.name == f"open_r1.trainer.checks.{name}"]
