"""A dummy image so that every rank runs the vision tower, in forward passes without an image.

A rank whose rows are text alone would skip the vision tower. Where ranks share it, the others would wait for ever:
ZeRO-3 and FSDP gather its weights module by module, DDP and ZeRO reduce its gradients, which that rank would lack. So
there each forward pass without an image runs the tower over a dummy image and adds its features times zero to the
embeddings: no number changes, and every rank calls the same collectives in the same order.
"""

from typing import Any

import torch
from PIL import Image
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, ProcessorMixin, Trainer

from open_r1.models.families import bare_model, no_family, vision_parameters
from open_r1.rollout.batching import holds_rows
from open_r1.rollout.prompts import process_chat
from open_r1.rollout.vision_features import image_features
from open_r1.trainer.distributed import weights_are_sharded

DUMMY_SIDE = 56  # pixels; processors enlarge it to their minimum


def dummy_image(processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """The fields of one black image of the processor's smallest size; one tile if it cuts images into tiles."""
    parts = [{"type": "image", "image": Image.new("RGB", (DUMMY_SIDE, DUMMY_SIDE))}, {"type": "text", "text": "."}]
    fields = process_chat(processor, [{"role": "user", "content": parts}], rope=None, template={}).images
    return {name: value[:, :1] for name, value in fields.items()} if holds_rows(fields) else fields


def run_vision_on_all_ranks(trainer: Trainer) -> None:
    """Add the dummy image to a trainer's model and reference model if its ranks share or train the vision tower."""
    models = [
        bare_model(trainer.accelerator.unwrap_model(m))
        for m in (trainer.model, getattr(trainer, "ref_model", None))
        if m
    ]
    for model in models if trainer.is_fsdp_enabled else ():
        model._is_fsdp_managed_module = True  # accelerate leaves it out, and a rank would stop at its own last row
    if trainer.accelerator.num_processes > 1 and (weights_are_sharded(trainer) or vision_is_trained(models[0])):
        dummy = dummy_image(trainer.processing_class)
        for model in models:
            add_dummy_image(model.base_model, dummy)


def vision_is_trained(model: PreTrainedModel) -> bool:
    """Whether a weight of the vision tower is trained; true for a model of no known family."""
    return no_family(model) is not None or any(p.requires_grad for p in vision_parameters(model))


def add_dummy_image(backbone: PreTrainedModel, dummy: dict[str, torch.Tensor]) -> RemovableHandle:
    """Run `dummy` through each pass of `backbone`, the bare VLM without its head, that begins a sequence without an
    image, until the handle is removed. Passes that continue a KV cache need none: no rank has an image there."""

    def prepare(module: PreTrainedModel, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        begins = cache is None or cache.get_seq_length() == 0
        if begins and kwargs.get("pixel_values") is None and kwargs.get("inputs_embeds") is None:
            handle = module.get_input_embeddings().register_forward_hook(
                lambda _module, _args, embeddings: (
                    handle.remove() or embeddings + vision_zero(module, dummy, embeddings)
                )
            )

    return backbone.register_forward_pre_hook(prepare, with_kwargs=True)


def vision_zero(backbone: PreTrainedModel, dummy: dict[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """() zero that depends on every weight of vision tower and projector."""
    features = image_features(backbone, {name: value.to(like.device) for name, value in dummy.items()})
    outputs = [features.pooler_output, getattr(features, "deepstack_features", None)]
    return sum((tensor * 0).sum() for tensor in tensors_in(outputs)).to(like.dtype)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors in a nested list or tuple, in order.

    >>> tensors_in([torch.ones(1), None, (torch.zeros(1),)])
    [tensor([1.]), tensor([0.])]
    """
    if torch.is_tensor(value):
        return [value]
    return [tensor for part in value or () for tensor in tensors_in(part)]
