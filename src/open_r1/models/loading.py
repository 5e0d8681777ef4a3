"""Load a vision-language model and its processor; the table of families that need anything special.

Any model that `AutoModelForImageTextToText` loads can be trained. A family is listed here when its boxes live in a
known coordinate space, its vision modules have a name, and groups of it were seen to share their prefix exactly
(`tests/trainer/test_forward_families.py`), so that `grpo_rec.py`, `--freeze_vision_modules` and `--shared_prefix` can
act.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from open_r1.config.arguments import GRPOArguments, TaskArguments, VLMConfig, weights_dtype
from open_r1.config.remote_code import code_named
from open_r1.errors import UsageError
from open_r1.models.lora import adapter_config, load_adapter, refuse_adapter_flags


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


PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def family_of(model: PreTrainedModel) -> Family:
    """The model's entry in `FAMILIES`, by its configuration, never by its path. Raises UsageError for others."""
    if missing := no_family(model):
        raise UsageError(f"{missing}; known: {', '.join(FAMILIES)}")
    return FAMILIES[model.config.model_type]


def no_family(model: PreTrainedModel) -> str | None:
    """That the model is of no known family, in words; None where it is."""
    kind = model.config.model_type
    return None if kind in FAMILIES else f"model_type {kind!r} has no entry in open_r1.models.families.FAMILIES"


def load_model(model_args: VLMConfig, training: GRPOArguments) -> PreTrainedModel | PeftModel:
    """The policy, in `weights_dtype`, with sdpa attention unless told otherwise; an adapter around its base model."""
    kwargs: dict[str, Any] = {
        "dtype": weights_dtype(model_args, training),
        "attn_implementation": model_args.attn_implementation or "sdpa",
        "trust_remote_code": training.trust_remote_code,
        **(training.model_init_kwargs or {}),
    }
    training.model_init_kwargs = None  # acted on here; the trainer's reference model copies dtype and attention
    name, revision = model_args.model_name_or_path, model_args.model_revision
    with code_named(name):
        if adapter_config(name, revision) is None:
            return AutoModelForImageTextToText.from_pretrained(name, revision=revision, **kwargs)
        refuse_adapter_flags(model_args)
        return load_adapter(name, trained=True, **kwargs)


def load_processor(model_args: VLMConfig, task: TaskArguments, trust_remote_code: bool = False) -> ProcessorMixin:
    """The processor with this run's pixel limits. It pads left: right padding would shift positions in generation.

    Raises UsageError where a pixel flag cannot act on this processor, the checkpoint has no chat template, or it
    brings code that nobody asked to run.
    """
    name, revision = processor_source(model_args.model_name_or_path, model_args.model_revision)
    with code_named(name):
        processor = AutoProcessor.from_pretrained(
            name,
            revision=revision,
            padding_side="left",
            trust_remote_code=trust_remote_code,
        )
    if not isinstance(processor, ProcessorMixin):
        raise UsageError(f"{model_args.model_name_or_path}: got a text model, expected one with an image processor")
    processor.tokenizer.padding_side = "left"
    if processor.chat_template is None and processor.tokenizer.chat_template is None:
        raise UsageError(
            f"{model_args.model_name_or_path}: no chat template; choose the instruct variant of the model"
        )
    set_pixel_limits(processor, task.min_pixels, task.max_pixels)
    if task.max_anyres_num is not None:
        set_tiles(processor, task.max_anyres_num)
    return processor


def processor_source(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """(name, revision) of what the processor is loaded from: for an adapter without one of its own, the base model."""
    config = adapter_config(name, revision)
    if config is None or any((Path(name) / file).is_file() for file in PROCESSOR_FILES):
        return name, revision
    return config["base_model_name_or_path"], config.get("revision")


def set_pixel_limits(processor: ProcessorMixin, min_pixels: int | None, max_pixels: int | None) -> None:
    """Smallest and largest image area after resizing (Qwen-VL's image processors hold areas in `size`)."""
    if min_pixels is None and max_pixels is None:
        return
    images = processor.image_processor
    if not hasattr(images, "merge_size"):
        raise UsageError(
            f"--max_pixels, --min_pixels: {type(images).__name__} does not resize by area; remove them"
            + (", or use --max_anyres_num" if hasattr(images, "max_patches") else "")
        )
    low, high = pixel_limits(processor)
    images.size = {"shortest_edge": min_pixels or low, "longest_edge": max_pixels or high}


def pixel_limits(processor: ProcessorMixin) -> tuple[int, int]:
    """(min_pixels, max_pixels) of a processor that resizes by area; (0, 0) for one that does not.

    (0, 0) is never read: only the `resized` coordinate space needs limits, and its families all resize by area.
    """
    images = processor.image_processor
    if not hasattr(images, "merge_size"):
        return 0, 0
    return int(images.size["shortest_edge"]), int(images.size["longest_edge"])


def set_tiles(processor: ProcessorMixin, tiles: int) -> None:
    if not hasattr(processor.image_processor, "max_patches"):
        raise UsageError(f"--max_anyres_num: {type(processor.image_processor).__name__} does not cut tiles; remove it")
    processor.image_processor.max_patches = tiles


def freeze_vision(model: PreTrainedModel) -> int:
    """Stop training the vision tower and projector; returns how many parameters that were."""
    frozen = vision_parameters(model)
    if isinstance(model, PeftModel) and any(p.requires_grad for p in frozen):
        raise UsageError(
            "--freeze_vision_modules: got true, but the adapter has layers in the vision modules; remove it"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in frozen)


def vision_parameters(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Of the vision tower and the projector. Raises UsageError for an unknown family."""
    parts = family_of(model).vision
    return [p for name, p in model.named_parameters() if any(part in name for part in parts)]


def vision_parts(model: PreTrainedModel) -> tuple[str, ...]:
    """Parts of vision parameters' names; () for a model of no known family."""
    return () if no_family(model) else family_of(model).vision


def bare(model: torch.nn.Module) -> PreTrainedModel:
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
