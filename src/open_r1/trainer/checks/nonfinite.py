"""Stops a run, or skips the step, for NaN or infinity in loss or gradient, before the weights change.

One such step makes every weight NaN, and transformers logs the mean of earlier losses in its place. So before each
optimizer step all ranks compare the same numbers, the gradient norm and whether any rank's loss was not finite, and
decide alike by `--on_nonfinite`. What skips the step:
  - DeepSpeed steps within backward, before any check; it skips such a step itself and logs it;
  - with --fp16 the loss scaler, as its way to find the scale, so there only many in a row end the run;
  - elsewhere this file: gradients become None, which torch optimizers pass over, moments included.
A skipped step counts as a step: the learning rate goes on as planned (under DeepSpeed it waits).
"""

import logging
import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor

from open_r1.errors import RunEnded, UsageError
from open_r1.trainer.lifecycle.partial_step import step_is_partial

logger = logging.getLogger(__name__)

MAX_IN_A_ROW = 10  # consecutive skipped steps that end a run
MAX_IN_A_ROW_FP16 = 20  # with --fp16, whose scaler halves 65536 until gradients are finite
MAX_ROWS_NAMED = 16


class NotFinite(RunEnded):
    """A loss or gradient that is NaN or infinite."""


class NonfiniteGuard:
    """Mixin, before TRL's class: checks each step; `nonfinite_steps` is in each log, and saved by `run_state`."""

    grad_norm: float | None = None  # of the newest step before clipping; None where the engine computes none
    nonfinite_steps = 0
    nonfinite_in_a_row = 0

    def __init__(self, *args: Any, **kwargs: Any):
        self._losses: list[tuple[torch.Tensor, Any]] = []  # (not finite, rows) of each micro-batch of this step
        super().__init__(*args, **kwargs)
        refuse_unchecked_overflow(self.accelerator)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rows = self.rows_of(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.model.training:
            self._losses.append((~torch.isfinite(loss.detach()), rows))
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient norm; transformers calls it before each optimizer step. Raises NotFinite."""
        norm = super()._get_grad_norm(*args, **kwargs)
        full_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.grad_norm = None if full_norm is None else float(full_norm)
        losses, self._losses = self._losses, []
        bad_loss = torch.stack([bad for bad, _ in losses]).any().float() if losses else torch.zeros(())
        bad_loss = bool(self.accelerator.reduce(bad_loss.to(self.accelerator.device), "sum"))
        if bad_loss or (self.grad_norm is not None and not math.isfinite(self.grad_norm)):
            self._skip_or_stop(losses, bad_loss)
        else:
            self.nonfinite_in_a_row = 0
        return norm

    def _skip_or_stop(self, losses: list[tuple[torch.Tensor, Any]], bad_loss: bool) -> None:
        """Skip the step, or raise NotFinite."""
        self.nonfinite_steps += 1
        self.nonfinite_in_a_row += 1
        limit = MAX_IN_A_ROW if self.args.on_nonfinite == "skip" else 1
        limit = MAX_IN_A_ROW_FP16 if uses_loss_scaler(self.accelerator) and not bad_loss else limit
        if step_is_partial(self) or self.nonfinite_in_a_row >= limit:
            raise NotFinite(self._stop_text(losses, bad_loss))
        if not self.is_deepspeed_enabled:
            self.model_wrapped.zero_grad()
        if self.nonfinite_steps == 1 and self.is_world_process_zero():
            logger.warning("%s; left out, as all such steps are; nonfinite_steps counts them", self._problem(bad_loss))

    def _problem(self, bad_loss: bool) -> str:
        got = "a loss that is not finite" if bad_loss else f"a gradient norm of {self.grad_norm}"
        return f"step {self.state.global_step + 1}: got {got}, expected a number"

    def _stop_text(self, losses: list[tuple[torch.Tensor, Any]], bad_loss: bool) -> str:
        """The error's text, with the rows of the micro-batches at fault on all ranks, or of all micro-batches."""
        suspects = [rows for bad, rows in losses if bad] if bad_loss else [rows for _, rows in losses]
        places = list(dict.fromkeys(gather_object([self.place_of(row) for rows in suspects for row in rows])))
        more = f" and {len(places) - MAX_ROWS_NAMED} more" if len(places) > MAX_ROWS_NAMED else ""
        rows = f" Rows: {', '.join(places[:MAX_ROWS_NAMED])}{more}." if places else ""
        again = f", {self.nonfinite_in_a_row} times in a row" if self.nonfinite_in_a_row > 1 else ""
        state = " The step was taken, so the weights may be of no use." if step_is_partial(self) else ""
        skip = (
            ""
            if self.nonfinite_in_a_row > 1 or step_is_partial(self)
            else "; --on_nonfinite skip leaves such steps out"
        )
        return (
            f"{self._problem(bad_loss)}{again}.{state}{rows} Lower --learning_rate ({self._get_learning_rate():.3g}) "
            f"or --max_grad_norm ({self.args.max_grad_norm:g}), use --bf16 true in place of --fp16 true, look at the "
            f"rows{skip}"
        )

    def rows_of(self, inputs: dict[str, Any]) -> Any:
        """The rows of a micro-batch, from the inputs of `compute_loss`."""
        raise NotImplementedError

    def place_of(self, row: Any) -> str:
        """The place of such a row, as "train.jsonl:17"."""
        raise NotImplementedError

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs["nonfinite_steps"] = self.nonfinite_steps
        super().log(logs, *args, **kwargs)


def uses_loss_scaler(accelerator: Accelerator) -> bool:
    """Whether the loss is scaled for float16, so that gradients overflow until the scale is found."""
    return accelerator.mixed_precision == "fp16"


def refuse_unchecked_overflow(accelerator: Accelerator) -> None:
    """Raises UsageError for a DeepSpeed configuration that takes steps with gradients that are not finite."""
    plugin = accelerator.state.deepspeed_plugin
    if plugin and plugin.deepspeed_config.get("bf16", {}).get("check_grad_overflow") is False:
        raise UsageError(
            "--deepspeed: got bf16.check_grad_overflow false, expected true, the default: DeepSpeed would take steps "
            "with gradients that are not finite, and --on_nonfinite could not act; remove it"
        )
