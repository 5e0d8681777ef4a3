"""Rollouts with transformers' `generate`: one prefill per prompt, whose KV cache is repeated for its completions.

A prompt without its last token runs through the model once; `generate` continues from the repeated cache. Each time
half of the rows have ended, they leave the batch and the cache, and `generate` continues with the rest, so that one
long completion does not cost a whole batch.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

from open_r1.rollout.batching import groups_of, merge_images, pad_prompts
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.vision_features import precomputed_vision


def why_no_prefill(model: PreTrainedModel, cache_implementation: str | None) -> str | None:
    """Why a prompt's KV cache cannot be repeated for its completions, or None where it can."""
    if cache_implementation is not None:
        return f"--cache_implementation {cache_implementation} keeps a cache of fixed shape"
    cache = DynamicCache(config=model.config.get_text_config())
    kinds = {type(layer).__name__ for layer in cache.layers} - {"DynamicLayer", "DynamicSlidingWindowLayer"}
    return f"the cache has layers of kind {', '.join(sorted(kinds))}" if kinds else None


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


class StopAtHalf(StoppingCriteria):
    """Stops all rows once at least half of them have ended."""

    def __init__(self, ends: Sequence[int]):
        self.ends = torch.tensor(ends)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if not hasattr(self, "ended"):
            self.ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
            self.ends = self.ends.to(input_ids.device)
        self.ended |= torch.isin(input_ids[:, -1], self.ends)
        return (2 * self.ended.sum() >= len(self.ended)).expand(len(self.ended))


class StopOnRequest(StoppingCriteria):
    """Stops all rows once `stop()` is true. Ranks that must step together then go on with rows that are dropped."""

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
    recorder: Any = None,
    stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> list[list[int]]:
    """Token ids of one completion a row, up to and with its end token; rows of a group hold the same Prompt object.

    `backbone` is the bare VLM inside `model`, without its head; `ends` are the end tokens; `recorder` is a
    `LogProbRecorder` (trainer.checks.rollout_agreement) or None; `options` go to `generate`. Once `stop()` is true,
    generation ends, and completions are cut off.
    """
    unique_prompts, prompt_of_row = groups_of(prompts)
    prompt_index = torch.tensor(prompt_of_row, device=model.device)  # (rows,)
    cache = prefill(backbone, unique_prompts)
    cache.batch_select_indices(prompt_index)
    inputs = pad_prompts(unique_prompts, config.pad_token_id)  # a repetition penalty counts padding too
    ids, mask = inputs["input_ids"][prompt_index], inputs["attention_mask"][prompt_index]
    deltas = torch.stack([p.positions.max() + 1 - len(p.ids) for p in unique_prompts])[prompt_index, None]
    begin, rows, completions = ids.shape[1], torch.arange(len(ids)), {}
    criteria = [StopOnRequest(stop), *([] if recorder is None else [recorder])]
    while len(rows):
        if recorder is not None:
            recorder.rows = rows
        if hasattr(backbone, "rope_deltas"):
            backbone.rope_deltas = deltas  # M-RoPE: position of a token - its index in the row
        ids = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=remaining_config(config, generated=ids.shape[1] - begin),
            stopping_criteria=StoppingCriteriaList([StopAtHalf(ends)] * compact + criteria),
            **options,
        )
        completion_ids = ids[:, begin:]
        ended = torch.isin(completion_ids, torch.tensor(ends, device=ids.device)).any(dim=1)
        ended |= completion_ids.shape[1] >= config.max_new_tokens or stop()
        for row, tokens in zip(rows[ended.cpu()].tolist(), completion_ids[ended].tolist(), strict=True):
            completions[row] = up_to_end(tokens, ends)
        running = (~ended).nonzero()[:, 0]
        mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
        rows, ids, mask, deltas = rows[running.cpu()], ids[running], mask[running], deltas[running]
        if len(running):
            cache.batch_select_indices(running)
    return [completions[row] for row in range(len(prompts))]


def prefill(backbone: PreTrainedModel, prompts: Sequence[Prompt]) -> DynamicCache:
    """The KV cache of prompts padded on the left, each without its last token."""
    inputs = {name: values[:, :-1] for name, values in pad_prompts(prompts).items()}
    width = inputs["input_ids"].shape[1]
    positions = [torch.nn.functional.pad(p.positions[..., :-1], (width + 1 - len(p.ids), 0)) for p in prompts]
    cache = DynamicCache(config=backbone.config.get_text_config())
    cache.layers = [PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    with precomputed_vision(backbone, prompts, shared=True):
        backbone(
            **inputs,
            **merge_images(prompts, packed=False),
            position_ids=torch.stack(positions, dim=-2),
            past_key_values=cache,
            use_cache=True,
        )
    return cache


def remaining_config(config: GenerationConfig, generated: int) -> GenerationConfig:
    """The configuration after `generated` tokens: `generate` counts new tokens from its own start."""
    config = copy.copy(config)
    config.use_cache = True  # also with gradient checkpointing
    config.max_new_tokens -= generated
    if config.min_new_tokens is not None:
        config.min_new_tokens = max(0, config.min_new_tokens - generated)
    return config


def up_to_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to and with the first end token; all where there is none.

    >>> up_to_end([5, 6, 2, 0, 0], ends=[2])
    [5, 6, 2]
    """
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens)) + 1]
