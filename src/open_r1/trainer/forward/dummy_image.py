"""A dummy image so that every rank runs the vision tower, in forward passes without an image.

A rank whose rows are text alone would skip the vision tower. Where ranks share it, the others would wait for ever:
ZeRO-3 and FSDP gather its weights module by module, DDP and ZeRO reduce its gradients, which that rank would lack. So
there each forward pass without an image runs the tower over a dummy image and adds its features times zero to the
embeddings: no number changes, and every rank calls the same collectives in the same order. Models run the tower once
over the pictures of a pass and once over its videos, so in a run with videos a pass lacks one dummy for each.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, ProcessorMixin, Trainer

from open_r1.data.video.types import VideoFrames
from open_r1.models.model_parts import vision_parameters
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.vision_features import image_features, kept, tensors_in
from open_r1.trainer.distributed import networks_of, weights_are_sharded

DUMMY_SIDE = 56  # pixels; processors enlarge it to their minimum


def dummy_image(
    processor: ProcessorMixin, fields: PromptFields, color: tuple[int, int, int] = (0, 0, 0)
) -> dict[str, torch.Tensor]:
    """The fields of one image of the processor's smallest size, black or of another RGB `color`; one tile of fields
    with a row a prompt."""
    shown = Image.new("RGB", (DUMMY_SIDE, DUMMY_SIDE), color)
    parts = [{"type": "image", "image": shown}, {"type": "text", "text": "."}]
    prompt = process_chat(processor, [{"role": "user", "content": parts}], replace(fields, rope=None), template={})
    joins = prompt.joins
    return {n: v.narrow(joins[n].row, 0, 1) if joins[n].by_rows else v for n, v in prompt.images.items()}


def dummy_video(
    processor: ProcessorMixin, fields: PromptFields, color: tuple[int, int, int]
) -> dict[str, torch.Tensor]:
    """The fields of one small video of an RGB color in the processor's own form; none where the run has no such."""
    if not fields.video_ids:
        return {}
    pixels = np.full((2, DUMMY_SIDE, DUMMY_SIDE, 3), color, dtype=np.uint8)
    shown = {"type": "video", "video": VideoFrames(pixels, (0.0, 0.5), 1.0)}
    parts = [shown, {"type": "text", "text": "."}]
    prompt = process_chat(processor, [{"role": "user", "content": parts}], replace(fields, rope=None), template={})
    return {name: value for name, value in prompt.images.items() if prompt.joins[name].of_videos}


def run_vision_on_all_ranks(trainer: Trainer, fields: PromptFields) -> None:
    """Add the dummy image to a trainer's model and reference model if its ranks share or train the vision tower."""
    models = networks_of(trainer)
    for model in models if trainer.is_fsdp_enabled else ():
        model._is_fsdp_managed_module = True  # accelerate leaves it out, and a rank would stop at its own last row
    if trainer.accelerator.num_processes > 1 and (weights_are_sharded(trainer) or vision_is_trained(models[0])):
        dummy = dummy_image(trainer.processing_class, fields)
        videos = [name for name, join in fields.joins.items() if join.of_videos]
        for model in models:
            add_dummy_image(model.base_model, dummy, videos)


def vision_is_trained(model: PreTrainedModel) -> bool:
    """Whether a weight of the vision tower is trained."""
    return any(p.requires_grad for p in vision_parameters(model))


def add_dummy_image(
    backbone: PreTrainedModel, dummy: dict[str, torch.Tensor], videos: Sequence[str] = ()
) -> RemovableHandle:
    """Run `dummy` through each pass of `backbone`, the bare VLM without its head, that begins a sequence without an
    image, and once more where it has none of the fields `videos` of a run with videos, until the handle is removed.
    Passes that continue a KV cache need none: no rank has an image there."""

    def prepare(module: PreTrainedModel, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        begins = cache is None or cache.get_seq_length() == 0
        lacks = [["pixel_values"], *([videos] if videos else [])]
        runs = sum(all(kwargs.get(name) is None for name in names) for names in lacks)
        if begins and runs and kwargs.get("inputs_embeds") is None:
            handle = last_embedding(module).register_forward_hook(
                lambda _module, _args, embeddings: (
                    handle.remove() or embeddings + sum(vision_zero(module, dummy, embeddings) for _ in range(runs))
                )
            )

    return backbone.register_forward_pre_hook(prepare, with_kwargs=True)


def last_embedding(backbone: PreTrainedModel) -> torch.nn.Module:
    """The embedding behind which a backbone looks at pictures: that of the layers' own inputs where it has one (Gemma
    3n, Gemma 4), so that ranks with and without a picture gather weights in one order."""
    own = (module for name, module in backbone.named_modules() if name.endswith("embed_tokens_per_layer"))
    return next(own, None) or backbone.get_input_embeddings()


def vision_zero(backbone: PreTrainedModel, dummy: dict[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """() zero that depends on every weight of vision tower and projector."""
    features = image_features(backbone, {name: value.to(like.device) for name, value in dummy.items()})
    return sum((tensor * 0).sum() for tensor in tensors_in(kept(features)) if tensor.is_floating_point()).to(
        like.dtype
    )
