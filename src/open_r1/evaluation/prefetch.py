"""Load the examples of the next batches while others are answered.

In processes beside transformers, whose generation holds Python's interpreter lock most of the time; in threads beside
vLLM, whose processes must not be forked.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from open_r1.errors import DataError, Problem
from open_r1.rollout.prompt_loader import PromptLoader, RowNumber
from open_r1.rollout.prompts import Example


def load_in_threads(loader: PromptLoader, batches: Sequence[list[RowNumber]]) -> Iterator[list[Example]]:
    """Examples of each batch, loaded a batch ahead. Raises DataError for pictures that cannot be read."""
    for number, rows in enumerate(batches):
        examples = loader.take(rows)
        for next_rows in batches[number + 1 : number + 2]:
            loader.prefetch(next_rows)
        yield examples


def load_in_processes(
    loader: PromptLoader, batches: Sequence[list[RowNumber]], workers: int
) -> Iterator[list[Example]]:
    """Examples of each batch without their pictures and videos, of which transformers needs only the processor's
    tensors.

    `loader` must be unused, as its threads would not exist in a forked process.
    """
    workers = min(workers, len(batches))
    loading = DataLoader(
        BatchDataset(loader, batches),
        batch_size=None,
        num_workers=workers,
        collate_fn=same_batch,
        multiprocessing_context="fork",
        worker_init_fn=set_up_worker,
    )
    for batch in loading:
        if isinstance(batch, tuple):
            raise DataError(batch)
        tensors = unpack_tensors(batch["data"], batch["shapes"])
        yield [map_tensors(example, tensors.__getitem__) for example in batch["examples"]]


class BatchDataset(Dataset):
    """Item n is batch n: its examples with their tensors packed apart, or the problems of its pictures.

    Tensors of one type go to the main process as one, in shared memory: each tensor there holds a file open.
    """

    def __init__(self, loader: PromptLoader, batches: Sequence[list[RowNumber]]):
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Any] | tuple[Problem, ...]:
        try:
            loaded = self.loader.load(self.batches[number]).values()
        except DataError as error:
            return error.problems
        tensors: list[torch.Tensor] = []

        def number_of(tensor: torch.Tensor) -> int:
            tensors.append(tensor)
            return len(tensors) - 1

        examples = [map_tensors(example, number_of) for example in loaded]
        data, shapes = pack_tensors(tensors)
        return {"examples": examples, "data": data, "shapes": shapes}


def same_batch(batch: Any) -> Any:
    """A collate function that changes nothing; torch's own would turn tuples into lists."""
    return batch


def set_up_worker(worker: int) -> None:
    """Lower the priority of a worker process, so that generation comes first where cores are few; one thread of torch.

    The data loader sets one thread by `torch.set_num_threads`, which an engine of vLLM in this process has made a
    function that does nothing. More would wait for the parent's threads of OpenMP, which a forked process has not.
    """
    torch._C.set_num_threads(1)
    os.nice(10)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # tokenizers warn in a forked process


def pack_tensors(
    tensors: Sequence[torch.Tensor],
) -> tuple[dict[torch.dtype, torch.Tensor], list[tuple[torch.dtype, Any]]]:
    """(type -> the values of all tensors of that type, [(type, shape) of each tensor]).

    >>> data, shapes = pack_tensors([torch.tensor([[1, 2]]), torch.tensor([0.5]), torch.tensor([3])])
    >>> [tensor.tolist() for tensor in unpack_tensors(data, shapes)]
    [[[1, 2]], [0.5], [3]]
    """
    kinds = dict.fromkeys(tensor.dtype for tensor in tensors)
    data = {kind: torch.cat([tensor.reshape(-1) for tensor in tensors if tensor.dtype == kind]) for kind in kinds}
    return data, [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]


def unpack_tensors(
    data: dict[torch.dtype, torch.Tensor], shapes: Sequence[tuple[torch.dtype, Any]]
) -> list[torch.Tensor]:
    """The tensors of `pack_tensors`, as views of the data."""
    parts = {
        kind: iter(values.split([prod(shape) for other, shape in shapes if other == kind]))
        for kind, values in data.items()
    }
    return [next(parts[kind]).view(shape) for kind, shape in shapes]


def map_tensors(example: Example, change: Callable[[Any], Any]) -> Example:
    """The example without pictures and videos, with `change` applied to each tensor of its prompt."""
    prompt = example.prompt
    fields = {"ids": change(prompt.ids), "positions": change(prompt.positions)}
    fields |= {name: {k: change(v) for k, v in getattr(prompt, name).items()} for name in ("types", "images")}
    return replace(example, pictures=[], videos=(), prompt=replace(prompt, **fields))
