"""A blank image that counts nothing, for forward passes without an image.

A rank whose rows hold text alone would skip the vision tower. Where ranks share it, the others then wait for ever:
ZeRO-3 and FSDP gather its weights module by module, DDP and ZeRO reduce its gradients, which that rank would not have.
So there each forward pass without an image runs the tower over a blank one and adds its features times zero to the
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

DUMMY_SIDE = 56  # pixels; processors enlarge it to the least they take


def blank_image(processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """What the processor gives for one black image, as small as it makes one: one tile where it cuts tiles in rows."""
    parts = [{"type": "image", "image": Image.new("RGB", (DUMMY_SIDE, DUMMY_SIDE))}, {"type": "text", "text": "."}]
    fields = process_chat(processor, [{"role": "user", "content": parts}], rope=None, template={}).images
    return {name: value[:, :1] for name, value in fields.items()} if holds_rows(fields) else fields


def keep_vision_in_step(trainer: Trainer) -> None:
    """Show the blank image to a trainer's model and reference model where its ranks must keep step."""
    models = [
        bare_model(trainer.accelerator.unwrap_model(m))
        for m in (trainer.model, getattr(trainer, "ref_model", None))
        if m
    ]
    for model in models if trainer.is_fsdp_enabled else ():
        model._is_fsdp_managed_module = True  # accelerate does not say so, and a rank would stop at its own last row
    if trainer.accelerator.num_processes > 1 and (weights_are_sharded(trainer) or vision_trains(models[0])):
        blank = blank_image(trainer.processing_class)
        for model in models:
            add_blank_image(model.base_model, blank)


def vision_trains(model: PreTrainedModel) -> bool:
    return no_family(model) is not None or any(p.requires_grad for p in vision_parameters(model))


def add_blank_image(backbone: PreTrainedModel, blank: dict[str, torch.Tensor]) -> RemovableHandle:
    """From now on each pass of `backbone`, the bare VLM without its head, that begins a sequence and has no image sees
    `blank`, until the handle is removed. Passes that go on from a KV cache do not: no rank has an image there."""

    def prepare(module: PreTrainedModel, args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        begins = cache is None or cache.get_seq_length() == 0
        if begins and kwargs.get("pixel_values") is None and kwargs.get("inputs_embeds") is None:
            handle = module.get_input_embeddings().register_forward_hook(
                lambda _module, _args, embeddings: (
                    handle.remove() or embeddings + zero_of_vision(module, blank, embeddings)
                )
            )

    return backbone.register_forward_pre_hook(prepare, with_kwargs=True)


def zero_of_vision(backbone: PreTrainedModel, blank: dict[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Zero, a scalar that depends on every weight of vision tower and projector."""
    features = image_features(backbone, {name: value.to(like.device) for name, value in blank.items()})
    found = [features.pooler_output, getattr(features, "deepstack_features", None)]
    return sum((tensor * 0).sum() for tensor in tensors_in(found)).to(like.dtype)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """
    >>> tensors_in([torch.ones(1), None, (torch.zeros(1),)])
    [tensor([1.]), tensor([0.])]
    """
    if torch.is_tensor(value):
        return [value]
    return [tensor for part in value or () for tensor in tensors_in(part)]
