"""What a person sees while a run goes on: one progress line, `metrics.jsonl`, and curves redrawn as it grows."""

import json
import time
from pathlib import Path
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.report.curves import draw_curves
from open_r1.report.lines import keep_lines
from open_r1.report.page import write_report
from open_r1.trainer.pace import Pace, line_of

SECONDS_BETWEEN_DRAWINGS = 60
SHOWN = {"reward": "reward", "completions/mean_length": "tokens", "frac_reward_zero_std": "no signal", "kl": "KL"}


class Progress(ProgressCallback):
    """The progress bar, with the newest reward behind it instead of a printed dictionary a step."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and self.training_bar is not None:
            shown = {name: f"{logs[key]:.3g}" for key, name in SHOWN.items() if (logs or {}).get(key) is not None}
            self.training_bar.set_postfix(shown)


class Curves(TrainerCallback):
    """Appends each log to `metrics.jsonl`; redraws curves and `report.html` at the end and each minute, or as seldom
    as keeps that at 2 % of the time.

    A resumed run first drops what was logged and sampled after its checkpoint, as it will log and sample that again:
    lines of `metrics.jsonl` of later steps, and groups of `rollouts.jsonl` sampled once the checkpoint's step had been
    made (a group's step is the number of optimizer steps before it). `seconds` goes on from the last line kept.
    """

    def __init__(self, output_dir: str):
        self.folder, self.began = Path(output_dir), time.monotonic()
        self.pace = Pace(SECONDS_BETWEEN_DRAWINGS, share=0.02)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not state.global_step:
            return
        keep_lines(self.folder / "rollouts.jsonl", lambda group: group["step"] < state.global_step)
        kept = keep_lines(self.folder / "metrics.jsonl", lambda line: line["step"] <= state.global_step)
        self.began = time.monotonic() - (kept or {}).get("seconds", 0.0)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        seconds = round(time.monotonic() - self.began, 3)
        line = line_of(state.global_step, {"seconds": seconds, **(logs or {})})
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.pace.due():
            self._draw()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and (self.folder / "metrics.jsonl").exists():
            self._draw()

    def _draw(self) -> None:
        with self.pace:
            draw_curves(self.folder)
            write_report([self.folder], self.folder / "report.html")
