"""Checks once that the optimizer changed the weights, after the first steps with a gradient and a learning rate.

A parameter that learns nothing costs memory, and no metric shows it. Two causes are distinguished: no gradient reached
it (weight decay may still move it, for the worse), or the step was lost in rounding. A parameter may rightly stay the
same in the first step (a LoRA pair has a gradient on one side only, an expert may get no token), so the warning comes
after `STEPS` steps; but where no parameter at all changed, the run ends after the first.

Fingerprints are compared, one number a tensor, of what the optimizer writes: float32 masters under DeepSpeed, shards
under ZeRO and FSDP, the parameters elsewhere.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from open_r1.errors import RunEnded
from open_r1.models.model_parts import bare_model, vision_parts
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)

STEPS = 2
SLICE = 1 << 20  # elements hashed at once: about 24 MB of temporaries
ODD = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: 2**64 over the golden ratio
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of an element -> its bit pattern
MAX_NAMES = 3  # of a group in the warning

NO_GRADIENT = (
    "No gradient reached: {names}. The loss does not depend on them: parts that the data never reaches learn nothing "
    "(a vision tower on text rows, a video or audio tower on pictures, layers behind the feature layer that is read, "
    "an expert without tokens), nor do those that take no gradient by design (a router's correction bias)"
)
FREEZE = "; no row of these steps reached the vision tower: --freeze_vision_modules true saves its memory"
ROUNDED = (
    "A gradient came, but the weight is what it was: {names}. The step was smaller than the weight's precision: use "
    "--dtype float32 (with --bf16 true for speed), or --deepspeed with --bf16 true, which keeps float32 masters, or a "
    "higher --learning_rate"
)


class WeightUpdates(TrainerCallback):
    """Compares fingerprints around the first `STEPS` optimizer steps with a gradient, then does nothing.

    `trainer.grad_norm` is that of its newest step. All ranks have all parameters, in one order, and agree by one
    reduction a step. Raises RunEnded, on all ranks, after a step that had a gradient and changed no weight.
    """

    def __init__(self, trainer: RunTrainer):
        self.trainer, self.steps_left, self.fingerprints = trainer, STEPS, None

    def on_train_begin(self, *args: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        pairs = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names, self.parameters = [name for name, _ in pairs], [p for _, p in pairs]
        device = self.trainer.accelerator.device
        flags = torch.zeros(3, len(pairs), dtype=torch.bool, device=device)
        self.changed, self.had_gradient, self.has_gradient = flags
        deepspeed = self.trainer.is_deepspeed_enabled  # it steps within backward, and gradients are gone afterwards
        hooked = self.parameters if deepspeed else []
        self.hooks = [p.register_hook(self._gradient_hook(i)) for i, p in enumerate(hooked)]

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if self.steps_left and self.trainer._get_learning_rate() > 0:
            self.fingerprints = self._compute_fingerprints()
            self.has_gradient.zero_()  # in this step

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        for i, parameter in enumerate(self.parameters if self.fingerprints is not None else ()):
            if parameter.grad is not None:
                self._gradient_hook(i)(parameter.grad)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        earlier, self.fingerprints, norm = self.fingerprints, None, self.trainer.grad_norm
        if earlier is None or norm is None or not (math.isfinite(norm) and norm > 0):
            return
        flags = torch.stack([earlier != self._compute_fingerprints(), self.has_gradient]).float()
        changed, had_gradient = self.trainer.accelerator.reduce(flags, "sum") > 0
        if not changed.any():
            raise RunEnded(no_update_reason(state.global_step + 1, norm, self.trainer._get_learning_rate()))
        self.changed, self.had_gradient = self.changed | changed, self.had_gradient | had_gradient
        self.steps_left -= 1
        if self._learned().all() or not self.steps_left:
            self._finish()

    def _learned(self) -> torch.Tensor:
        """(parameters,) bool: those that had a gradient and changed."""
        return self.changed & self.had_gradient

    def _finish(self) -> None:
        """Remove the hooks, and warn of parameters that learned nothing."""
        self.steps_left = 0
        for hook in self.hooks:
            hook.remove()
        if not self._learned().all() and self.trainer.is_world_process_zero():
            had_gradient = self.had_gradient.tolist()
            idle = vision_is_idle(bare_model(self.trainer.model), self.names, had_gradient)
            logger.warning("%s", unmoved_warning(self.names, self.changed.tolist(), had_gradient, idle))

    def _gradient_hook(self, number: int) -> Any:
        """A hook that records whether a parameter's gradient is other than zero."""

        def record(gradient: torch.Tensor) -> None:
            self.has_gradient[number] |= local_part(gradient).any()

        return record

    def _compute_fingerprints(self) -> torch.Tensor:
        """(parameters,) int64, of what this rank's optimizer writes."""
        device = self.trainer.accelerator.device
        return torch.stack([fingerprint(optimized_part(p)).to(device) for p in self.parameters])


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a DTensor; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def optimized_part(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The part of a parameter that this rank's optimizer writes; empty where it writes none."""
    if hasattr(parameter, "ds_id"):  # ZeRO-3
        from deepspeed.utils import safe_get_local_fp32_param

        return safe_get_local_fp32_param(parameter)
    if hasattr(parameter, "_hp_mapping"):  # ZeRO-1 and -2: a stretch of the flat float32 masters
        mapping = parameter._hp_mapping
        return torch.empty(0) if mapping is None else mapping.get_hp_fragment()
    return local_part(parameter.detach())


def fingerprint(tensor: torch.Tensor) -> torch.Tensor:
    """() int64: a hash of all bits of a tensor, in slices, so that no temporary has its size.

    Each bit pattern counts times an odd number of its place, modulo 2**64. A plain sum would often miss a step: Adam's
    first moves each weight by the learning rate, up or down, and weights of one size then cancel. With the places, a
    change of one element is always seen, and one of several missed with a probability of 2**(k - 63), where 2**k is
    the greatest power of two that divides all changes of bit patterns: 2**-31 at worst for float32. (torch.hash_tensor
    gave equal hashes for different weights.)

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
    """(count,) odd pseudo-random int64 numbers, after SplitMix64 (Steele et al. 2014)."""
    z = (torch.arange(count, device=device) + 1) * ODD
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ (z >> shift)) * factor
    return (z ^ (z >> 31)) | 1


def vision_is_idle(model: torch.nn.Module, names: Sequence[str], had_gradient: Sequence[bool]) -> bool:
    """Whether the vision tower and the projector train and no gradient reached any of them."""
    parts = vision_parts(model) if isinstance(model, PreTrainedModel) else ()
    vision = [reached for name, reached in zip(names, had_gradient, strict=True) if any(p in name for p in parts)]
    return bool(vision) and not any(vision)


def unmoved_warning(
    names: Sequence[str], changed: Sequence[bool], had_gradient: Sequence[bool], vision_idle: bool = False
) -> str:
    """The warning about parameters that learn nothing, each with the likely reason."""
    rows = list(zip(names, changed, had_gradient, strict=True))
    unreached = [name for name, _, gradient in rows if not gradient]
    rounded = [name for name, change, gradient in rows if gradient and not change]
    reasons = []
    if unreached:
        modules = whole_modules(unreached, [name for name, _, gradient in rows if gradient])
        reasons.append(NO_GRADIENT.format(names=grouped_names(modules)) + FREEZE * vision_idle)
    if rounded:
        reasons.append(ROUNDED.format(names=grouped_names(rounded)))
    count = len(unreached) + len(rounded)
    return f"{count} of {len(rows)} trained parameters learned nothing in {STEPS} steps. {'. '.join(reasons)}"


def whole_modules(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """`names` of parameters, where all of a module are among them by the module's name, of the largest such module.

    >>> whole_modules(["m.video.0.weight", "m.video.0.bias", "m.norm.weight"], ["m.head.weight"])
    ['m.video', 'm.norm.weight']
    """
    mixed = {part for name in others for part in outer_modules(name)}
    largest = [next((part for part in outer_modules(name) if part not in mixed), name) for name in names]
    sizes = Counter(largest)
    return list(dict.fromkeys(m if sizes[m] > 1 else name for m, name in zip(largest, names, strict=True)))


def outer_modules(name: str) -> list[str]:
    """The modules around a parameter, the outermost first: "a.b.weight" -> "a", "a.b"."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def no_update_reason(step: int, norm: float, rate: float) -> str:
    """The error's text for a step that changed no weight."""
    return (
        f"step {step}: got no weight that moved, expected all to, with a gradient norm of {norm:.3g} and a learning "
        f"rate of {rate:.3g}: the step is smaller than the weights' precision; use --dtype float32 (with --bf16 true "
        "for speed), or --deepspeed with --bf16 true, which keeps float32 masters, or a higher --learning_rate"
    )


def grouped_names(names: Iterable[str]) -> str:
    """Names grouped by the module that they share, with the first few of each and their number.

    >>> grouped_names([*(f"visual.blocks.{i}.norm.weight" for i in range(5)), "lm_head.weight"])
    'visual.blocks (5: 0.norm.weight, 1.norm.weight, 2.norm.weight, ...), lm_head.weight'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        layer = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
        groups.setdefault(".".join(parts[:layer]), []).append(".".join(parts[layer:]))
    return ", ".join(_group(prefix, members) for prefix, members in groups.items())


def _group(prefix: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{prefix}.{names[0]}".lstrip(".")
    first = ", ".join([*names[:MAX_NAMES], *["..."] * (len(names) > MAX_NAMES)])
    return f"{prefix} ({len(names)}: {first})"
