"""The table of model families: all that must be known of one to train it."""

from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError


@dataclass(frozen=True)
class Family:
    """What the trainer must know of a family, all of it; none needs code of its own.

    `coordinates` names an entry of `data.geometry.coordinates.COORDINATES`; `vision` are parts of vision parameters'
    names;
    `images_see_themselves`: the tokens of an image attend to each other in both directions.
    """

    coordinates: str
    vision: tuple[str, ...]
    images_see_themselves: bool = False


# by `config.model_type`
FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family("qwen2_vl", ("visual.",)),
    "qwen2_5_vl": Family("qwen2_5_vl", ("visual.",)),
    "qwen3_vl": Family("qwen3_vl", ("visual.",)),
    "qwen3_vl_moe": Family("qwen3_vl", ("visual.",)),
    "internvl": Family("internvl", ("vision_tower.", "multi_modal_projector.")),
    "llava_onevision": Family("original", ("vision_tower.", "multi_modal_projector.", "image_newline")),
    "smolvlm": Family("original", ("vision_model.", "connector.")),
    "idefics3": Family("original", ("vision_model.", "connector.")),
    "gemma3": Family("original", ("vision_tower.", "multi_modal_projector."), images_see_themselves=True),
    "aria": Family("original", ("vision_tower.", "multi_modal_projector.")),
}


def family_of(model: PreTrainedModel) -> Family:
    """The model's entry in `FAMILIES`, by its configuration, never by its path. Raises UsageError for others."""
    if missing := no_family(model):
        raise UsageError(f"{missing}; known: {', '.join(FAMILIES)}")
    return FAMILIES[model.config.model_type]


def no_family(model: PreTrainedModel) -> str | None:
    """That the model is of no known family, in words; None where it is."""
    kind = model.config.model_type
    return None if kind in FAMILIES else f"model_type {kind!r} has no entry in open_r1.models.families.FAMILIES"


def vision_parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Of the vision tower and the projector. Raises UsageError for an unknown family."""
    parts = family_of(model).vision
    return [p for name, p in model.named_parameters() if any(part in name for part in parts)]


def vision_parts(model: PreTrainedModel) -> tuple[str, ...]:
    """Parts of vision parameters' names; () for a model of no known family."""
    return () if no_family(model) else family_of(model).vision


def bare_model(model: torch.nn.Module) -> PreTrainedModel:
    """The model inside its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def end_tokens(declared: int | list[int] | None, processor: ProcessorMixin) -> list[int]:
    """The tokens that end a completion: the tokenizer's, then those that a generation configuration declares."""
    several = [declared] if isinstance(declared, int) else list(declared or [])
    return list(dict.fromkeys([processor.tokenizer.eos_token_id, *several]))


def image_token_ids(config: PreTrainedConfig, processor: ProcessorMixin) -> list[int]:
    """Tokens that stand for images or frame them; a completion must never contain one. `config` is the model's."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {getattr(config, name, None) for name in names} | {getattr(processor, "image_token_id", None)}
    return sorted(ids - {None})
