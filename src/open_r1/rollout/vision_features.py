"""Features of pictures and videos by a frozen vision tower: computed once per prompt, reused in every forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from inspect import Parameter, signature
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.rollout.batching import merge_images, pictured_in_order
from open_r1.rollout.media_joins import Join
from open_r1.rollout.processing import user_turn
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import Prompt, process_chat
from open_r1.rollout.trajectory import ToolTurns
from open_r1.rollout.video_trials import OTHER_FRAMES, TRIED_FRAMES

Shown = TypeVar("Shown", Prompt, ToolTurns)


@dataclass(frozen=True)
class Features:
    """What a vision tower makes of the pictures and of the videos of a prompt, each None without any."""

    pictures: Any = None
    videos: Any = None


TOWERS = {"pictures": "get_image_features", "videos": "get_video_features"}  # part of Features -> a model's method


def with_features(backbone: PreTrainedModel, prompt: Shown) -> Shown:
    """The prompt, or turns of tools, with the features of its pictures and videos, for a frozen vision tower."""
    if not prompt.images:
        return prompt
    with torch.no_grad():
        return replace(prompt, features=features_of(backbone, prompt.images, prompt.joins))


def features_of(backbone: PreTrainedModel, fields: dict[str, torch.Tensor], joins: Mapping[str, Join]) -> Features:
    """The vision tower's output for a processor's fields of pictures and videos."""
    of_videos = {name: value for name, value in fields.items() if joins.get(name, Join()).of_videos}
    pictures = {name: value for name, value in fields.items() if name not in of_videos}
    return Features(
        image_features(backbone, pictures) if pictures else None,
        video_features(backbone, of_videos) if of_videos else None,
    )


def video_features(backbone: PreTrainedModel, fields: dict[str, torch.Tensor]) -> Any:
    """The vision tower's output for a processor's fields of videos."""
    parameters = signature(backbone.get_video_features).parameters
    named = {name: value for name, value in fields.items() if name in parameters}
    if "pixel_values" in parameters:  # LLaVA's method calls pixels of a video as those of a picture
        named["pixel_values"] = fields["pixel_values_videos"]
    takes_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    return backbone.get_video_features(**named, **({"return_dict": True} if takes_all else {}))


def image_features(backbone: PreTrainedModel, images: dict[str, torch.Tensor]) -> Any:
    """The vision tower's output for a processor's fields of pictures."""
    parameters = signature(backbone.get_image_features).parameters
    takes_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    fields = {name: value for name, value in images.items() if takes_all or name in parameters}
    for name, parameter in parameters.items():  # Llama 4 is handed a setting of its own
        if (
            parameter.default is Parameter.empty
            and name not in fields
            and hasattr(backbone.config.vision_config, name)
        ):
            fields[name] = getattr(backbone.config.vision_config, name)
    return backbone.get_image_features(**fields, **({"return_dict": True} if takes_all else {}))


def why_no_joining(backbone: PreTrainedModel, processor: ProcessorMixin, fields: PromptFields) -> str | None:
    """Why features of two prompts, each computed alone, are not those of both, or None; tried on a small picture, and
    on small videos of one length and of two where the processor takes one."""
    if not hasattr(backbone, "get_image_features"):
        return f"{type(backbone).__name__} has no features of pictures apart from its text"
    tried = [[user_turn("What?", 1)] * 2]
    if fields.video_ids:
        lengths = ((TRIED_FRAMES, TRIED_FRAMES), (TRIED_FRAMES, OTHER_FRAMES))
        tried += [[user_turn("What?", videos=[frames]) for frames in pair] for pair in lengths]
    unplaced = replace(fields, rope=None)
    reasons = (
        why_not_joined(backbone, [process_chat(processor, turn, unplaced, {}) for turn in pair]) for pair in tried
    )
    return next((reason for reason in reasons if reason), None)


def why_not_joined(backbone: PreTrainedModel, prompts: Sequence[Prompt]) -> str | None:
    """Why the features of prompts, each computed alone, are not those of all together, or None."""
    shown = [prompt.to(backbone.device) for prompt in prompts]
    with torch.no_grad():
        together = features_of(backbone, merge_images(shown, packed=True), shown[0].joins)
        alone = [features_of(backbone, prompt.images, prompt.joins) for prompt in shown]
    try:
        pairs = zip(tensors_in(kept_parts(together)), tensors_in(kept_parts(joined_parts(alone))), strict=True)
        same = all(torch.allclose(a.float(), b.float(), rtol=0.02, atol=0.02 * float(a.abs().max())) for a, b in pairs)
    except (RuntimeError, ValueError) as error:  # shapes that do not fit
        return f"features of two prompts do not join: {' '.join(str(error).split())[:100]}"
    return None if same else "the features of a prompt depend on the prompts beside it"


def joined_parts(parts: Sequence[Features]) -> Features:
    """The features of several prompts as one."""
    of_each = {name: [made for part in parts if (made := getattr(part, name)) is not None] for name in TOWERS}
    return Features(**{name: join_features(made) if made else None for name, made in of_each.items()})


def kept_parts(features: Features) -> list[dict[str, Any]]:
    """What a model reads of its features of pictures, then of videos."""
    return [kept(made) for made in (features.pictures, features.videos) if made is not None]


@contextmanager
def precomputed_vision(
    backbone: PreTrainedModel, prompts: Sequence[Prompt], shared: bool, turns: Sequence[ToolTurns | None] = ()
) -> Iterator[None]:
    """Inside this context the vision tower returns the features that prompts and turns hold, where all hold them.

    `shared`: rows of a group have one copy of their prompt's images in the forward pass.
    """
    illustrated = [part for part in pictured_in_order(prompts, turns, shared) if part.images]
    if not illustrated or any(part.features is None for part in illustrated):
        yield
        return
    whole = joined_parts([part.features for part in illustrated])
    names = [name for part, name in TOWERS.items() if getattr(whole, part) is not None]
    for part, name in TOWERS.items():
        if name in names:
            setattr(backbone, name, partial(given, getattr(whole, part)))
    try:
        yield
    finally:
        for name in names:
            delattr(backbone, name)


def given(features: SimpleNamespace, *args: Any, **kwargs: Any) -> SimpleNamespace:
    """These features, whatever a vision tower is asked."""
    return features


LEFT_OUT = ("last_hidden_state", "hidden_states", "attentions")  # of a tower's output, where it has something further


def kept(output: Any) -> dict[str, Any]:
    """What a model reads of its vision tower's output: all but the tower's states, unless there is nothing else."""
    values = {name: value for name, value in vars(output).items() if value is not None}  # items() lack what was added
    return {name: value for name, value in values.items() if name not in LEFT_OUT} or {
        "last_hidden_state": values["last_hidden_state"]
    }


def join_features(outputs: Sequence[Any]) -> SimpleNamespace:
    """Image features of several prompts as one call returns them: lists of images, or images along dimension 0; along
    `token_dimension` where an output says that its tokens stand there one behind the other.

    `deepstack_features` list layers, each with features of all images, and perhaps with the number of its layer.
    """
    values = [kept(output) for output in outputs]
    dimension = values[0].get("token_dimension")
    joined = {
        name: [join(layer) for layer in zip(*(v[name] for v in values), strict=True)]
        if name == "deepstack_features"
        else join([v[name] for v in values], dimension)
        for name in values[0]
        if name != "token_dimension"
    }
    joined |= {} if dimension is None else {"token_dimension": dimension}
    return SimpleNamespace(**{"pooler_output": None, "deepstack_features": None} | joined)


def join(values: Sequence[Any], dimension: int | None = None) -> Any:
    """The same part of several outputs: tensors along a dimension, by default that in which they differ, else 0; lists
    of images one behind the other."""
    first = values[0]
    if torch.is_tensor(first) and dimension is not None:
        return torch.cat(list(values), dim=dimension)
    if torch.is_tensor(first):
        sizes = torch.tensor([value.shape for value in values])
        differing = (sizes != sizes[0]).any(dim=0).nonzero()[:, 0].tolist() if first.dim() else []
        return torch.cat(list(values), dim=differing[0] if differing else 0)
    if isinstance(first, tuple) and isinstance(first[0], int):  # the number of a layer, and its features
        return (first[0], join([value[1] for value in values]))
    return [image for value in values for image in value]


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All tensors in nested lists, tuples, dicts and namespaces, in order.

    >>> tensors_in([torch.ones(1), None, (3, torch.zeros(1))])
    [tensor([1.]), tensor([0.])]
    """
    if torch.is_tensor(value):
        return [value]
    if isinstance(value, (dict, SimpleNamespace)):
        value = list((value if isinstance(value, dict) else vars(value)).values())
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, (list, tuple)) else []
