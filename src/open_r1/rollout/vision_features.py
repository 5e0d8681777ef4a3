"""Image features of a frozen vision tower: computed once per prompt, reused in every forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from transformers import PreTrainedModel

from open_r1.rollout.batching import groups_of
from open_r1.rollout.prompts import Prompt


def with_features(backbone: PreTrainedModel, prompt: Prompt) -> Prompt:
    """The prompt with its image features, for a frozen vision tower."""
    if not prompt.images:
        return prompt
    with torch.no_grad():
        return replace(prompt, features=image_features(backbone, prompt.images))


def image_features(backbone: PreTrainedModel, images: dict[str, torch.Tensor]) -> Any:
    """The vision tower's output for a processor's image fields."""
    parameters = signature(backbone.get_image_features).parameters
    fields = {name: value for name, value in images.items() if name in parameters}
    return backbone.get_image_features(**fields, return_dict=True)


@contextmanager
def precomputed_vision(backbone: PreTrainedModel, prompts: Sequence[Prompt], shared: bool) -> Iterator[None]:
    """Inside this context the vision tower returns the prompts' own features, where they have them.

    `shared`: rows of a group have one copy of their images in the forward pass.
    """
    illustrated = [p for p in (groups_of(prompts)[0] if shared else prompts) if p.images]
    if not illustrated or illustrated[0].features is None:
        yield
        return
    features = join_features([prompt.features for prompt in illustrated])
    backbone.get_image_features = lambda *args, **kwargs: features
    try:
        yield
    finally:
        del backbone.get_image_features


def join_features(outputs: Sequence[Any]) -> SimpleNamespace:
    """Image features of several prompts as one call returns them: lists of images, or images along dimension 0."""

    def join(name: str) -> Any:
        values = [getattr(output, name) for output in outputs]
        if torch.is_tensor(values[0]):
            return torch.cat(values)
        if name == "deepstack_features":  # a list over layers, images concatenated
            return [torch.cat(layer) for layer in zip(*values, strict=True)]
        return [image for value in values for image in value]

    names = [name for name in ("pooler_output", "deepstack_features") if hasattr(outputs[0], name)]
    return SimpleNamespace(**{name: join(name) for name in names})
