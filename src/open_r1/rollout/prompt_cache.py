"""The cache of prompts: its rows are repeated for completions and leave with them, whatever its layers keep.

Attention layers keep keys and values, recurrent layers (linear attention, state spaces, short convolutions) the state
after their last token, and some layers both.
"""

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
    get_layer_types_and_kwargs,
)

REPEATABLE = (  # what these keep of a row depends on its tokens alone, not on where padding puts them
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)


class PreallocatedLayer(DynamicLayer):
    """A cache layer of keys and values (rows, K, tokens, D) with room for `ROOM` more tokens.

    DynamicLayer copies all keys and values for each new token.
    """

    ROOM = 128
    room: list[torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            return super().update(key_states, value_states)
        begin, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self.room is None or self.room[0].shape[-2] < end:
            more = end - begin + self.ROOM
            self.room = [torch.nn.functional.pad(states, (0, 0, 0, more)) for states in (self.keys, self.values)]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, begin:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.room = None


def why_no_prefill(model: PreTrainedModel, cache_implementation: str | None) -> str | None:
    """Why a prompt's cache cannot be repeated for its completions, or None where it can."""
    if cache_implementation is not None:
        return f"--cache_implementation {cache_implementation} keeps a cache of fixed shape"
    types, _ = get_layer_types_and_kwargs(model.config.get_text_config(decoder=True))
    kinds = {kind: DYNAMIC_LAYER_TYPE_MAPPING.get(kind) for kind in types}
    if unknown := sorted(kind for kind, layer in kinds.items() if layer not in REPEATABLE):
        return f"the cache has layers of kind {', '.join(unknown)}"
    return None if any(issubclass(layer, DynamicLayer) for layer in kinds.values()) else "no layer counts its tokens"


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of this configuration; keys and values are not copied for each new token."""
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select_rows(cache: DynamicCache, rows: torch.Tensor) -> None:
    """Keep these rows of the cache, in this order; a row may come several times."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionLayer):
            LinearAttentionLayer.reorder_cache(layer, rows)  # a layer of both kinds keeps keys and values below
        if isinstance(layer, DynamicLayer):
            layer.batch_select_indices(rows)
