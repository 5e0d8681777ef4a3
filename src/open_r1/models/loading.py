"""Load a vision-language model and its processor; the table of families that need anything special.

Any model that `AutoModelForImageTextToText` loads can be trained. A family is listed here when its boxes live in a
known coordinate space, its vision modules have a name, and groups of it were seen to share their prefix exactly
(`tests/trainer/test_forward_families.py`), so that `grpo_rec.py`, `--freeze_vision_modules` and `--shared_prefix` can
act.
"""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from open_r1.config.arguments import GRPOArguments, TaskArguments, VLMConfig, weights_dtype
from open_r1.config.remote_code import code_named
from open_r1.errors import UsageError
from open_r1.models.families import vision_parameters
from open_r1.models.lora import adapter_config, load_adapter, refuse_adapter_flags

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


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
