"""Whether the balancing loss of a mixture of experts can be computed, as TRL computes it."""

from inspect import signature
from typing import get_args

from transformers import PreTrainedModel

from open_r1.errors import UsageError


def refuse_impossible_router_loss(model: PreTrainedModel, coefficient: float) -> None:
    """Raises UsageError where a balancing loss is asked for, by flag or by configuration, that TRL cannot compute."""
    if reason := why_no_router_loss(model):
        raise UsageError(
            f"--router_aux_loss_coef: got {coefficient:g}, by the model's configuration where the flag is not given: "
            f"the balancing loss cannot be computed, as {reason}; add --router_aux_loss_coef 0"
        )


def refuse_parts_of_router_loss(coefficient: float, budget: int | None) -> None:
    """Raises UsageError for a balancing loss, which is that of a whole micro-batch, beside `--tokens_per_forward`."""
    if budget:
        raise UsageError(
            f"--tokens_per_forward: got {budget}, but the router's balancing loss ({coefficient:g}) is one of a whole "
            "micro-batch and not of its parts; add --router_aux_loss_coef 0, or remove --tokens_per_forward"
        )


def why_no_router_loss(model: PreTrainedModel) -> str | None:
    """What the balancing loss needs and this model lacks, or None."""
    text, backbone = model.config.get_text_config(), type(model.base_model)
    for name in ("num_experts", "num_experts_per_tok"):
        if not hasattr(text, name):
            return f"{type(text).__name__} has no {name}"
    returned = signature(backbone.forward).return_annotation
    kinds = get_args(returned) or (returned,)
    if not any("router_logits" in getattr(kind, "__dataclass_fields__", {}) for kind in kinds):
        return f"{backbone.__name__} returns no router_logits"
    return None
