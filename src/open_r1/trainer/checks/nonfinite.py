"""NaN or infinity in loss or gradient: the run stops before the weights are touched, or leaves the step out.

One such step makes every weight NaN, and transformers logs the mean of earlier losses in its place. So before each
optimizer step all ranks look at the same numbers, the gradient norm and whether any rank's loss was not finite, and
decide alike by `--on_nonfinite`. Who leaves the step out:
  - elsewhere we do: gradients become None, which torch optimizers pass over, moments included;
  - DeepSpeed steps within backward, before anybody can look. It leaves such a step out itself and says so;
  - with --fp16 the loss scaler does, as its way to find the scale, so there only many in a row are an end.
A step left out counts as a step: the learning rate goes on as planned (under DeepSpeed it waits).
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

IN_A_ROW = 10  # steps left out, one after the other, that end a run
SCALER_IN_A_ROW = 20  # with --fp16, whose scaler halves 65536 until gradients are finite
ROWS_NAMED = 16  # rows named


class NotFinite(RunEnded):
    """A loss or gradient that is NaN or infinite."""


class NonfiniteGuard:
    """Mixed into a trainer, before TRL's class: `nonfinite_steps` is in each log, and saved by `run_state`."""

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
        """Called by transformers before each optimizer step, with all gradients there. Raises NotFinite."""
        norm = super()._get_grad_norm(*args, **kwargs)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.grad_norm = None if whole is None else float(whole)
        losses, self._losses = self._losses, []
        bad_loss = torch.stack([bad for bad, _ in losses]).any().float() if losses else torch.zeros(())
        bad_loss = bool(self.accelerator.reduce(bad_loss.to(self.accelerator.device), "sum"))
        if bad_loss or (self.grad_norm is not None and not math.isfinite(self.grad_norm)):
            self._meet(losses, bad_loss)
        else:
            self.nonfinite_in_a_row = 0
        return norm

    def _meet(self, losses: list[tuple[torch.Tensor, Any]], bad_loss: bool) -> None:
        """Leave the step out, or end the run."""
        self.nonfinite_steps += 1
        self.nonfinite_in_a_row += 1
        limit = IN_A_ROW if self.args.on_nonfinite == "skip" else 1
        limit = SCALER_IN_A_ROW if uses_loss_scaler(self.accelerator) and not bad_loss else limit
        if step_is_partial(self) or self.nonfinite_in_a_row >= limit:
            raise NotFinite(self._ending(losses, bad_loss))
        if not self.is_deepspeed_enabled:
            self.model_wrapped.zero_grad()
        if self.nonfinite_steps == 1 and self.is_world_process_zero():
            logger.warning("%s; left out, as all such steps are; nonfinite_steps counts them", self._found(bad_loss))

    def _found(self, bad_loss: bool) -> str:
        what = "a loss that is not finite" if bad_loss else f"a gradient norm of {self.grad_norm}"
        return f"step {self.state.global_step + 1}: got {what}, expected a number"

    def _ending(self, losses: list[tuple[torch.Tensor, Any]], bad_loss: bool) -> str:
        blamed = [rows for bad, rows in losses if bad] if bad_loss else [rows for _, rows in losses]
        places = list(dict.fromkeys(gather_object([self.where(row) for rows in blamed for row in rows])))
        rest = f" and {len(places) - ROWS_NAMED} more" if len(places) > ROWS_NAMED else ""
        named = f" Rows: {', '.join(places[:ROWS_NAMED])}{rest}." if places else ""
        again = f", {self.nonfinite_in_a_row} times in a row" if self.nonfinite_in_a_row > 1 else ""
        state = " The step was taken, so the weights may be of no use." if step_is_partial(self) else ""
        skip = (
            ""
            if self.nonfinite_in_a_row > 1 or step_is_partial(self)
            else "; --on_nonfinite skip leaves such steps out"
        )
        return (
            f"{self._found(bad_loss)}{again}.{state}{named} Lower --learning_rate ({self._get_learning_rate():.3g}) "
            f"or --max_grad_norm ({self.args.max_grad_norm:g}), use --bf16 true in place of --fp16 true, look at the "
            f"rows{skip}"
        )

    def rows_of(self, inputs: dict[str, Any]) -> Any:
        """The rows of a micro-batch, out of what `compute_loss` is given."""
        raise NotImplementedError

    def where(self, row: Any) -> str:
        """The place of one of them, such as "train.jsonl:17"."""
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
