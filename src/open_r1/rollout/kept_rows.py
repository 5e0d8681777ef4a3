"""The KV cache of rows that wait for a tool: their next turn reads the tool's answer alone, not all before it again.

A row's keys and values leave the batch with its end token; those of a prompt that a group shares stay shared. For the
next turn rows stand side by side anew, padded on the left; what is new runs through the model once, its pictures with
it, and the padding between is closed. The cache is then that of a prefill of the whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from open_r1.rollout.batching import merge_images, pad_positions, pad_prompts
from open_r1.rollout.prompt_cache import PreallocatedLayer, growing_cache
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.shared_prompt import SharedPromptLayer
from open_r1.rollout.vision_features import precomputed_vision

StateParts = list[torch.Tensor]  # (K, t, D) each, one behind the other


@dataclass(frozen=True)
class KeptRow:
    """Keys and values of the first `tokens` tokens of a row, in each layer; `join_rows` takes the layers out."""

    tokens: int
    layers: list[tuple[StateParts, StateParts]]


@dataclass(frozen=True)
class Continuation:
    """What a row's next turn begins with: what is `kept` of it, the `rest` behind that with its pictures, and the
    `whole` without any."""

    kept: KeptRow
    rest: Prompt
    whole: Prompt


def why_read_anew(cache: DynamicCache, hands_masks: bool) -> str | None:
    """Why rows of this cache cannot be kept, or None; `hands_masks`: the model makes its decoder's masks itself."""
    if hands_masks:
        return "the model makes masks for its pictures"  # by the types of all tokens, which a part of them has not
    kinds = {type(layer) for layer in cache.layers} - {PreallocatedLayer, SharedPromptLayer}
    if kinds:  # a state has gone on behind the row's end, a window has dropped keys
        return f"the cache has {', '.join(sorted(kind.__name__ for kind in kinds))}"
    return None


@contextmanager
def masks_handed(backbone: PreTrainedModel) -> Iterator[list[bool]]:
    """Inside this context whether each call hands the decoder masks that the model made, and not which tokens are
    padding."""
    handed: list[bool] = []

    def note(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        handed.append(isinstance(mask, dict) or (torch.is_tensor(mask) and mask.ndim > 2))

    handle = backbone.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield handed
    finally:
        handle.remove()


def kept_row(cache: DynamicCache, row: int, begin: int, end: int) -> KeptRow:
    """Columns `begin` to `end` of a row of the cache, copied but for the prompt's that a group shares."""
    return KeptRow(end - begin, [states_of(layer, row, begin, end) for layer in cache.layers])


def states_of(layer: PreallocatedLayer, row: int, begin: int, end: int) -> tuple[StateParts, StateParts]:
    """Keys and values of these columns of a row."""
    if not isinstance(layer, SharedPromptLayer):
        return [layer.keys[row, :, begin:end].clone()], [layer.values[row, :, begin:end].clone()]
    prompt, width = layer.groups.prompt_of_row[row], layer.prompt_keys.shape[-2]
    pairs = ((layer.prompt_keys, layer.keys), (layer.prompt_values, layer.values))
    keys, values = ([shared[prompt, :, begin:], own[row, :, : end - width].clone()] for shared, own in pairs)
    return keys, values


@torch.no_grad()
def prefill_rest(backbone: PreTrainedModel, rows: Sequence[Continuation]) -> DynamicCache:
    """The KV cache of these rows padded on the left, each without its last token, as `prefill` makes it."""
    rests, known = [row.rest for row in rows], [row.kept.tokens for row in rows]
    inputs = {name: values[:, :-1] for name, values in pad_prompts(rests).items()}
    block, before = inputs["attention_mask"], max(known)
    cache = growing_cache(backbone.config)
    join_rows(cache, [row.kept for row in rows], before + block.shape[1])
    seen = torch.stack([pad(torch.ones(count), (before - count, 0)) for count in known]).to(block)
    inputs["attention_mask"] = torch.cat([seen, block], dim=1)
    with precomputed_vision(backbone, rests, shared=True):
        backbone(
            **inputs,
            **merge_images(rests, packed=False),
            position_ids=pad_positions(rests)[..., :-1],
            past_key_values=cache,
            use_cache=True,
        )
    close_gaps(cache, inputs["attention_mask"])
    return cache


def join_rows(cache: DynamicCache, rows: Sequence[KeptRow], width: int) -> None:
    """Fill an empty cache with these rows, padded on the left, with room for `width` tokens. Rows give their layers up
    one by one, so that keys and values are not held twice."""
    longest = max(row.tokens for row in rows)
    for layer in cache.layers:
        of_rows = [row.layers.pop(0) for row in rows]
        layer.lazy_initialization(of_rows[0][0][0], of_rows[0][1][0])
        layer.room = [padded_rows(parts, longest, width) for parts in zip(*of_rows, strict=True)]
        layer.keys, layer.values = (room[:, :, :longest] for room in layer.room)


def padded_rows(rows: Sequence[StateParts], end: int, width: int) -> torch.Tensor:
    """(R, K, width, D): the parts of each row one behind the other, up to column `end`."""
    heads, _, size = rows[0][0].shape
    result = rows[0][0].new_zeros(len(rows), heads, width, size)
    for place, parts in zip(result, rows, strict=True):
        whole = torch.cat(parts, dim=1)
        place[:, end - whole.shape[1] : end] = whole
    return result


def close_gaps(cache: DynamicCache, seen: torch.Tensor) -> None:
    """Move the tokens of each row to the right, in their order; `seen` (R, W) is 1 for a token, 0 for padding."""
    if (seen[:, 1:] >= seen[:, :-1]).all():
        return
    longest = int(seen.sum(dim=1).max())
    columns = seen.argsort(dim=1, stable=True)[:, -longest:]  # padding first
    for layer in cache.layers:
        index = columns.to(layer.keys.device)[:, None, :, None]
        layer.keys, layer.values = (states.take_along_dim(index, dim=2) for states in (layer.keys, layer.values))
        layer.room = None
