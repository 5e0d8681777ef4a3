"""Optimizations: what a run computes once instead of G times, or leaves out; all exact, each behind its flag.

One that would not be exact for a model or a setting is off, and the table before training names the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import DistributedType
from transformers import PreTrainedModel

from open_r1.config.training_arguments import GRPOArguments
from open_r1.models.model_parts import vision_parameters
from open_r1.rollout.prompt_cache import why_no_prefill
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.vision_features import why_no_joining
from open_r1.trainer.distributed import weights_are_sharded
from open_r1.trainer.forward import shared_prefix
from open_r1.trainer.protocols import RolloutTrainer


@dataclass(frozen=True)
class Optimizations:
    """`off`: flag name -> why it is off, or None where it acts."""

    off: dict[str, str | None]

    def __getitem__(self, flag: str) -> bool:
        return self.off[flag] is None

    def lines(self) -> list[str]:
        """Lines for the table before training: what acts, then what is off and why."""
        acting = [flag for flag, reason in self.off.items() if reason is None]
        idle = [f"{flag} off: {reason}" for flag, reason in self.off.items() if reason is not None]
        return [", ".join(acting) or "nothing", *idle]


def optimizations_of(trainer: RolloutTrainer, model: PreTrainedModel) -> Optimizations:
    """The optimizations of this run; `model` is the bare model, without adapters."""
    args = trainer.args
    reasons = {
        "shared_prefix": "the router's balancing loss would count a prompt once, not once a completion"
        if trainer.aux_loss_enabled
        else shared_prefix.why_no_shared_prefix(model),
        "prefill_once": why_no_prefill_here(trainer) or why_no_prefill(model, args.cache_implementation),
        "skip_zero_advantages": why_no_skipping(trainer),
        "reuse_old_logps": shared_prefix.dropout_of(model),
        "reuse_vision_features": why_no_feature_reuse(trainer, model),
    }
    return Optimizations(
        {flag: reason if getattr(args, flag) else f"--{flag} false" for flag, reason in reasons.items()}
    )


def why_no_prefill_here(trainer: RolloutTrainer) -> str | None:
    """Why rollouts of this run cannot share one prefill a prompt, or None."""
    args: GRPOArguments = trainer.args
    if args.use_vllm:
        return "vLLM generates"
    if trainer.is_fsdp_enabled:
        return "FSDP gathers its weights in whole calls of the model only"
    return "continuous batching generates" if args.use_transformers_continuous_batching else None


def why_no_skipping(trainer: RolloutTrainer) -> str | None:
    """Why completions with advantage zero cannot be left out (what else they act on), or None."""
    if trainer.beta:
        return f"--beta {trainer.beta:g} acts on every completion"
    if trainer._entropy_bonus_enabled:
        return "the entropy bonus acts on every completion"
    if trainer.args.perception_coef:
        return f"--perception_coef {trainer.args.perception_coef:g} acts on every completion"
    if trainer.top_entropy_quantile < 1:
        return f"--top_entropy_quantile {trainer.top_entropy_quantile:g} ranks the tokens of all completions"
    return "the router's balancing loss acts on every completion" if trainer.aux_loss_enabled else None


def why_no_feature_reuse(trainer: RolloutTrainer, model: PreTrainedModel) -> str | None:
    """Why image features cannot be reused from pass to pass, or None."""
    if any(p.requires_grad for p in vision_parameters(model)):
        return "the vision tower trains; --freeze_vision_modules true freezes it"
    if weights_are_sharded(trainer):
        return "the engine spreads the vision tower over the ranks"
    return why_no_joining(model.base_model, trainer.processing_class, trainer.fields)


def rows_with_signal(trainer: RolloutTrainer, inputs: dict[str, Any]) -> list[Prompt | None]:
    """The prompts of a micro-batch, None for rows that cannot move the policy."""
    prompts = inputs["prompts"]
    if not (trainer.optimizations["skip_zero_advantages"] and trainer.model.training):
        return prompts
    lengths = inputs["completion_mask"].sum(dim=1).tolist()
    alone = trainer.accelerator.distributed_type == DistributedType.NO
    tokens = [len(prompt.ids) + length for prompt, length in zip(prompts, lengths, strict=True)]
    moving = moves_policy(inputs["advantages"].tolist(), tokens, alone)
    return [prompt if moves else None for prompt, moves in zip(prompts, moving, strict=True)]


def moves_policy(advantages: Sequence[float], lengths: Sequence[int], alone: bool) -> list[bool]:
    """Which rows of a micro-batch move the policy: those whose advantage is not zero.

    Engines of several ranks need a forward pass in each micro-batch, so there the shortest row stays where none moves.

    >>> moves_policy([0.0, 1.5], [9, 9], alone=True), moves_policy([0.0, 0.0], [9, 4], alone=False)
    ([False, True], [False, True])
    """
    moving = [advantage != 0 for advantage in advantages]
    if not any(moving) and not alone:
        moving[min(range(len(lengths)), key=lengths.__getitem__)] = True
    return moving
