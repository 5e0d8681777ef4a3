"""The policy's weights as published checkpoints hold them, which is what vLLM reads.

transformers 5 renames, fuses and splits weights of many families when it loads a model, and undoes that when it saves
one. The same is done here weight by weight, so that under ZeRO-3 no more than a layer is ever gathered.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import copy

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    rename_source_key,
    revert_weight_conversion,
)

Weights = Iterator[tuple[str, torch.Tensor]]


def as_published(model: PreTrainedModel, weights: Iterable[tuple[str, torch.Tensor]], names: Iterable[str]) -> Weights:
    """`weights` (name, tensor) of `model` under their published names; `names` are theirs, known beforehand.

    Weights that a checkpoint holds as one are kept until the last of them has come.
    """
    conversions = get_model_conversion_mapping(model, add_legacy=False)
    group_of = _groups(conversions, names)
    missing, waiting = Counter(group_of.values()), {}
    reverting = copy(model)  # shares all but this: a model knows of those alone that its own files needed
    reverting._weight_conversions = conversions
    for name, weight in weights:
        group = group_of[name]
        missing[group] -= 1
        if missing[group]:
            waiting.setdefault(group, {})[name] = weight.clone()  # gathered for this step of the iteration only
        else:
            yield from revert_weight_conversion(reverting, waiting.pop(group, {}) | {name: weight}).items()


def published_name(model: PreTrainedModel, name: str) -> str | None:
    """The published name of one of the model's weights; None where it is only a part of a published weight, or holds
    several."""
    reverse = [one.reverse_transform() for one in reversed(get_model_conversion_mapping(model, add_legacy=False))]
    converters = [one for one in reverse if isinstance(one, WeightConverter)]
    renamings = [one for one in reverse if isinstance(one, WeightRenaming)]
    published, converter = rename_source_key(name, renamings, converters, reverse=True)
    return published if converter is None else None


def _groups(conversions: list[WeightTransform], names: Iterable[str]) -> dict[str, str]:
    """Name of a weight -> the published name that it shares with those it becomes one of."""
    reverse = [conversion.reverse_transform() for conversion in reversed(conversions)]
    renamings = [one for one in reverse if isinstance(one, WeightRenaming)]
    converters = [one for one in reverse if isinstance(one, WeightConverter)]
    return {name: rename_source_key(name, renamings, converters, reverse=True)[0] for name in names}
