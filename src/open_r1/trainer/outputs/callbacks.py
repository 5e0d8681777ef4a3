"""Progress bar, `metrics.jsonl`, and the curves and report that are redrawn during a run."""

import gc
import time
from pathlib import Path
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.data.jsonl_io import keep_lines
from open_r1.errors import UsageError
from open_r1.report.curves import draw_curves
from open_r1.report.page import write_report
from open_r1.trainer.outputs.throttle import Throttle
from open_r1.trainer.outputs.tolerant_writer import MetricsFile, TolerantWriter, metrics_line

SECONDS_BETWEEN_DRAWINGS = 60
HISTORY = 1_000  # newest logs, of 2.5 KB each, that stay in memory and in each checkpoint
PROGRESS_METRICS = {
    "reward": "reward",
    "completions/mean_length": "tokens",
    "frac_reward_zero_std": "no signal",
    "kl": "KL",
}


class Progress(ProgressCallback):
    """The progress bar, followed by the newest reward, in place of a printed dictionary a step."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and self.training_bar is not None:
            values = {
                name: f"{logs[key]:.3g}" for key, name in PROGRESS_METRICS.items() if (logs or {}).get(key) is not None
            }
            self.training_bar.set_postfix(values)


class Curves(TrainerCallback):
    """Appends each log to `metrics.jsonl`; redraws curves and `report.html` at the end and each minute, or less
    often, to take at most 2 % of the time. A failed write leaves the run alone (`trainer.outputs.tolerant_writer`).

    A resumed run first drops the lines after its checkpoint, as it will log and sample them again: lines of
    `metrics.jsonl` of later steps, and groups of `rollouts.jsonl` sampled after the checkpoint's step (a group's step
    is the number of optimizer steps before it). `seconds` continues from the last remaining line.
    """

    def __init__(self, output_dir: str):
        self.folder, self.start = Path(output_dir), time.monotonic()
        self.throttle = Throttle(SECONDS_BETWEEN_DRAWINGS, share=0.02)
        self.writer = TolerantWriter()
        self.metrics = MetricsFile(self.folder / "metrics.jsonl", self.writer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not state.global_step:
            return
        try:
            keep_lines(self.folder / "rollouts.jsonl", lambda group: group["step"] < state.global_step)
            last_line = keep_lines(self.metrics.path, lambda line: line["step"] <= state.global_step)
        except OSError as error:
            raise UsageError(
                f"--output_dir {self.folder}: got {error}, expected room to copy metrics.jsonl and rollouts.jsonl; "
                "free space there, then resume again"
            ) from error
        self.start = time.monotonic() - (last_line or {}).get("seconds", 0.0)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        trim_log_history(state)
        if not state.is_world_process_zero:
            return
        seconds = round(time.monotonic() - self.start, 3)
        self.metrics.add(metrics_line(state.global_step, {"seconds": seconds, **(logs or {})}))
        if self.throttle.due():
            self._draw()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._draw()
            self.metrics.close()

    def _draw(self) -> None:
        """Redraw curves and report."""
        curves, page = self.folder / "reward_curve.png", self.folder / "report.html"
        if not self.metrics.path.exists():
            return
        with self.throttle:
            with self.writer(curves, "its curves stay as they are"):
                draw_curves(self.folder)
            with self.writer(page, "its page stays as it is; `python -m open_r1.report` makes it later"):
                write_report([self.folder], page)
            gc.collect()  # a figure refers to itself: its pixels stay until a collection


def trim_log_history(state: TrainerState) -> None:
    """Cut `state.log_history` to the newest `HISTORY` logs and the last evaluation: transformers would keep all, and
    write them into each checkpoint again."""
    old = state.log_history[:-HISTORY]
    evaluations = [entry for entry in old if any(key.startswith("eval_") for key in entry)]
    state.log_history[: len(old)] = evaluations[-1:]
