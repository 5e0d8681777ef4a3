"""Rollouts with transformers' `generate`: one prefill a prompt, its KV cache shared out to the completions.

A prompt but for its last token runs through the model once; the cache is repeated for the completions, and `generate`
goes on from there. When half of the rows have ended, it stops, the ended rows leave the batch and the cache, and it
goes on with the rest, so that one long completion does not cost a whole batch.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

from open_r1.rollout.batching import groups_of, merge_images, padded
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.vision_features import vision_of


def why_no_prefill(model: PreTrainedModel, cache_implementation: str | None) -> str | None:
    """Why a KV cache cannot be shared out, or None where it can."""
    if cache_implementation is not None:
        return f"--cache_implementation {cache_implementation} keeps a cache of fixed shape"
    cache = DynamicCache(config=model.config.get_text_config())
    kinds = {type(layer).__name__ for layer in cache.layers} - {"DynamicLayer", "DynamicSlidingWindowLayer"}
    return f"the cache has layers of kind {', '.join(sorted(kinds))}" if kinds else None


class RoomyLayer(DynamicLayer):
    """Keys and values (rows, K, tokens, D) with room for `ROOM` more tokens; DynamicLayer copies all of them for each
    new token."""

    ROOM = 128
    room: list[torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            return super().update(key_states, value_states)
        begin, end = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
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


class HalfEnded(StoppingCriteria):
    """Stops all rows when at least half of them have ended and the rest has tokens to go."""

    def __init__(self, ends: Sequence[int]):
        self.ends = torch.tensor(ends)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if not hasattr(self, "ended"):
            self.ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
            self.ends = self.ends.to(input_ids.device)
        self.ended |= torch.isin(input_ids[:, -1], self.ends)
        return (2 * self.ended.sum() >= len(self.ended)).expand(len(self.ended))


class BrokenOff(StoppingCriteria):
    """Stops all rows where `stop` says so. Ranks that must step together go on with rows that count for nothing."""

    def __init__(self, stop: Callable[[], bool]):
        self.stop = stop

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stop(), device=input_ids.device)


@torch.no_grad()
def generate_groups(
    model: PreTrainedModel,
    backbone: PreTrainedModel,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    ends: Sequence[int],
    compact: bool = True,
    witness: Any = None,
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> list[list[int]]:
    """Token ids of one completion a row, up to and with its end token; rows of a group hold the same Prompt object.

    `backbone` is the bare VLM inside `model`, without its head; `ends` are the end tokens; `witness` is an
    `trainer.checks.rollout_agreement.Witness` or None; `options` go to `generate`. Where `stop` says so
    it is broken off, and the completions are not whole.
    """
    heads, group = groups_of(prompts)
    share = torch.tensor(group, device=model.device)
    cache = prefill(backbone, heads)
    cache.batch_select_indices(share)
    inputs = padded(heads, config.pad_token_id)  # a repetition penalty counts what stands there
    ids, mask = inputs["input_ids"][share], inputs["attention_mask"][share]
    deltas = torch.stack([prompt.positions.max() + 1 - len(prompt.ids) for prompt in heads])[share, None]
    begin, rows, finished = ids.shape[1], torch.arange(len(ids)), {}
    lasting = [BrokenOff(stop), *([] if witness is None else [witness])]
    while len(rows):
        if witness is not None:
            witness.rows = rows
        if hasattr(backbone, "rope_deltas"):
            backbone.rope_deltas = deltas  # M-RoPE: what to add to a token's place in the row
        ids = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=remaining(config, said=ids.shape[1] - begin),
            stopping_criteria=StoppingCriteriaList([HalfEnded(ends)] * compact + lasting),
            **options,
        )
        said = ids[:, begin:]
        ended = torch.isin(said, torch.tensor(ends, device=ids.device)).any(dim=1)
        ended |= said.shape[1] >= config.max_new_tokens or stop()
        for row, tokens in zip(rows[ended.cpu()].tolist(), said[ended].tolist(), strict=True):
            finished[row] = up_to_end(tokens, ends)
        left = (~ended).nonzero()[:, 0]
        mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
        rows, ids, mask, deltas = rows[left.cpu()], ids[left], mask[left], deltas[left]
        if len(left):
            cache.batch_select_indices(left)
    return [finished[row] for row in range(len(prompts))]


def prefill(backbone: PreTrainedModel, prompts: Sequence[Prompt]) -> DynamicCache:
    """The KV cache of prompts padded on the left, each without its last token."""
    inputs = {name: values[:, :-1] for name, values in padded(prompts).items()}
    width = inputs["input_ids"].shape[1]
    positions = [torch.nn.functional.pad(p.positions[..., :-1], (width + 1 - len(p.ids), 0)) for p in prompts]
    cache = DynamicCache(config=backbone.config.get_text_config())
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    with vision_of(backbone, prompts, shared=True):
        backbone(
            **inputs,
            **merge_images(prompts, packed=False),
            position_ids=torch.stack(positions, dim=-2),
            past_key_values=cache,
            use_cache=True,
        )
    return cache


def remaining(config: GenerationConfig, said: int) -> GenerationConfig:
    """The configuration after `said` tokens: `generate` counts new tokens from where it is called."""
    config = copy.copy(config)
    config.use_cache = True  # also where training recomputes activations
    config.max_new_tokens -= said
    if config.min_new_tokens is not None:
        config.min_new_tokens = max(0, config.min_new_tokens - said)
    return config


def up_to_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """
    >>> up_to_end([5, 6, 2, 0, 0], ends=[2])
    [5, 6, 2]
    """
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens)) + 1]
