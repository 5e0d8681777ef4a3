"""Batch prompts: find groups of rows, shuffle groups, pad token fields, merge image fields."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from open_r1.rollout.prompts import Prompt


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
            return value[order.to(value.device)] if value.ndim else value
        return [value[i] for i in order.tolist()] if isinstance(value, list) else value

    return {key: permute(value) for key, value in batch.items()}


def merge_images(prompts: Sequence[Prompt], packed: bool) -> dict[str, torch.Tensor]:
    """Image fields of several prompts for one forward pass over a batch of rows, or over one `packed` row.

    Dimension 0 of a field counts patches, tiles or images and is concatenated; the others are padded with zeros, as
    processors do. Idefics3 and SmolVLM have a row of images per prompt instead (`holds_rows`), padded with images of
    zeros, which the models drop.
    """
    illustrated = [prompt for prompt in prompts if prompt.images]
    if not illustrated:
        return {}
    names = list(illustrated[0].images)
    if not holds_rows(illustrated[0].images):
        return {name: pad_cat([prompt.images[name] for prompt in illustrated]) for name in names}
    if packed:
        return {name: pad_cat([prompt.images[name][0] for prompt in illustrated])[None] for name in names}
    empty = {name: torch.zeros_like(value[:, :1]) for name, value in illustrated[0].images.items()}
    return {name: pad_cat([(prompt.images or empty)[name] for prompt in prompts]) for name in names}


def holds_rows(images: dict[str, torch.Tensor]) -> bool:
    """Whether image fields are (prompts, images, ...), as Idefics3 and SmolVLM have them."""
    return "pixel_attention_mask" in images and "spatial_shapes" not in images


def pad_cat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate along dimension 0; other dimensions are padded with zeros at their ends.

    >>> pad_cat([torch.ones(1, 2), torch.ones(1, 3)])
    tensor([[1., 1., 0.],
            [1., 1., 1.]])
    """
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    shape = torch.tensor([tensor.shape[1:] for tensor in tensors]).amax(dim=0).tolist()
    result = tensors[0].new_zeros(sum(map(len, tensors)), *shape)
    start = 0
    for tensor in tensors:
        result[(slice(start, start + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        start += len(tensor)
    return result


def pad_prompts(prompts: Sequence[Prompt], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Token fields (rows, tokens) of a batch, padded on the left, and its attention mask."""

    def pad_left(rows: list[torch.Tensor], value: int = 0) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_side="left", padding_value=value)

    fields = {"input_ids": pad_left([p.ids for p in prompts], pad_id)}
    fields["attention_mask"] = pad_left([torch.ones_like(p.ids) for p in prompts])
    return fields | {name: pad_left([p.types[name] for p in prompts]) for name in prompts[0].types}
