"""Writes `row_rates.json` of a run with `--row_sampling difficulty`: what is drawn, what was solved, what never is.

`{"step", "rows", "classes": [{"name", "rows", "groups"}], "never_right": [{"where", "groups"}]}`: rows by the
mean of their posterior, the groups sampled of each class since the start, and the rows that were sampled most without
one right completion. `open_r1.report` shows it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.data.jsonl_io import atomic_write
from open_r1.trainer.outputs.throttle import Throttle
from open_r1.trainer.outputs.tolerant_writer import TolerantWriter
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.row_difficulty import SOLVED, RowDifficulty

SECONDS_BETWEEN = 60
MOST_NAMED = 30  # rows that are named
# Classes of seen rows by the mean rate of right answers, each up to its bound.
CLASSES = {"seldom right": 0.25, "sometimes right": 0.75, "often right": SOLVED, "solved": np.inf}


class RowRates(TrainerCallback):
    """Writes the file each minute, and at the last step, before the report that shows it."""

    def __init__(self, trainer: RolloutTrainer):
        self.trainer, self.path = trainer, Path(trainer.args.output_dir) / "row_rates.json"
        self.throttle, self.writer = Throttle(SECONDS_BETWEEN, share=0.01), TolerantWriter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        ends = state.global_step >= state.max_steps or control.should_training_stop
        if not state.is_world_process_zero or not (ends or self.throttle.due()):
            return
        with self.throttle, self.writer(self.path, "it stays as it is"):
            rates = {"step": state.global_step, **self.facts(self.trainer.row_choice.difficulty)}
            with atomic_write(self.path) as file:
                file.write(json.dumps(rates, indent=1).encode())

    def facts(self, difficulty: RowDifficulty) -> dict[str, Any]:
        """The content of the file."""
        records, never = self.trainer.records["train"], difficulty.never_right()
        named = np.flatnonzero(never)[np.argsort(-difficulty.visits[never], kind="stable")][:MOST_NAMED]
        return {
            "rows": len(difficulty.visits),
            "classes": classes_of(difficulty),
            "never_right": [
                {"where": records[row].where, "groups": int(difficulty.visits[row])} for row in named.tolist()
            ],
        }


def classes_of(difficulty: RowDifficulty) -> list[dict[str, Any]]:
    """Name, number of rows and of sampled groups of each class."""
    seen, never = difficulty.visits > 0, difficulty.never_right()
    masks, low = {"not seen": ~seen, "never right": never}, -np.inf
    for name, high in CLASSES.items():
        masks[name] = seen & ~never & (difficulty.rates() >= low) & (difficulty.rates() < high)
        low = high
    return [
        {"name": name, "rows": int(mask.sum()), "groups": int(difficulty.visits[mask].sum())}
        for name, mask in masks.items()
    ]
