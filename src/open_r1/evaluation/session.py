"""One question about pictures to a model that was loaded once: its text as it comes, then what the answer says.

`eval/infer.py` and `eval/demo.py` share it. Prompt, generation and parser are the evaluator's, so an answer here is
the one that an evaluation would score.
"""

import os
import re
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from PIL import Image
from transformers.generation.streamers import BaseStreamer

from open_r1.config.arguments import VLMConfig
from open_r1.data.record import Record, parse_row
from open_r1.data.unlabeled import has_gold, with_placeholder
from open_r1.evaluation.answering import loader_of
from open_r1.evaluation.attention.maps import attend, chosen_layer
from open_r1.evaluation.run import limits
from open_r1.evaluation.settings import EvaluationSettings, settings_of
from open_r1.evaluation.transformers_engine import Transformers, generation_config
from open_r1.models.families import image_token_ids
from open_r1.models.loading import load_processor
from open_r1.report.heat import Attention
from open_r1.rewards.drawing import answered_outlines, draw_outlines, gold_outlines
from open_r1.rewards.gold import gold_score
from open_r1.rewards.parsing.answer import final_text, thinking_text
from open_r1.rewards.registry import get_rewards, parsed
from open_r1.rollout.prompts import Example
from open_r1.tasks.registry import TASKS, Task

SOURCE = "question"  # stands where an evaluation names a file
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def asking_settings(args: Namespace) -> EvaluationSettings:
    """The settings behind the flags of `add_asking`, the checkpoint's own for what was not given.

    Raises UsageError, or ValueError for an unknown name.
    """
    fixed = {"data_file_paths": SOURCE, "image_folders": None, "output_dir": Path(), "num_samples": 1, "backend": "hf"}
    return settings_of(Namespace(**vars(args) | fixed | {"batch_size": 1}))


@dataclass(frozen=True)
class Question:
    """What is asked; `images` stand at the text's `<image>` tags, or first where it has none. `extra` are further
    fields of the row, for the rewards; without `gold` nothing is scored."""

    text: str
    images: tuple[Path, ...] = ()
    gold: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def record(self, method: str) -> Record:
        """Raises DataError for tags that are not as many as images, and for a gold that `method` cannot use."""
        paths = [path.resolve() for path in self.images]
        folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
        names = [str(path.relative_to(folder)) for path in paths]
        row = {**self.extra, "problem": self.text, "solution": self.gold, "images": names}
        record = parse_row(with_placeholder(row, SOURCE), f"{SOURCE}:1", 1, folder, method)
        if has_gold(record):
            gold_score(record)
        return record


@dataclass(frozen=True)
class Answer:
    """A completion with the example that it answers; `truncated`: the tokens `ids` do not end as the model ends."""

    completion: str
    ids: tuple[int, ...]
    truncated: bool
    seconds: float
    example: Example
    task: Task

    @property
    def record(self) -> Record:
        return self.example.record

    @property
    def thinking(self) -> str:
        return thinking_text(self.completion)

    @property
    def final(self) -> str:
        """What it answers, as text."""
        return final_text(self.completion)

    @property
    def parsed(self) -> Any:
        """What the accuracy method reads, as JSON; None for nothing."""
        return parsed(self.completion, self.record)

    def rewards(self) -> list[tuple[str, float, float | None]]:
        """(name, weight, value) of each reward of the task; [] without a gold answer."""
        if not has_gold(self.record):
            return []
        named = zip(self.task.rewards, self.task.weights, get_rewards(self.task.rewards), strict=True)
        return [(name, weight, reward(self.completion, self.record)) for name, weight, reward in named]

    def drawn(self, factor: int = 1) -> list[Image.Image]:
        """The pictures, `factor` times as large, with what was answered and the gold drawn on them."""
        gold = gold_outlines(self.record) if has_gold(self.record) else ()
        said = answered_outlines(self.completion, self.record)
        pictures = [p.resize((p.width * factor, p.height * factor), Image.NEAREST) for p in self.example.pictures]
        return [draw_outlines(picture, gold, said, number) for number, picture in enumerate(pictures)]


class ModelSession:
    """A model that answers one question at a time, whichever thread asks."""

    def __init__(self, settings: EvaluationSettings):
        model = VLMConfig(model_name_or_path=settings.model)
        self.settings, self.rows, self.turn = settings, dict[int, Record](), threading.Lock()
        self.processor = load_processor(model, limits(settings), settings.trust_remote_code)
        loader = loader_of(self.rows, replace(settings, prompt_mode="both"), self.processor)
        self.engine = Transformers(settings, self.processor, loader)

    def ask(
        self, question: Question, settings: EvaluationSettings | None = None, stop: threading.Event | None = None
    ) -> Iterator[str | Answer]:
        """All text so far, again and again while it comes; last the Answer, which `stop` cuts short.

        `settings` are this question's; its first prompt mode counts. Raises DataError for what cannot be asked.
        """
        settings, stop = settings or self.settings, stop or threading.Event()
        example, tokenizer = self._example(question, settings), self.processor.tokenizer
        stream, since = Stream(stop), time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="answers") as behind:
            try:
                work = behind.submit(self._generate, example, settings, stream)
                for ids in stream:
                    yield tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
                work.result()
            finally:
                stop.set()  # whoever stops listening ends the generation
        seconds, ids = time.monotonic() - since, stream.ids
        text = tokenizer.decode(ids, skip_special_tokens=True)
        truncated = not ids or ids[-1] not in self.engine.ends
        yield Answer(text, tuple(ids), truncated, seconds, example, TASKS[settings.tasks[0]])

    def _example(self, question: Question, settings: EvaluationSettings) -> Example:
        record = question.record(settings.methods[0])
        with self.turn:
            number = max(self.rows, default=0) + 1  # the loader never works on a number twice
            self.rows.clear()
            self.rows[number] = record
            return self.engine.loader.take([{"split": settings.modes[0], "row": number}])[0]

    def _generate(self, example: Example, settings: EvaluationSettings, stream: "Stream") -> None:
        banned = image_token_ids(self.engine.model.config, self.processor)
        try:
            with self.turn:
                self.engine.config = generation_config(settings, self.processor, self.engine.ends, banned)
                self.engine.answer([example], [settings.seed], streamer=stream)
        except AnswerStopped:
            return
        finally:
            stream.end_of_work()

    def look(self, answer: Answer, layer: int | None = None, head: int | None = None) -> Attention:
        """What each token of an answer looked at. Raises UsageError for a layer, head or family that is not known."""
        model, prompt = self.engine.model, answer.example.prompt.to(self.engine.model.device)
        layer = chosen_layer(model, layer, head)
        rows = {"input_ids": prompt.ids, "attention_mask": torch.ones_like(prompt.ids), **prompt.types}
        fields = {name: value[None] for name, value in rows.items()} | prompt.images
        shapes = [picture.size for picture in answer.example.pictures]
        with self.turn:
            return attend(model, self.processor, fields, shapes, answer.ids, layer, head)


class AnswerStopped(Exception):
    """Generation was stopped; what was said until then is an answer."""


class Stream(BaseStreamer):
    """Token ids of one completion from the thread that generates them; iterated, all ids so far as they come."""

    def __init__(self, stop: threading.Event):
        self.stop, self.ids, self.prompted = stop, list[int](), False
        self.coming: Queue[int | None] = Queue()

    def put(self, value: torch.Tensor) -> None:
        """What `generate` calls, first with the prompt."""
        if self.prompted:
            self.ids.append(int(value))
            self.coming.put(self.ids[-1])
        self.prompted = True
        if self.stop.is_set():
            raise AnswerStopped

    def end(self) -> None:
        """`generate` has ended once; `end_of_work` says when nothing more comes."""

    def end_of_work(self) -> None:
        self.coming.put(None)

    def __iter__(self) -> Iterator[list[int]]:
        seen: list[int] = []
        while (token := self.coming.get()) is not None:
            seen.append(token)
            if self.coming.empty():  # a slow listener gets several at once
                yield list(seen)


def printable(text: str) -> str:
    r"""Text of a model for a terminal or a page: control characters and lone surrogates as escapes.

    >>> printable("a\tb\n\x1b[31m\ud800")
    'a\tb\n\\x1b[31m\\ud800'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def magnified(size: tuple[int, int], side: int) -> int:
    """How many times a picture of this size can be enlarged within `side`; at least 1.

    >>> magnified((112, 56), 640), magnified((2000, 1000), 640)
    (5, 1)
    """
    return max(1, side // max(size))
