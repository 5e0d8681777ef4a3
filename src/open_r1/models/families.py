"""The table of model families: box coordinates and the names of vision modules, by `config.model_type`.

Any model that `AutoModelForImageTextToText` loads can be trained; `grpo_rec.py`, `--freeze_vision_modules`,
`--shared_prefix` and `open_r1.plan` need a family's line here.
To add a family: add its line, and a tiny model and its images to `FAMILIES` and `IMAGES` of tests/helpers/families.py;
`tests/trainer/test_forward_families.py` then proves that its groups share their prefix exactly.
"""

from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError


@dataclass(frozen=True)
class Family:
    """One line of the table.

    `coordinates`: the space of its boxes, a key of `data.geometry.coordinates.COORDINATES`.
    `vision`: parts of the names of the parameters of the vision tower and the projector.
    `images_see_themselves`: tokens of one image attend to each other in both directions.
    """

    coordinates: str
    vision: tuple[str, ...]
    images_see_themselves: bool = False


FAMILIES: dict[str, Family] = {
    # model_type: coordinates, vision
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
    """The model's line of `FAMILIES`, by its configuration's `model_type`. Raises UsageError for other models."""
    if missing := no_family(model):
        raise UsageError(f"{missing}; known: {', '.join(FAMILIES)}")
    return FAMILIES[model.config.model_type]


def no_family(model: PreTrainedModel) -> str | None:
    """A message that the model has no line in `FAMILIES`; None where it has one."""
    kind = model.config.model_type
    return None if kind in FAMILIES else f"model_type {kind!r} has no entry in open_r1.models.families.FAMILIES"


def vision_parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Parameters of the vision tower and the projector. Raises UsageError for an unknown family."""
    parts = family_of(model).vision
    return [p for name, p in model.named_parameters() if any(part in name for part in parts)]


def vision_parts(model: PreTrainedModel) -> tuple[str, ...]:
    """`Family.vision` of the model; () for an unknown family."""
    return () if no_family(model) else family_of(model).vision


def bare_model(model: torch.nn.Module) -> PreTrainedModel:
    """The model inside its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def end_tokens(eos_token_id: int | list[int] | None, processor: ProcessorMixin) -> list[int]:
    """The tokens that end a completion: the tokenizer's, then `eos_token_id` of a generation configuration."""
    eos_token_ids = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
    return list(dict.fromkeys([processor.tokenizer.eos_token_id, *eos_token_ids]))


def image_token_ids(config: PreTrainedConfig, processor: ProcessorMixin) -> list[int]:
    """Tokens that stand for an image or frame one, banned in completions. `config` is the model's."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {getattr(config, name, None) for name in names} | {getattr(processor, "image_token_id", None)}
    return sorted(ids - {None})
