"""Rollouts with transformers' `generate`: one prefill per prompt, whose KV cache is repeated for its completions.

A prompt without its last token runs through the model once; `generate` continues from the repeated cache. Each time
half of the rows have ended, they leave the batch and the cache, and `generate` continues with the rest, so that one
long completion does not cost a whole batch.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from open_r1.rollout.batching import groups_of, merge_images, pad_positions, pad_prompts
from open_r1.rollout.kept_rows import Continuation, KeptRow, kept_row, masks_handed, prefill_rest, why_read_anew
from open_r1.rollout.packed_linears import packed_linears
from open_r1.rollout.prompt_cache import growing_cache, select_rows
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.shared_prompt import attention_to_prompts, share_prompts, why_prompts_are_repeated
from open_r1.rollout.vision_features import precomputed_vision


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


Keep = Callable[[], KeptRow]
RowEnded = Callable[[int, list[int], Keep | None], None]  # its place, what was sampled, what keeps its cache if it can


class TellEnded(StoppingCriteria):
    """Tells of each row whose end token was sampled, before the next token is; it stops no row.

    `rows` are the places of the batch's rows, whose `lengths` are the tokens of their prompts, which end at column
    `begin`; `cache`: theirs, where it can be kept.
    """

    def __init__(
        self,
        tell: RowEnded,
        ends: Sequence[int],
        rows: Sequence[int],
        lengths: Sequence[int],
        begin: int,
        cache: DynamicCache | None,
    ):
        self.tell, self.ends, self.running = tell, torch.tensor(ends), set(range(len(rows)))
        self.rows, self.lengths, self.begin, self.cache = rows, lengths, begin, cache

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        at_end = torch.isin(input_ids[:, -1], self.ends.to(input_ids.device)).nonzero()[:, 0]
        for place in [place for place in at_end.tolist() if place in self.running]:
            self.running.remove(place)
            first, end = self.begin - self.lengths[self.rows[place]], input_ids.shape[1] - 1
            keep = None if self.cache is None else partial(kept_row, self.cache, place, first, end)
            self.tell(self.rows[place], input_ids[place, self.begin :].tolist(), keep)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


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
    tell: RowEnded | None = None,
    going_on: Sequence[Continuation] = (),
    **options: Any,
) -> list[list[int]]:
    """Token ids of one completion a row, up to and with its end token; rows of a group hold the same Prompt object.

    `backbone` is the bare VLM inside `model`, without its head; `ends` are the end tokens; `recorder` is a
    `LogProbRecorder` (trainer.checks.rollout_agreement) or None; `options` go to `generate`. Once `stop()` is true,
    generation ends, and completions are cut off. `tell` is called of each row at its end token, if it comes to one;
    `going_on`: what rows kept of earlier turns, whose prompts are the wholes.
    """
    unique_prompts, prompt_of_row = groups_of(prompts)
    inputs = pad_prompts(unique_prompts, config.pad_token_id)  # a repetition penalty counts padding too
    prompt_index = torch.tensor(prompt_of_row, device=model.device)  # (rows,)
    ids, mask = inputs["input_ids"][prompt_index], inputs["attention_mask"][prompt_index]
    begin, rows, completions = ids.shape[1], torch.arange(len(ids)), {}
    shifts = torch.stack([p.positions[..., -1] + 1 - begin for p in unique_prompts], dim=-1)[..., prompt_index]
    criteria = [StopOnRequest(stop), *([] if recorder is None else [recorder])]
    lengths = [len(prompt.ids) for prompt in prompts]
    with packed_linears(model):
        with nullcontext([]) if tell is None else masks_handed(backbone) as handed:
            cache = prefill_rest(backbone, going_on) if going_on else prefill(backbone, unique_prompts)
        kept = None if why_read_anew(cache, any(handed)) else cache
        if why_prompts_are_repeated(backbone, cache, len(rows)) is None:
            share_prompts(cache, prompt_of_row, inputs["attention_mask"][:, :-1])
        elif len(rows) > len(unique_prompts):
            select_rows(cache, prompt_index)
        while len(rows):
            if recorder is not None:
                recorder.rows = rows
            telling = [] if tell is None else [TellEnded(tell, ends, rows.tolist(), lengths, begin, kept)]
            with shifted_positions(backbone, shifts), attention_to_prompts(backbone, cache):
                ids = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    generation_config=remaining_config(config, generated=ids.shape[1] - begin),
                    stopping_criteria=StoppingCriteriaList([StopAtHalf(ends)] * compact + criteria + telling),
                    **options,
                )
            completion_ids = ids[:, begin:]
            ended = torch.isin(completion_ids, torch.tensor(ends, device=ids.device)).any(dim=1)
            ended |= completion_ids.shape[1] >= config.max_new_tokens or stop()
            for row, tokens in zip(rows[ended.cpu()].tolist(), completion_ids[ended].tolist(), strict=True):
                completions[row] = up_to_end(tokens, ends)
            running = (~ended).nonzero()[:, 0]
            mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
            rows, ids, mask, shifts = rows[running.cpu()], ids[running], mask[running], shifts[..., running]
            if len(running):
                select_rows(cache, running)
    return [completions[row] for row in range(len(prompts))]


def prefill(backbone: PreTrainedModel, prompts: Sequence[Prompt]) -> DynamicCache:
    """The KV cache of prompts padded on the left, each without its last token."""
    inputs = {name: values[:, :-1] for name, values in pad_prompts(prompts).items()}
    cache = growing_cache(backbone.config)
    with precomputed_vision(backbone, prompts, shared=True):
        backbone(
            **inputs,
            **merge_images(prompts, packed=False),
            position_ids=pad_positions(prompts)[..., :-1],
            past_key_values=cache,
            use_cache=True,
        )
    return cache


@contextmanager
def shifted_positions(backbone: PreTrainedModel, shifts: torch.Tensor) -> Iterator[None]:
    """Inside this context the rotary position of a token is its index in its row plus the row's shift.

    `shifts` (rows,), or (channels, rows) for M-RoPE. A model's own count may take padding for tokens.
    """

    def place(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = next(x for x in (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if x is not None)
        begin = kwargs["past_key_values"].get_seq_length()
        index = torch.arange(begin, begin + given.shape[1], device=shifts.device)
        return args, kwargs | {"position_ids": shifts[..., None] + index}

    handle = backbone.register_forward_pre_hook(place, with_kwargs=True)
    try:
        if hasattr(backbone, "rope_deltas"):
            backbone.rope_deltas = None  # of another batch, whose rows are not these
        yield
    finally:
        handle.remove()


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
