"""Hidden states of models that are their own backbone (Llama 4, Qwen-Omni's thinker), as TRL's fused head reads them.

The fused head calls `model.base_model` and reads `last_hidden_state`. Where that is the whole model, the call ends in
logits instead: then what the head is given is kept, and one token is passed on to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from open_r1.models.model_parts import bare_model
from open_r1.trainer.distributed import networks_of
from open_r1.trainer.forward.router_loss import refuse_impossible_router_loss
from open_r1.trainer.protocols import RunTrainer


@contextmanager
def head_input_kept(model: PreTrainedModel) -> Iterator[None]:
    """Inside this context a call of `model.base_model` has `last_hidden_state`, also where that is the whole model."""
    if model.base_model is not model:
        yield
        return
    kept: list[torch.Tensor] = []

    def keep(head: torch.nn.Module, states: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        kept.append(states[0])
        return (states[0][:, :1],)

    def hand_on(module: torch.nn.Module, args: Any, output: ModelOutput) -> ModelOutput:
        if kept:
            output.last_hidden_state = kept.pop()
        return output

    hooks = [
        model.get_output_embeddings().register_forward_pre_hook(keep),
        model.register_forward_hook(hand_on, prepend=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def complete_fused_heads(trainer: RunTrainer) -> None:
    """Make the fused heads that TRL added to a trainer's models act for every model; GRPO and SFT have them.

    Raises UsageError for a balancing loss that cannot be computed.
    """
    if trainer.aux_loss_enabled:
        refuse_impossible_router_loss(bare_model(trainer.model), trainer.router_aux_loss_coef)
    for model in networks_of(trainer):
        keep_head_input(model)


def keep_head_input(model: PreTrainedModel) -> None:
    """Let a model that has TRL's fused head, and is its own backbone, hand on what its head reads; others stay."""
    if model.base_model is not model:
        return
    forward = model.forward

    @wraps(forward)
    def fused(*args: Any, fused_lm_head: bool = False, **kwargs: Any) -> ModelOutput:
        if not fused_lm_head:
            return forward(*args, **kwargs)
        with head_input_kept(model):
            return forward(*args, fused_lm_head=True, **kwargs)

    model.forward = fused
