"""Load the policy and its processor with this run's pixel limits; freeze the vision tower."""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.config.model_arguments import VLMConfig, weights_dtype
from open_r1.config.remote_code import remote_code_errors
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.video_flags import frame_sampling
from open_r1.data.prompt_tokens import area_limits
from open_r1.data.video.types import FrameSampling
from open_r1.errors import UsageError
from open_r1.models.configuration import RUN_CODE, read_config, refuse_other_sizes
from open_r1.models.lora import adapter_config, load_adapter, refuse_adapter_flags
from open_r1.models.model_parts import vision_parameters
from open_r1.models.plain import load_plain
from open_r1.models.processor_check import (
    made_processor,
    reads_text_alone,
    refuse_broken_processor,
    refuse_settings_of_images,
)
from open_r1.models.quantization import four_bit_of, tell_other_base

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load_model(model_args: VLMConfig, training: GRPOArguments) -> PreTrainedModel | PeftModel:
    """The policy in `weights_dtype`, sdpa attention by default; for an adapter, the adapter around its base model.

    Raises UsageError as `load_pretrained` does, and for the flags of a new adapter beside one to train.
    """
    kwargs: dict[str, Any] = {
        "dtype": weights_dtype(model_args, training),
        "attn_implementation": model_args.attn_implementation or "sdpa",
        "trust_remote_code": training.trust_remote_code,
        **(training.model_init_kwargs or {}),
    }
    training.model_init_kwargs = None  # used above; the trainer's reference model copies dtype and attention
    name, revision = model_args.model_name_or_path, model_args.model_revision
    four_bit = four_bit_of(model_args)
    if adapter_config(name, revision) is not None:
        refuse_adapter_flags(model_args)
        tell_other_base(name, four_bit)
    return load_pretrained(name, revision, trained=True, four_bit=four_bit, **kwargs)


def load_pretrained(
    name: str, revision: str | None = None, trained: bool = False, **options: Any
) -> PreTrainedModel | PeftModel:
    """A model, or an adapter around its base model, for every purpose; `options` go to `load_plain`.

    Raises UsageError, before a weight is kept, for a configuration or weights that are not whole (`weights`), for a
    generation configuration of no use, and for code that the model brings, unless `trust_remote_code` is set.
    """
    if adapter_config(name, revision) is not None:
        return load_adapter(name, trained=trained, **options)
    return load_plain(name, revision, **options)


def load_processor(model_args: VLMConfig, task: TaskArguments, trust_remote_code: bool = False) -> ProcessorMixin:
    """The processor with this run's pixel limits; it pads on the left, as generation needs.

    Raises UsageError where a pixel flag cannot act on this processor, and for a checkpoint without chat template or
    with code of its own while `trust_remote_code` is false.
    """
    processor = read_processor(model_args.model_name_or_path, model_args.model_revision, trust_remote_code)
    set_pixel_limits(processor, task.min_pixels, task.max_pixels)
    set_frame_limits(processor, frame_sampling(task))
    if task.max_anyres_num is not None:
        set_tiles(processor, task.max_anyres_num)
    return processor


def read_processor(
    name: str, revision: str | None = None, trust_remote_code: bool = False, remedy: str = RUN_CODE
) -> ProcessorMixin:
    """The processor of a model or adapter, tried on conversations with and without pictures; it pads on the left.

    `remedy` is for a model that brings code of its own. Raises UsageError for one without chat template, and for
    settings or a template with which nothing can be made.
    """
    source, revision = processor_source(name, revision)
    config = None if adapter_config(source, revision) else read_config(source, revision, trust_remote_code, remedy)
    with remote_code_errors(source, remedy):
        processor = made_processor(source, revision, trust_remote_code, config)
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "image_processor"):
        raise reads_text_alone(name, "text model" if config is None else config.model_type)
    processor.tokenizer.padding_side = "left"
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    if not processor.chat_template:
        raise UsageError(
            f"{name}: no chat template; choose an instruct variant of the model; where it has none, write a "
            "chat_template.jinja into its folder, that has for each image what the processor replaces; "
            "or choose another model"
        )
    refuse_settings_of_images(processor, source)
    if config is not None:
        refuse_other_sizes(config, processor, source)
    refuse_broken_processor(processor, source)
    return processor


def processor_source(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """(name, revision) to load the processor from: the base model for an adapter that has no processor files."""
    config = adapter_config(name, revision)
    if config is None or any((Path(name) / file).is_file() for file in PROCESSOR_FILES):
        return name, revision
    return config["base_model_name_or_path"], config.get("revision")


def set_pixel_limits(processor: ProcessorMixin, min_pixels: int | None, max_pixels: int | None) -> None:
    """Set the smallest and largest image area after resizing (Qwen-VL's image processors hold areas in `size`).

    Raises UsageError for a processor that does not resize by area.
    """
    if min_pixels is None and max_pixels is None:
        return
    images = processor.image_processor
    limits = area_limits(processor)
    if limits is None:
        raise UsageError(
            f"--max_pixels, --min_pixels: {type(images).__name__} does not resize by area; remove them"
            + (", or use --max_anyres_num" if hasattr(images, "max_patches") else "")
        )
    low, high = limits
    images.size = {"shortest_edge": min_pixels or low, "longest_edge": max_pixels or high}


def set_frame_limits(processor: ProcessorMixin, frames: FrameSampling) -> None:
    """Let a processor that resizes frames by area leave those of `frames` as large as they are.

    Frames come at most `max_pixels` large. The processors' own sizes are limits of a frame (Qwen2-VL) or of all frames
    of a video (Qwen3-VL); the smallest would enlarge small frames to 128 tokens a pair of frames.
    """
    videos = getattr(processor, "video_processor", None)
    limits = [dict(getattr(videos, "size", None) or {}).get(edge) for edge in ("shortest_edge", "longest_edge")]
    if not hasattr(videos, "merge_size") or None in limits:
        return
    low, high = min(limits[0], frames.max_pixels), max(limits[1], frames.max_pixels * frames.max_frames)
    videos.size = {"shortest_edge": low, "longest_edge": high}
    if hasattr(videos, "cap_pixels_per_frame"):
        videos.cap_pixels_per_frame = True  # of videos of hundreds of frames, as qwen-vl-utils does


def pixel_limits(processor: ProcessorMixin) -> tuple[int, int]:
    """(min_pixels, max_pixels) of a processor that resizes by area; (0, 0) for one that does not.

    Only the `resized` coordinate space reads the limits, and all its families resize by area.
    """
    return area_limits(processor) or (0, 0)


def set_tiles(processor: ProcessorMixin, tiles: int) -> None:
    """Set the most tiles of an image. Raises UsageError for a processor that cuts none."""
    if not hasattr(processor.image_processor, "max_patches"):
        raise UsageError(f"--max_anyres_num: {type(processor.image_processor).__name__} does not cut tiles; remove it")
    processor.image_processor.max_patches = tiles


def freeze_vision(model: PreTrainedModel) -> int:
    """Freeze the vision tower and the projector; returns how many parameters they have."""
    frozen = vision_parameters(model)
    if isinstance(model, PeftModel) and any(p.requires_grad for p in frozen):
        raise UsageError(
            "--freeze_vision_modules: got true, but the adapter has layers in the vision modules; remove it"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in frozen)
