"""Prompts of a generation batch as the model takes them: each unique one opened, processed and moved once.

A row number becomes an `Example` in background workers, started when the data loader first hands out the row (one
batch ahead of its use) and kept until the next generation batch. Whatever runs over G completions refers to the one
`Prompt`; no field of it is ever repeated on the host, and on the device only where a model is run row by row.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import get_worker_info
from transformers import ProcessorMixin

from open_r1.data.chat import plain_messages
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import Record
from open_r1.rollout.image_tokens import refuse_unseen
from open_r1.rollout.vllm.types import Request

RowNumber = dict[str, Any]  # {"split": "train" | "eval", "row": int}
TOKEN_FIELDS = ("token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Prompt:
    """One prompt of P tokens, images expanded.

    `ids` (P,); `positions` rotary positions, (P,) or, for M-RoPE, (3, P); `types` per-token fields (P,); `images` what
    the processor gives for this prompt's images alone; `features` the vision tower's output for them where it is
    frozen and was computed once.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: dict[str, torch.Tensor]
    images: dict[str, torch.Tensor]
    features: Any = None

    def to(self, device: torch.device) -> "Prompt":
        def move(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: value.to(device, non_blocking=True) for name, value in fields.items()}

        ids, positions = self.ids.to(device, non_blocking=True), self.positions.to(device, non_blocking=True)
        return replace(self, ids=ids, positions=positions, types=move(self.types), images=move(self.images))


@dataclass(frozen=True)
class Example:
    """A row ready for its rollout; `conversation` as texts, `<image>` where a picture stands."""

    record: Record
    conversation: list[dict[str, str]]
    pictures: list[Image.Image]
    prompt: Prompt

    def columns(self) -> dict[str, Any]:
        """What TRL hands to rewards."""
        return {"prompt": self.conversation, "record": self.record, "pictures": self.pictures}


class PromptLoader:
    """`want` starts the work on a batch of rows, `take` waits for it; each unique row is worked on once.

    `conversation(record, pictures)` gives the chat messages with pixels in place; `rope` is the model's
    `get_rope_index` where it has one; `template` goes to the chat template.
    """

    def __init__(
        self,
        record_of: Callable[[RowNumber], Record],
        conversation: Callable[[Record, Sequence[Image.Image]], list[dict[str, Any]]],
        processor: ProcessorMixin,
        rope: Callable[..., Any] | None,
        workers: int,
        template: dict[str, Any],
    ):
        self.record_of, self.conversation, self.processor = record_of, conversation, processor
        self.rope, self.workers, self.template, self.mine = rope, workers, template, threading.local()
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="prompts")
        self.lead = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.batches: OrderedDict[tuple[Any, ...], Future[dict[Any, Example]]] = OrderedDict()

    def want(self, rows: list[RowNumber]) -> list[RowNumber]:
        """Start on these rows unless they are under way; a collate function, so it returns them."""
        keys = unique_keys(rows)
        if keys not in self.batches and get_worker_info() is None:  # a data loader's own process would do it in vain
            self.batches[keys] = self.lead.submit(self.load, rows)
        return rows

    def take(self, rows: list[RowNumber]) -> list[Example]:
        """One Example a row, equal rows sharing theirs. Raises DataError for images that cannot be read or seen."""
        keys = unique_keys(self.want(rows))
        examples = self.batches[keys].result()
        while next(iter(self.batches)) != keys:  # older batches are done with
            self.batches.popitem(last=False)
        return [examples[key_of(row)] for row in rows]

    def request(self, example: Example, count: int, seed: int) -> Request:
        """What an engine with a processor of its own is asked: one token stands for each image."""
        chat = self.conversation(example.record, example.pictures)
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **self.template)
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Request(example.record.where, ids, example.prompt.ids.tolist(), example.pictures, chat, count, seed)

    def load(self, rows: list[RowNumber]) -> dict[Any, Example]:
        """The Example of each unique row, made now. Raises DataError for images that cannot be read or seen."""
        unique = {key_of(row): row for row in rows}
        records = [self.record_of(row) for row in unique.values()]
        pictures = load_images(records, workers=self.workers)
        return dict(zip(unique, self.pool.map(self._example, records, pictures), strict=True))

    def _example(self, record: Record, pictures: list[Image.Image]) -> Example:
        if not hasattr(self.mine, "processor"):  # a fast tokenizer cannot be used by two threads at once
            self.mine.processor = copy.deepcopy(self.processor)
        chat = self.conversation(record, pictures)
        prompt = process(self.mine.processor, chat, self.rope, self.template)
        render = partial(self.mine.processor.apply_chat_template, chat, tokenize=False, **self.template)
        refuse_unseen(record, prompt.ids, len(pictures), self.mine.processor, render)
        return Example(record, plain_messages(chat), pictures, prompt)


def row_numbers(records: Sequence[Record], split: str) -> Dataset:
    """A dataset of row numbers only: cheap to repeat, to shuffle and to send to workers."""
    return Dataset.from_dict({"row": range(len(records)), "split": [split] * len(records)})


def key_of(row: RowNumber) -> tuple[str, int]:
    return row["split"], row["row"]


def unique_keys(rows: list[RowNumber]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(map(key_of, rows)))


def process(
    processor: ProcessorMixin,
    conversation: list[dict[str, Any]],
    rope: Callable[..., Any] | None,
    template: dict[str, Any],
) -> Prompt:
    """A conversation with pixels -> Prompt, on the CPU."""
    fields = processor.apply_chat_template(
        [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **template
    )
    return prompt_of(dict(fields), rope)


def prompt_of(fields: dict[str, torch.Tensor], rope: Callable[..., Any] | None) -> Prompt:
    """What a processor gives for a batch of one -> Prompt."""
    ids, types = fields["input_ids"], {name: fields[name] for name in TOKEN_FIELDS if name in fields}
    known = {"input_ids", "attention_mask", *TOKEN_FIELDS}
    images = {name: value for name, value in fields.items() if name not in known and torch.is_tensor(value)}
    return Prompt(ids[0], positions_of(ids, types, images, rope), {n: v[0] for n, v in types.items()}, images)


def positions_of(
    ids: torch.Tensor, types: dict[str, torch.Tensor], images: dict[str, torch.Tensor], rope: Callable[..., Any] | None
) -> torch.Tensor:
    """Rotary positions of a prompt alone: (P,), or (3, P) of time, height, width for M-RoPE."""
    if rope is None:
        return torch.arange(ids.shape[1])
    if "image_grid_thw" not in images:
        return torch.arange(ids.shape[1]).expand(3, -1)
    positions, _ = rope(ids, mm_token_type_ids=types["mm_token_type_ids"], image_grid_thw=images["image_grid_thw"])
    return positions[:, 0]
