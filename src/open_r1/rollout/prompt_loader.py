"""Rows -> prompts as the model takes them, in background threads; each unique row of a batch is processed once.

A row number becomes an `Example` in background threads, started when the data loader first yields the row (one batch
before its use) and kept until the next generation batch.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import get_worker_info
from transformers import ProcessorMixin

from open_r1.data.chat import plain_messages, with_videos
from open_r1.data.control_tokens import control_tokens, plain_twin
from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.frame_cache import FrameCache
from open_r1.data.video.inputs import pictures_shown, videos_in
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.errors import row_errors
from open_r1.rollout.image_tokens import refuse_missing_media, refuse_mixture
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import Example, RowMedia, process_chat
from open_r1.rollout.vllm.types import Request
from open_r1.tools.between import pictures_of_parts, with_opening
from open_r1.tools.sandboxed import AnswerPart

Opening = Callable[[Record, Sequence[Image.Image]], Sequence[AnswerPart]]
RowNumber = dict[str, Any]  # {"split": "train" | "eval", "row": int}
View = Callable[[RowNumber, Record, RowMedia], RowMedia]


class PromptLoader:
    """Loads batches of rows: `prefetch` starts one in the background, `take` waits for it; each unique row once.

    `conversation(record, pictures)` returns chat messages with the pictures in place; `fields`: how the model takes
    what the processor makes; `template` holds options of the chat template; `view(row, record, own)` returns the
    pictures and videos that are shown in place of a row's own; `opening(record, pictures)`, what an environment puts
    at the end of the prompt; `frames`: how videos are sampled, and `frame_cache`: what keeps their frames on disk.
    """

    def __init__(
        self,
        record_of: Callable[[RowNumber], Record],
        conversation: Callable[[Record, Sequence[Image.Image]], list[dict[str, Any]]],
        processor: ProcessorMixin,
        fields: PromptFields,
        workers: int,
        template: dict[str, Any],
        view: View | None = None,
        opening: Opening | None = None,
        frames: FrameSampling | None = None,
        frame_cache: FrameCache | None = None,
    ):
        self.opening, self.frames, self.frame_cache = opening, frames or FrameSampling(), frame_cache
        self.record_of, self.conversation, self.processor, self.view = record_of, conversation, processor, view
        self.fields, self.workers, self.template, self.thread = fields, workers, template, threading.local()
        self.control_tokens = control_tokens(processor, template)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="prompts")
        self.batch_thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.batches: OrderedDict[tuple[Any, ...], Future[dict[Any, Example]]] = OrderedDict()
        self.newest: list[RowNumber] = []  # the rows that a data loader asked for last

    def prefetch(self, rows: list[RowNumber]) -> list[RowNumber]:
        """Start loading these rows unless that has begun; returns them, so that it can be a collate function."""
        self.newest = rows
        if get_worker_info() is None:  # not in a data loader's own process
            self._begin(rows)
        return rows

    def prefetch_evaluation(self, rows: list[RowNumber]) -> list[RowNumber]:
        """As `prefetch`, of evaluation rows alone, where others than a data loader choose the training rows."""
        return self.prefetch(rows) if rows[0]["split"] == "eval" else rows

    def _begin(self, rows: list[RowNumber]) -> tuple[Any, ...]:
        """Start loading these rows unless that has begun; returns their keys."""
        keys = unique_keys(rows)
        if keys not in self.batches:
            self.batches[keys] = self.batch_thread.submit(self.load, rows)
        return keys

    @contextmanager
    def settled(self) -> Iterator[None]:
        """At the end of this context, however it ends, nothing is under way: a batch that is being loaded is waited
        for, those behind it are dropped. At the exit of a process threads fail, with a traceback, to begin others."""
        try:
            yield
        finally:
            self.batches = OrderedDict((keys, batch) for keys, batch in self.batches.items() if not batch.cancel())
            wait(self.batches.values())

    def take(self, rows: list[RowNumber]) -> list[Example]:
        """One Example a row, shared by equal rows. Raises DataError for images that are unreadable or dropped and for
        control tokens in texts, RowFailed for every other error."""
        keys = self._begin(rows)
        examples = self.batches[keys].result()
        while next(iter(self.batches)) != keys:  # forget older batches
            self.batches.popitem(last=False)
        return [examples[row_key(row)] for row in rows]

    def take_beside(self, rows: list[RowNumber]) -> list[Example]:
        """As `take`, of rows that no data loader asked for: what was begun in the background stays."""
        examples = self.batch_thread.submit(self.load, rows).result() if rows else {}
        return [examples[row_key(row)] for row in rows]

    def next_rows(self) -> list[RowNumber] | None:
        """The training rows that a data loader asked for after those that were taken last; None where it did not."""
        keys, taken = unique_keys(self.newest), next(iter(self.batches))
        return self.newest if keys and keys[0][0] == "train" and keys != taken else None

    def with_media(self, pairs: Sequence[tuple[Example, RowMedia]]) -> list[Example]:
        """Rows with other pictures and videos in place of their own, of the same sizes. Raises RowFailed."""
        return list(self.pool.map(self._with_media, *zip(*pairs, strict=True))) if pairs else []

    def request(self, example: Example, count: int, seed: int) -> Request:
        """The request to an engine with its own processor, with one token for each picture and video."""
        own = self._chat(example.record, example.own_pictures, example.videos, example.opening)
        chat = self.fields.shown(own)
        text = self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **self.template)
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        expanded, where = example.prompt.ids.tolist(), example.record.where
        return Request(
            where, ids, expanded, list(pictures_shown(chat)), chat, count, seed, videos=list(videos_in(chat))
        )

    def load(self, rows: list[RowNumber]) -> dict[Any, Example]:
        """Key -> Example of each unique row. Raises as `take` does."""
        unique = {row_key(row): row for row in rows}
        records = [self._record(row) for row in unique.values()]
        decoders = self.workers if get_worker_info() is None else 1  # workers of a data loader are as many themselves
        with row_errors([record.where for record in records], "images"):
            pictures = load_images(records, workers=self.workers)
            videos = load_videos(records, self.frames, workers=decoders, cache=self.frame_cache)
            own = list(map(RowMedia, pictures, videos))
            shown = list(map(self.view, unique.values(), records, own)) if self.view is not None else own
        return dict(zip(unique, self.pool.map(self._example, records, *zip(*shown, strict=True)), strict=True))

    def _record(self, row: RowNumber) -> Record:
        with row_errors([f"row {row['row']} of the {row['split']} rows"], "row"):
            return self.record_of(row)

    def _example(self, record: Record, pictures: list[Image.Image], videos: list[VideoFrames]) -> Example:
        with row_errors([record.where], "prompt"):
            return self._processed(record, pictures, videos)

    def _with_media(self, example: Example, other: RowMedia) -> Example:
        with row_errors([example.record.where], "prompt"):
            chat = self.fields.shown(with_videos(self.conversation(example.record, other.pictures), other.videos))
            prompt = process_chat(self._own_processor(), chat, self.fields, self.template)
            if not torch.equal(prompt.ids, example.prompt.ids):
                raise ValueError("another picture or video of the same size has other tokens in this processor")
        return replace(example, pictures=other.pictures, videos=other.videos, prompt=prompt)

    def _own_processor(self) -> ProcessorMixin:
        """This thread's copy of the processor: a fast tokenizer cannot be used by two threads at once."""
        if not hasattr(self.thread, "processor"):
            self.thread.processor = copy.deepcopy(self.processor)
        return self.thread.processor

    def _processed(self, record: Record, pictures: list[Image.Image], videos: list[VideoFrames]) -> Example:
        processor = self._own_processor()
        self.control_tokens.refuse([record])
        opening = self.opening(record, pictures) if self.opening else ()
        chat, shown = self._chat(record, pictures, videos, opening), [*pictures, *pictures_of_parts(opening)]
        refuse_mixture(record, len(shown), videos, self.fields)
        expanded = self.fields.shown(chat)
        render = partial(processor.apply_chat_template, tokenize=False, **self.template)
        rendered = render(expanded)
        self.control_tokens.refuse_made(record, rendered, render(plain_twin(expanded)))
        prompt = process_chat(processor, expanded, self.fields, self.template)
        refuse_missing_media(record, prompt.ids, len(shown), self.fields, rendered, videos)
        return Example(record, plain_messages(chat), shown, prompt, opening, videos)

    def _chat(
        self,
        record: Record,
        pictures: Sequence[Image.Image],
        videos: Sequence[VideoFrames],
        opening: Sequence[AnswerPart],
    ) -> list[dict[str, Any]]:
        """A row's chat messages with its pictures and videos, and what an environment puts at the end of them."""
        return with_opening(with_videos(self.conversation(record, pictures), videos), opening, self.control_tokens)


def row_numbers(records: Sequence[Record], split: str) -> Dataset:
    """A dataset of row numbers, which are cheap to repeat, to shuffle and to send to workers."""
    return Dataset.from_dict({"row": range(len(records)), "split": [split] * len(records)})


def row_key(row: RowNumber) -> tuple[str, int]:
    """(split, row) of a row number."""
    return row["split"], row["row"]


def unique_keys(rows: list[RowNumber]) -> tuple[Any, ...]:
    """The keys of rows, each once, in order."""
    return tuple(dict.fromkeys(map(row_key, rows)))
