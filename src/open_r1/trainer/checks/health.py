"""Diagnoses a run from its metrics: warns once of each finding, and ends the run for those in `--stop_on`."""

import logging
import sys
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.data.jsonl_io import each_line
from open_r1.errors import last_words
from open_r1.report.diagnoses import Finding, findings
from open_r1.report.history import History
from open_r1.report.metric_windows import WINDOW
from open_r1.trainer.outputs.throttle import Throttle
from open_r1.trainer.outputs.tolerant_writer import metrics_line
from open_r1.trainer.protocols import RolloutTrainer

logger = logging.getLogger(__name__)

STOPPED = 3  # exit status of a run that `--stop_on` ended; torchrun itself then ends with 1


class Health(TrainerCallback):
    """Diagnoses the metrics after each log; `stop_finding` is the finding that ended the run.

    The first `WINDOW` logs are all looked at, since early findings are about them alone; later ones within a share of
    the run's time.
    Rank 0 alone has the lines of a resumed run, so it decides and broadcasts, as all ranks must stop at the same step.
    """

    def __init__(self, output_dir: str, stop_on: list[str] | None):
        self.folder, self.stop_on = Path(output_dir), frozenset(stop_on or ())
        self.history = History()
        self.seen: set[tuple[str, bool]] = set()  # (name, is_early) of the findings so far
        self.stop_finding: Finding | None = None
        self.throttle = Throttle(seconds=0, share=0.01)

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
        news = self._new_findings(state.global_step, logs or {}) if state.is_world_process_zero else []
        for finding in news:
            if finding.is_early or (finding.name, True) not in self.seen:  # else it was said before
                logger.warning("step %d: %s", state.global_step, finding)
        if not self.stop_on or self.stop_finding or state.global_step >= state.max_steps:
            return
        ends = [finding for finding in news if finding.name in self.stop_on and not finding.is_early]
        self.stop_finding = broadcast_object_list(ends[:1] or [None])[0]
        if self.stop_finding:
            control.should_training_stop = control.should_save = True

    def _new_findings(self, step: int, logs: dict[str, Any]) -> list[Finding]:
        """Add a log to the history; the findings that it shows for the first time."""
        self.history.add(metrics_line(step, logs))
        if len(self.history.by_step) > WINDOW and not self.throttle.due():
            return []
        with self.throttle:
            now = {(finding.name, finding.is_early): finding for finding in findings(self.history.lines())}
        news = [finding for key, finding in now.items() if key not in self.seen]
        self.seen |= set(now)
        return news


def exit_if_stopped(trainer: RolloutTrainer) -> None:
    """End the process with the reason and status 3 if `--stop_on` stopped the run.

    Rank 0 alone does so, after all have saved: torchrun kills the others when one fails.
    """
    finding, step = trainer.health.stop_finding, trainer.state.global_step
    if finding is None:
        return
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        reason = (
            f"--stop_on {finding.name}: the run ended after step {step}: {finding.title}. {finding.evidence}\n"
            f"{finding.remedy}. To go on all the same: --resume_from_checkpoint true, without {finding.name}\n"
        )
        sys.stderr.write(last_words(reason))
        sys.exit(STOPPED)
