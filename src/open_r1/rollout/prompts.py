"""Rows -> prompts as the model takes them, in background threads; each unique row of a batch is processed once.

A row number becomes an `Example` in background threads, started when the data loader first yields the row (one batch
before its use) and kept until the next generation batch. All G completions refer to one `Prompt`: the host holds its
fields once, the device repeats them only where the model runs on padded rows.
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
from open_r1.data.control_tokens import control_tokens, plain_twin
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.errors import row_errors
from open_r1.rollout.image_tokens import refuse_missing_images
from open_r1.rollout.vllm.types import Request

RowNumber = dict[str, Any]  # {"split": "train" | "eval", "row": int}
TOKEN_FIELDS = ("token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Prompt:
    """One prompt of P tokens, images expanded.

    `ids` (P,); `positions`: rotary positions, (P,) or, for M-RoPE, (3, P); `types`: per-token fields (P,); `images`:
    the processor's fields of its images; `features`: a frozen vision tower's output for them, else None.
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
    """A row with its pictures and prompt; `conversation` is text, with `<image>` for each picture."""

    record: Record
    conversation: list[dict[str, str]]
    pictures: list[Image.Image]
    prompt: Prompt

    def columns(self) -> dict[str, Any]:
        """The columns that TRL passes to rewards."""
        return {"prompt": self.conversation, "record": self.record, "pictures": self.pictures}


class PromptLoader:
    """Loads batches of rows: `prefetch` starts one in the background, `take` waits for it; each unique row once.

    `conversation(record, pictures)` returns chat messages with the pictures in place; `rope` is the model's
    `get_rope_index`, or None; `template` holds options of the chat template.
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
        self.rope, self.workers, self.template, self.thread = rope, workers, template, threading.local()
        self.control_tokens = control_tokens(processor, template)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="prompts")
        self.batch_thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.batches: OrderedDict[tuple[Any, ...], Future[dict[Any, Example]]] = OrderedDict()

    def prefetch(self, rows: list[RowNumber]) -> list[RowNumber]:
        """Start loading these rows unless that has begun; returns them, so that it can be a collate function."""
        keys = unique_keys(rows)
        if keys not in self.batches and get_worker_info() is None:  # not in a data loader's own process
            self.batches[keys] = self.batch_thread.submit(self.load, rows)
        return rows

    def take(self, rows: list[RowNumber]) -> list[Example]:
        """One Example a row, shared by equal rows. Raises DataError for images that are unreadable or dropped and for
        control tokens in texts, RowFailed for every other error."""
        keys = unique_keys(self.prefetch(rows))
        examples = self.batches[keys].result()
        while next(iter(self.batches)) != keys:  # forget older batches
            self.batches.popitem(last=False)
        return [examples[row_key(row)] for row in rows]

    def request(self, example: Example, count: int, seed: int) -> Request:
        """The request to an engine with its own processor, with one token for each image."""
        chat = self.conversation(example.record, example.pictures)
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **self.template)
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Request(example.record.where, ids, example.prompt.ids.tolist(), example.pictures, chat, count, seed)

    def load(self, rows: list[RowNumber]) -> dict[Any, Example]:
        """Key -> Example of each unique row. Raises as `take` does."""
        unique = {row_key(row): row for row in rows}
        records = [self._record(row) for row in unique.values()]
        with row_errors([record.where for record in records], "images"):
            pictures = load_images(records, workers=self.workers)
        return dict(zip(unique, self.pool.map(self._example, records, pictures), strict=True))

    def _record(self, row: RowNumber) -> Record:
        with row_errors([f"row {row['row']} of the {row['split']} rows"], "row"):
            return self.record_of(row)

    def _example(self, record: Record, pictures: list[Image.Image]) -> Example:
        with row_errors([record.where], "prompt"):
            return self._processed(record, pictures)

    def _processed(self, record: Record, pictures: list[Image.Image]) -> Example:
        if not hasattr(self.thread, "processor"):  # a fast tokenizer cannot be used by two threads at once
            self.thread.processor = copy.deepcopy(self.processor)
        self.control_tokens.refuse([record])
        chat = self.conversation(record, pictures)
        render = partial(self.thread.processor.apply_chat_template, tokenize=False, **self.template)
        rendered = render(chat)
        self.control_tokens.refuse_made(record, rendered, render(plain_twin(chat)))
        prompt = process_chat(self.thread.processor, chat, self.rope, self.template)
        refuse_missing_images(record, prompt.ids, len(pictures), self.thread.processor, rendered)
        return Example(record, plain_messages(chat), pictures, prompt)


def row_numbers(records: Sequence[Record], split: str) -> Dataset:
    """A dataset of row numbers, which are cheap to repeat, to shuffle and to send to workers."""
    return Dataset.from_dict({"row": range(len(records)), "split": [split] * len(records)})


def row_key(row: RowNumber) -> tuple[str, int]:
    """(split, row) of a row number."""
    return row["split"], row["row"]


def unique_keys(rows: list[RowNumber]) -> tuple[Any, ...]:
    """The keys of rows, each once, in order."""
    return tuple(dict.fromkeys(map(row_key, rows)))


def process_chat(
    processor: ProcessorMixin,
    conversation: list[dict[str, Any]],
    rope: Callable[..., Any] | None,
    template: dict[str, Any],
) -> Prompt:
    """Chat messages with pictures -> Prompt, on the CPU."""
    fields = processor.apply_chat_template(
        [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **template
    )
    return prompt_from_fields(dict(fields), rope)


def prompt_from_fields(fields: dict[str, torch.Tensor], rope: Callable[..., Any] | None) -> Prompt:
    """A processor's output for a batch of one -> Prompt."""
    ids, types = fields["input_ids"], {name: fields[name] for name in TOKEN_FIELDS if name in fields}
    text_fields = {"input_ids", "attention_mask", *TOKEN_FIELDS}
    images = {name: value for name, value in fields.items() if name not in text_fields and torch.is_tensor(value)}
    return Prompt(ids[0], rotary_positions(ids, types, images, rope), {n: v[0] for n, v in types.items()}, images)


def rotary_positions(
    ids: torch.Tensor, types: dict[str, torch.Tensor], images: dict[str, torch.Tensor], rope: Callable[..., Any] | None
) -> torch.Tensor:
    """Rotary positions of a prompt: (P,), or for M-RoPE (3, P): time, height, width."""
    if rope is None:
        return torch.arange(ids.shape[1])
    if "image_grid_thw" not in images:
        return torch.arange(ids.shape[1]).expand(3, -1)
    positions, _ = rope(ids, mm_token_type_ids=types["mm_token_type_ids"], image_grid_thw=images["image_grid_thw"])
    return positions[:, 0]
