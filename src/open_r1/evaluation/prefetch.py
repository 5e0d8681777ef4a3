"""The examples of each batch, made ahead while others are answered.

In processes, as generation by transformers holds the interpreter most of the time and threads would wait for it; in
threads beside vLLM, whose processes must not be forked.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from open_r1.errors import DataError, Problem
from open_r1.rollout.prompts import Example, PromptLoader, RowNumber


def load_in_threads(loader: PromptLoader, wanted: Sequence[list[RowNumber]]) -> Iterator[list[Example]]:
    """A batch ahead. Raises DataError for pictures that cannot be read."""
    for number, rows in enumerate(wanted):
        examples = loader.take(rows)
        for following in wanted[number + 1 : number + 2]:
            loader.prefetch(following)
        yield examples


def in_processes(loader: PromptLoader, wanted: Sequence[list[RowNumber]], workers: int) -> Iterator[list[Example]]:
    """The same, without pictures: what the processor made of them is all that transformers needs.

    `loader` must not have been used yet: threads do not live on in a forked process.
    """
    workers = min(workers, len(wanted))
    batches = DataLoader(
        Batches(loader, wanted),
        batch_size=None,
        num_workers=workers,
        collate_fn=as_made,
        multiprocessing_context="fork",
        worker_init_fn=begin,
    )
    for made in batches:
        if isinstance(made, tuple):
            raise DataError(made)
        tensors = unpacked(made["data"], made["shapes"])
        yield [moved(example, tensors.__getitem__) for example in made["examples"]]


class Batches(Dataset):
    """Batch n, in the process that asks for it: examples and their tensors apart, or the problems of its pictures.

    Tensors of one type travel as one, in shared memory: each would hold a file open, and a pipe is slow.
    """

    def __init__(self, loader: PromptLoader, wanted: Sequence[list[RowNumber]]):
        self.loader, self.wanted = loader, wanted

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, number: int) -> dict[str, Any] | tuple[Problem, ...]:
        try:
            made = self.loader.load(self.wanted[number]).values()
        except DataError as error:
            return error.problems
        tensors: list[torch.Tensor] = []

        def number_of(tensor: torch.Tensor) -> int:
            tensors.append(tensor)
            return len(tensors) - 1

        examples = [moved(example, number_of) for example in made]
        data, shapes = packed(tensors)
        return {"examples": examples, "data": data, "shapes": shapes}


def as_made(batch: Any) -> Any:
    """Torch's own would walk through it and make lists of tuples."""
    return batch


def begin(worker: int) -> None:
    """In a new process: generation goes first where cores are few."""
    os.nice(10)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # it warns where a process was forked


def packed(tensors: Sequence[torch.Tensor]) -> tuple[dict[torch.dtype, torch.Tensor], list[tuple[torch.dtype, Any]]]:
    """(type -> the values of all tensors of that type, type and shape of each).

    >>> data, shapes = packed([torch.tensor([[1, 2]]), torch.tensor([0.5]), torch.tensor([3])])
    >>> [tensor.tolist() for tensor in unpacked(data, shapes)]
    [[[1, 2]], [0.5], [3]]
    """
    kinds = dict.fromkeys(tensor.dtype for tensor in tensors)
    data = {kind: torch.cat([tensor.reshape(-1) for tensor in tensors if tensor.dtype == kind]) for kind in kinds}
    return data, [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]


def unpacked(data: dict[torch.dtype, torch.Tensor], shapes: Sequence[tuple[torch.dtype, Any]]) -> list[torch.Tensor]:
    """The tensors again, views of the data."""
    parts = {
        kind: iter(values.split([prod(shape) for other, shape in shapes if other == kind]))
        for kind, values in data.items()
    }
    return [next(parts[kind]).view(shape) for kind, shape in shapes]


def moved(example: Example, change: Callable[[Any], Any]) -> Example:
    """The example without pictures, `change` applied to each field of its prompt."""
    prompt = example.prompt
    fields = {"ids": change(prompt.ids), "positions": change(prompt.positions)}
    fields |= {name: {k: change(v) for k, v in getattr(prompt, name).items()} for name in ("types", "images")}
    return replace(example, pictures=[], prompt=replace(prompt, **fields))
