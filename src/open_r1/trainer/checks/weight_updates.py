"""Did the weights move? Asked once, after the first optimizer steps that had a gradient and a learning rate.

A parameter that learns nothing costs memory, and no metric shows it. Two causes are told apart: no gradient reached
it (then weight decay may move it, for the worse), or the step was lost in rounding. A parameter may rest in the first
step by rights (a LoRA pair has a gradient on one side only, an expert may get no token), so it is named after `STEPS`
steps; but where nothing at all moved, the run ends after the first.

What is compared are fingerprints, a number for each tensor, of what the optimizer writes: float32 masters under
DeepSpeed, shards under ZeRO and FSDP, the parameters elsewhere.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.errors import RunEnded
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)

STEPS = 2
SLICE = 1 << 20  # elements hashed at once: about 24 MB of temporaries
ODD = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: 2**64 over the golden ratio
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of an element -> its bit pattern
NAMES_SHOWN = 3  # names of a group

NO_GRADIENT = (
    "No gradient reached: {names}. The loss does not depend on them: text rows use no vision tower, a router may "
    "pass an expert by, a module may be detached. Give it rows that use it, or freeze it, which saves memory "
    "(--freeze_vision_modules true for the vision tower)"
)
ROUNDED = (
    "A gradient came, but the weight is what it was: {names}. The step was smaller than the weight's precision: use "
    "--dtype float32 (with --bf16 true for speed), or --deepspeed with --bf16 true, which keeps float32 masters, or a "
    "higher --learning_rate"
)


class WeightUpdates(TrainerCallback):
    """Compares fingerprints around the first `STEPS` optimizer steps with a gradient, then does nothing.

    `trainer` has `grad_norm`, that of its newest step. All ranks see all parameters, in one order, and agree by one
    reduction a step. Raises RunEnded, on all ranks, where a step had a gradient and moved nothing.
    """

    def __init__(self, trainer: RunTrainer):
        self.trainer, self.left, self.before = trainer, STEPS, None

    def on_train_begin(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names, self.parameters = [name for name, _ in named], [p for _, p in named]
        device = self.trainer.accelerator.device
        self.moved, self.reached, self.now = torch.zeros(3, len(named), dtype=torch.bool, device=device)
        deepspeed = self.trainer.is_deepspeed_enabled  # it steps within backward, and gradients are gone afterwards
        self.hooks = [p.register_hook(self._seen(i)) for i, p in enumerate(self.parameters)] if deepspeed else []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if self.left and self.trainer._get_learning_rate() > 0:
            self.before = self._fingerprints()
            self.now.zero_()  # parameters that a gradient reaches in this step

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        for i, parameter in enumerate(self.parameters if self.before is not None else ()):
            if parameter.grad is not None:
                self._seen(i)(parameter.grad)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        before, self.before, norm = self.before, None, self.trainer.grad_norm
        if before is None or norm is None or not (math.isfinite(norm) and norm > 0):
            return
        flags = torch.stack([before != self._fingerprints(), self.now]).float()
        moved, reached = self.trainer.accelerator.reduce(flags, "sum") > 0
        if not moved.any():
            raise RunEnded(no_update_reason(state.global_step + 1, norm, self.trainer._get_learning_rate()))
        self.moved, self.reached, self.left = self.moved | moved, self.reached | reached, self.left - 1
        if self._learned().all() or not self.left:
            self._end()

    def _learned(self) -> torch.Tensor:
        return self.moved & self.reached

    def _end(self) -> None:
        self.left = 0
        for hook in self.hooks:
            hook.remove()
        if not self._learned().all() and self.trainer.is_world_process_zero():
            logger.warning("%s", unmoved_warning(self.names, self.moved.tolist(), self.reached.tolist()))

    def _seen(self, number: int) -> Any:
        def note(gradient: torch.Tensor) -> None:
            self.now[number] |= local_part(gradient).any()

        return note

    def _fingerprints(self) -> torch.Tensor:
        """(parameters,) int64, of what this rank's optimizer writes."""
        device = self.trainer.accelerator.device
        return torch.stack([fingerprint(optimized_part(p)).to(device) for p in self.parameters])


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def optimized_part(parameter: torch.nn.Parameter) -> torch.Tensor:
    """What the optimizer of this rank writes of a parameter; empty where that is nothing."""
    if hasattr(parameter, "ds_id"):  # ZeRO-3
        from deepspeed.utils import safe_get_local_fp32_param

        return safe_get_local_fp32_param(parameter)
    if hasattr(parameter, "_hp_mapping"):  # ZeRO-1 and -2: a stretch of the flat float32 masters
        mapping = parameter._hp_mapping
        return torch.empty(0) if mapping is None else mapping.get_hp_fragment()
    return local_part(parameter.detach())


def fingerprint(tensor: torch.Tensor) -> torch.Tensor:
    """() int64: a hash of all bits of a tensor, in slices, so that nothing of its size is held.

    Each bit pattern counts times an odd number of its place, modulo 2**64. A plain sum would often miss a step: Adam's
    first moves each weight by the learning rate, up or down, and weights of one size then cancel. With the places, a
    change of one element is always seen, and one of several missed with a probability of 2**(k - 63), where 2**k is
    the greatest power of two that divides all changes of bit patterns: 2**-31 at worst for float32.

    >>> a, b = torch.tensor([1.5, 1.5]), torch.tensor([1.75, 1.25])
    >>> bool(fingerprint(a) == fingerprint(b)), bool(fingerprint(a) == fingerprint(a.clone()))
    (False, True)
    """
    bits = tensor.view(BITS[tensor.element_size()]).reshape(-1)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    places = mixing_factors(min(SLICE, len(bits)), tensor.device)
    for part in bits.split(SLICE) if len(bits) else ():
        total = total * ODD + (part.long() * places[: len(part)]).sum()
    return total


def mixing_factors(count: int, device: torch.device) -> torch.Tensor:
    """(count,) odd int64 numbers that look drawn at random, after SplitMix64 (Steele et al. 2014)."""
    z = (torch.arange(count, device=device) + 1) * ODD
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ (z >> shift)) * factor
    return (z ^ (z >> 31)) | 1


def unmoved_warning(names: Sequence[str], moved: Sequence[bool], reached: Sequence[bool]) -> str:
    """The warning about parameters that learn nothing, each with the likely reason."""
    rows = list(zip(names, moved, reached, strict=True))
    resting = {
        NO_GRADIENT: [name for name, _, gradient in rows if not gradient],
        ROUNDED: [name for name, moves, gradient in rows if gradient and not moves],
    }
    count = sum(map(len, resting.values()))
    said = [text.format(names=grouped_names(some)) for text, some in resting.items() if some]
    return f"{count} of {len(rows)} trained parameters learned nothing in {STEPS} steps. {'. '.join(said)}"


def no_update_reason(step: int, norm: float, rate: float) -> str:
    return (
        f"step {step}: got no weight that moved, expected all to, with a gradient norm of {norm:.3g} and a learning "
        f"rate of {rate:.3g}: the step is smaller than the weights' precision; use --dtype float32 (with --bf16 true "
        "for speed), or --deepspeed with --bf16 true, which keeps float32 masters, or a higher --learning_rate"
    )


def grouped_names(names: Iterable[str]) -> str:
    """Names by the module that they share, the first few of each and how many there are.

    >>> grouped_names([*(f"visual.blocks.{i}.norm.weight" for i in range(5)), "lm_head.weight"])
    'visual.blocks (5: 0.norm.weight, 1.norm.weight, 2.norm.weight, ...), lm_head.weight'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        layer = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
        groups.setdefault(".".join(parts[:layer]), []).append(".".join(parts[layer:]))
    return ", ".join(_group(prefix, some) for prefix, some in groups.items())


def _group(prefix: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{prefix}.{names[0]}".lstrip(".")
    shown = ", ".join([*names[:NAMES_SHOWN], *["..."] * (len(names) > NAMES_SHOWN)])
    return f"{prefix} ({len(names)}: {shown})"
