"""Finds out which image tokens a model lets see each other in both directions, from the masks that it makes itself.

The model is called on a few tokens of text and of two images, one longer than its sliding window, and stopped where
it hands its masks to the decoder. A mask that packed groups cannot take (`trainer.forward.packing`) has no sight here,
and then groups are not packed. Masks that the decoder makes know no images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from transformers import PreTrainedModel

from open_r1.models.model_parts import image_token_of
from open_r1.trainer.distributed import gathered
from open_r1.trainer.forward.image_blocks import ImageSight, numbered_images
from open_r1.trainer.forward.packing import lay_out

SIGHTS = [
    ImageSight(full, sliding, beyond)
    for full in (False, True)
    for sliding, beyond in ((False, False), (True, False), (True, True))
]
LONGEST_WINDOW = 4096  # tokens; no image is longer
OF_MASKS = ("model_type", "window", "layer_types", "direction", "causal", "chunk", "prefix")  # in names of settings
_found: dict[str, ImageSight] = {}

Masks = dict[str, torch.Tensor | None]  # kind of layer -> (1, 1, P, P) bool, None where it is causal


class DecoderReached(Exception):
    """Ends a call of a model where its decoder would begin."""


def image_sight(model: PreTrainedModel) -> ImageSight:
    """How image tokens of this model see each other, found once for a configuration: the weights of a reference model
    may be sharded when it is first called. Raises ValueError for a mask of another kind."""
    settings = _masking(model.config.to_dict())
    if settings not in _found:
        _found[settings] = _try_sight(model.base_model)
    return _found[settings]


def _masking(settings: dict[str, Any]) -> str:
    """The settings of a configuration, and of those inside it, that masks depend on, as text."""
    parts = [_masking(value) for value in settings.values() if isinstance(value, dict)]
    return str([*parts, {key: value for key, value in settings.items() if any(n in str(key) for n in OF_MASKS)}])


def why_masks_differ(model: PreTrainedModel) -> str | None:
    """Why packed groups would not see what rows see in this model, or None."""
    try:
        image_sight(model)
    except ValueError as reason:
        return str(reason)
    return None


def _try_sight(backbone: PreTrainedModel) -> ImageSight:
    window = getattr(backbone.config.get_text_config(), "sliding_window", None) or 1
    types = torch.tensor([0, 0, *[1] * 3, 0, *[1] * (min(window, LONGEST_WINDOW) + 2), 0, 0])
    masks = masks_of(backbone, types)
    lengths = torch.tensor([len(types)]), torch.tensor([1]), torch.tensor([0])
    for sight in SIGHTS:
        layout = lay_out(*lengths, numbered_images(types)[None], torch.device("cpu"), sight)
        if all(
            _equal(mask, layout.prefix_mask(window if "sliding" in kind else None)) for kind, mask in masks.items()
        ):
            return sight
    raise ValueError(f"the mask of its images is none that packed groups know ({', '.join(masks)})")


def _equal(mask: torch.Tensor | None, ours: torch.Tensor | None) -> bool:
    """Whether two masks (1, 1, P, P) are the same; None is causal."""
    given = [m for m in (mask, ours) if m is not None]
    causal = [torch.ones_like(m, dtype=torch.bool).tril() for m in given[:1]] * (2 - len(given))
    return not given or torch.equal(*(m.bool() for m in given + causal))


@torch.no_grad()
def masks_of(backbone: PreTrainedModel, types: torch.Tensor) -> Masks:
    """The masks that the model hands its decoder for tokens of these `types` (P,), 1 at images and 0 at text.

    {} where it leaves that to the decoder.
    """
    reached: Masks = {}

    def stop(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if isinstance(mask, dict):
            reached.update(mask)
        elif torch.is_tensor(mask) and mask.ndim == 4:
            reached["full_attention"] = mask
        raise DecoderReached

    device = backbone.device
    names = [name for name in signature(backbone.forward).parameters if name.endswith("token_type_ids")]
    fields = {name: types[None].to(device) for name in names}
    ids = torch.where(types == 1, image_token_of(backbone.config), 1)[None].to(device)
    decoder = backbone.get_decoder()
    handle = decoder.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
    try:
        with _masks_of_sdpa(backbone), gathered(_outside_layers(decoder)):
            backbone(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **fields)
    except DecoderReached:
        pass
    finally:
        handle.remove()
    return {kind: mask if mask is None else mask.cpu() for kind, mask in reached.items()}


@contextmanager
def _masks_of_sdpa(backbone: PreTrainedModel) -> Iterator[None]:
    """Inside this context masks of the text model are bool, or None where they are causal."""
    text = backbone.config.get_text_config()
    before, text._attn_implementation = text._attn_implementation, "sdpa"
    try:
        yield
    finally:
        text._attn_implementation = before


def _outside_layers(decoder: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Parameters of a decoder's embeddings and norms, which stand outside its layers."""
    outside = [child for child in decoder.children() if not isinstance(child, torch.nn.ModuleList)]
    return [parameter for child in outside for parameter in child.parameters()]
