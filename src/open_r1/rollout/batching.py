"""Batch prompts: find groups of rows, shuffle groups, pad token fields, merge image fields."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from open_r1.rollout.device_copies import to_device
from open_r1.rollout.media_joins import Join, pad_cat
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import ToolTurns

Pictured = Prompt | ToolTurns  # what holds fields of pictures


def groups_of(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
    """(unique prompts, the index of each row's prompt); rows of a group are neighbours and hold the same object.

    >>> groups_of(["p", "p", "q"])
    (['p', 'q'], [0, 0, 1])
    """
    groups = [list(rows) for _, rows in groupby(prompts, key=id)]
    return [rows[0] for rows in groups], [number for number, rows in enumerate(groups) for _ in rows]


def permute_groups(batch: dict[str, Any], group: int) -> dict[str, Any]:
    """Shuffle whole groups of `group` consecutive rows; scalars stay.

    >>> _ = torch.manual_seed(0)
    >>> permute_groups({"x": torch.arange(6), "y": list("aabbcc"), "n": torch.tensor(6)}, group=2)
    {'x': tensor([4, 5, 0, 1, 2, 3]), 'y': ['c', 'c', 'a', 'a', 'b', 'b'], 'n': tensor(6)}
    """
    rows = len(next(v for v in batch.values() if isinstance(v, list) or (torch.is_tensor(v) and v.ndim)))
    order = torch.arange(rows).view(-1, group)[torch.randperm(rows // group)].flatten()

    def permute(value: Any) -> Any:
        if torch.is_tensor(value):
            return value[to_device(order, value.device)] if value.ndim else value
        return [value[i] for i in order.tolist()] if isinstance(value, list) else value

    return {key: permute(value) for key, value in batch.items()}


def pictured_in_order(prompts: Sequence[Prompt], turns: Sequence[ToolTurns | None], packed: bool) -> list[Pictured]:
    """What may hold pictures in a pass, in the order of its tokens.

    `packed`: the prompts of groups, then the turns of tools row by row; else each row's prompt, then its turns.
    """
    if packed:
        return [*groups_of(prompts)[0], *(turn for turn in turns if turn is not None)]
    rows = zip(prompts, turns or [None] * len(prompts), strict=True)
    return [part for row in rows for part in row if part is not None]


def rows_with_turns(prompts: Sequence[Prompt], turns: Sequence[ToolTurns | None]) -> Sequence[Prompt]:
    """Each row's prompt with the pictures of its own turns behind its own; its tokens stay."""
    if not turns:
        return prompts
    return [
        prompt if turn is None else replace(prompt, images=merge_images([prompt, turn], packed=True))
        for prompt, turn in zip(prompts, turns, strict=True)
    ]


def merge_images(prompts: Sequence[Pictured], packed: bool) -> dict[str, torch.Tensor]:
    """Fields of pictures and videos of several prompts, or turns of tools, for one forward pass over rows or over one
    `packed` row; a prompt has those of what it shows.

    They are joined on the dimension that `Prompt.joins` names; the others are padded with zeros, as processors do.
    Fields with a row for each prompt (Idefics3) have rows of zeros for prompts without images, which models drop.
    """
    illustrated = [prompt for prompt in prompts if prompt.images]
    merged: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(name for prompt in illustrated for name in prompt.images):
        join = illustrated[0].joins.get(name, Join())
        of_each = [prompt.images[name] for prompt in illustrated if name in prompt.images]
        if join.by_rows and not packed:
            empty = torch.zeros_like(of_each[0].narrow(join.row, 0, 1))
            of_each = [prompt.images.get(name, empty) for prompt in prompts]
        merged[name] = pad_cat(of_each, join.row if packed else join.batch)
    return merged


def pad_prompts(prompts: Sequence[Prompt], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Token fields (rows, tokens) of a batch, padded on the left, and its attention mask."""

    def pad_left(rows: list[torch.Tensor], value: int = 0) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_side="left", padding_value=value)

    fields = {"input_ids": pad_left([p.ids for p in prompts], pad_id)}
    fields["attention_mask"] = pad_left([torch.ones_like(p.ids) for p in prompts])
    return fields | {name: pad_left([p.types[name] for p in prompts]) for name in prompts[0].types}


def pad_positions(prompts: Sequence[Prompt]) -> torch.Tensor:
    """Rotary positions padded on the left with zeros: (rows, tokens), or (channels, rows, tokens)."""
    width = max(len(p.ids) for p in prompts)
    padded = [torch.nn.functional.pad(p.positions, (width - len(p.ids), 0)) for p in prompts]
    return torch.stack(padded, dim=-2)
