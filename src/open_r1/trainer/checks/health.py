"""A run that watches itself: each finding once as a warning with its evidence, and an end where `--stop_on` asks."""

import logging
import sys
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.data.jsonl_io import each_line
from open_r1.report.diagnoses import Finding, findings
from open_r1.report.history import History
from open_r1.trainer.outputs.throttle import Throttle, metrics_line
from open_r1.trainer.protocols import RolloutTrainer

logger = logging.getLogger(__name__)

STOPPED = 3  # exit status of a run that `--stop_on` ended; torchrun itself then ends with 1


class Health(TrainerCallback):
    """Looks at the metrics after each log; `stopped` is the finding that ended the run.

    Rank 0 alone has the lines of a resumed run, so it decides and tells the others, which must stop at the same step.
    """

    def __init__(self, output_dir: str, stop_on: list[str] | None):
        self.folder, self.stop_on = Path(output_dir), frozenset(stop_on or ())
        self.history = History()
        self.told: set[str] = set()
        self.stopped: Finding | None = None
        self.pace = Throttle(seconds=0, share=0.01)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and state.global_step and (self.folder / "metrics.jsonl").exists():
            for line in each_line(self.folder / "metrics.jsonl"):
                self.history.add(line)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        found = self._news(state.global_step, logs or {}) if state.is_world_process_zero else []
        for finding in found:
            logger.warning("step %d: %s", state.global_step, finding)
        if not self.stop_on or self.stopped or state.global_step >= state.max_steps:
            return
        stops = [finding for finding in found if finding.name in self.stop_on][:1] or [None]
        self.stopped = broadcast_object_list(stops)[0]
        if self.stopped:
            control.should_training_stop = control.should_save = True

    def _news(self, step: int, logs: dict[str, Any]) -> list[Finding]:
        self.history.add(metrics_line(step, logs))
        if not self.pace.due():
            return []
        with self.pace:
            found = [finding for finding in findings(self.history.lines()) if finding.name not in self.told]
        self.told |= {finding.name for finding in found}
        return found


def exit_if_stopped(trainer: RolloutTrainer) -> None:
    """How a task script ends: with the reason and status 3 where `--stop_on` stopped the run.

    Rank 0 alone ends so, after all have saved: torchrun kills the others when one fails.
    """
    finding, step = trainer.health.stopped, trainer.state.global_step
    if finding is None:
        return
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        sys.stderr.write(
            f"--stop_on {finding.name}: the run ended after step {step}: {finding.title}. {finding.evidence}\n"
            f"{finding.remedy}. To go on all the same: --resume_from_checkpoint true, without {finding.name}\n"
        )
        sys.exit(STOPPED)
