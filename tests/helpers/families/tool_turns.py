"""Completions with tool turns: sampled tokens, answers by a family's own processor, sampled tokens again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from helpers.families.exactness import Pass, gradients
from helpers.families.parts import TEXT, VOCABULARY
from helpers.families.prompts import Batch, chat, prompt, rules_of
from helpers.families.tiny import processor_of
from open_r1.rollout.batching import merge_images
from open_r1.rollout.prompts import Prompt, prompt_from_fields
from open_r1.rollout.tool_turns import tool_turns_of
from open_r1.rollout.trajectory import Segment, ToolTurns, Trajectory
from open_r1.trainer.forward.log_probs import Scores, score

Plan = tuple[int, ...]  # sampled tokens, pictures of an answer, sampled tokens, pictures, ..., sampled tokens
# prompts as (images, text tokens, completions): ragged turns, two pictures in one suffix, none in its neighbour,
# answers of text alone, turns and completions of one token, prompts with one, no and two pictures
TOOL_GROUPS: list[tuple[int, int, list[Plan]]] = [
    (1, 9, [(5,), (4, 1, 3), (1,), (2, 2, 3, 0, 2)]),
    (0, 7, [(3, 1, 2), (6,)]),
    (2, 12, [(1, 1, 1, 1, 2)]),
    (1, 20, [(1,), (2, 0, 1)]),
]
# prompts as (images, frames of each video, text tokens, completions)
CLIP_TOOL_GROUPS: list[tuple[int, tuple[int, ...], int, list[Plan]]] = [
    (1, (4,), 12, [(4, 1, 3), (3,), (2, 2, 3, 0, 2)]),
    (0, (2,), 14, [(5, 1, 2), (6,)]),
    (0, (), 7, [(3, 1, 2)]),
]


@dataclass(frozen=True)
class ToolRows:
    """Rows with tool turns as `score` takes them; `scored` (N, C): tokens that count."""

    prompts: list[Prompt | None]
    turns: list[ToolTurns | None]
    completion_ids: torch.Tensor
    lengths: list[int]
    scored: torch.Tensor


def tool_rows(model: PreTrainedModel, groups: Sequence[tuple[Any, ...]] = TOOL_GROUPS, seed: int = 0) -> ToolRows:
    """The rows of these groups, as in TOOL_GROUPS or in CLIP_TOOL_GROUPS; a prompt's rows hold one object."""
    fields, rows, random = rules_of(model), [], torch.Generator().manual_seed(seed)
    for number, (images, *videos, text, plans) in enumerate(groups):
        shown = prompt_from_fields(prompt(model, images, text, number, *videos), fields)
        for place, plan in enumerate(plans):
            trajectory, made = drawn_trajectory(model, plan, random, 100 * seed + 10 * number + place)
            rows.append((shown, trajectory, tool_turns_of(trajectory, fields, made) if made else None))
    prompts, trajectories, turns = map(list, zip(*rows, strict=True))
    ids, scored = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(values) for values in of_each], batch_first=True)
        for of_each in ([one.ids for one in trajectories], [one.scored for one in trajectories])
    )
    return ToolRows(prompts, turns, ids, [len(one.ids) for one in trajectories], scored)


def drawn_trajectory(
    model: PreTrainedModel, plan: Plan, random: torch.Generator, seed: int
) -> tuple[Trajectory, list[Batch]]:
    """A completion of random tokens with answers as in `plan`, and what the processor made of each answer."""
    segments, made = [], []
    for place, count in enumerate(plan):
        if place % 2 == 0:
            segments.append(Segment(torch.randint(TEXT, VOCABULARY, (count,), generator=random).tolist(), True))
            continue
        made.append(answered(model, count, seed + 1000 * place))
        segments.append(Segment(made[-1]["input_ids"][0].tolist(), False))
    return Trajectory(segments), made


def answered(model: PreTrainedModel, pictures: int, seed: int) -> Batch:
    """The processor's fields of a tool's answer with so many pictures, as a turn of the user."""
    processor, turn = processor_of(model.config.name_or_path), chat(pictures, pictures + 3, seed)
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    shown = [part["image"] for part in turn[0]["content"] if part["type"] == "image"]
    given = {"images": [shown]} if shown else {}
    made = processor(text=[text], add_special_tokens=False, return_tensors="pt", **given)
    fields = {name: value for name, value in made.items() if torch.is_tensor(value)}
    return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in fields.items()}


def scores_of(model: torch.nn.Module, rows: ToolRows, shared: bool) -> Scores:
    """Log-probs and entropies of the rows; `model` may have adapters."""
    backbone = getattr(model, "get_base_model", lambda: model)().base_model
    batch = (rows.prompts, rows.completion_ids, rows.lengths)
    return score(model, backbone, *batch, shared=shared, entropy=True, turns=rows.turns)


def passed_with_turns(model: torch.nn.Module, rows: ToolRows, shared: bool) -> Pass:
    """A forward and a backward pass."""
    scores = scores_of(model, rows, shared)
    return Pass(scores, gradients(model, scores))


def passed_alone(model: PreTrainedModel, rows: ToolRows) -> Pass:
    """The same by the model's own forward pass of each conversation alone, with its own positions and masks."""
    logps, entropies = [], []
    for shown, turns, ids, length in zip(rows.prompts, rows.turns, rows.completion_ids, rows.lengths, strict=True):
        said, counted = ids[:length], torch.ones(length, dtype=torch.bool) if turns is None else turns.scored
        whole = torch.cat([shown.ids, said])[None]
        types = {name: torch.cat([of, types_of(turns, name, of, length)])[None] for name, of in shown.types.items()}
        images = merge_images([part for part in (shown, turns) if part is not None], packed=True)
        call = {"input_ids": whole, "attention_mask": torch.ones_like(whole), **types, **images}
        logits = model(**call, use_cache=False).logits[0, len(shown.ids) - 1 : -1]
        each = logits.log_softmax(-1)
        logps.append(each.gather(1, said[:, None])[:, 0] * counted)
        entropies.append(-(each.exp() * each).sum(-1) * counted)
    padded = (torch.nn.utils.rnn.pad_sequence(values, batch_first=True) for values in (logps, entropies))
    scores = Scores(*padded, None)
    return Pass(scores, gradients(model, scores))


def types_of(turns: ToolTurns | None, name: str, like: torch.Tensor, length: int) -> torch.Tensor:
    """Types of a completion's tokens."""
    return like.new_zeros(length) if turns is None else turns.types[name].to(like.dtype)
