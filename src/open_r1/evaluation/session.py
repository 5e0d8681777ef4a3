"""A loaded model that answers questions about pictures: text while it is generated, then the parsed answer.

`eval/infer.py`, `eval/demo.py` and `eval/attention.py` share it. Prompt, generation and parser are the evaluator's, so
an answer here is the one that an evaluation would score.
"""

import re
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from open_r1.config.model_arguments import VLMConfig
from open_r1.data.record import Record
from open_r1.data.unlabeled import has_gold
from open_r1.errors import UsageError
from open_r1.evaluation.attention.films import Films
from open_r1.evaluation.attention.maps import attend, chosen_layer
from open_r1.evaluation.loader import loader_of, model_type
from open_r1.evaluation.question import SOURCE, Question
from open_r1.evaluation.run import image_limits
from open_r1.evaluation.settings import EvaluationSettings, settings_of
from open_r1.evaluation.token_stream import AnswerStopped, Stream
from open_r1.evaluation.tool_turns import Sampled
from open_r1.evaluation.transformers_engine import TransformersEngine, generation_config
from open_r1.models.banned_tokens import image_token_ids
from open_r1.models.loading import load_processor
from open_r1.models.model_parts import bare_model
from open_r1.report.heat import Attention
from open_r1.rewards.drawing import answered_outlines, draw_outlines, gold_outlines
from open_r1.rewards.parsing.answer import final_text, thinking_text
from open_r1.rewards.registry import parsed
from open_r1.rewards.trl_adapter import BatchReward
from open_r1.rewards.turns import Message, completion_text
from open_r1.rollout.prompts import Example
from open_r1.rollout.row_in_progress import continued
from open_r1.rollout.tool_turns import turns_again
from open_r1.rollout.trajectory import Trajectory
from open_r1.rollout.video_form import NO_FORM_REMEDY, resolved_form
from open_r1.tasks.find import find_task
from open_r1.tasks.task import Task
from open_r1.tools.asked_boxes import shown_pictures
from open_r1.tools.messages import ModelTurn

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def session_settings(args: Namespace) -> EvaluationSettings:
    """The settings of the flags of `add_answer_flags`, with the checkpoint's own values as defaults.

    Raises UsageError, or ValueError for an unknown name.
    """
    fixed = {"data_file_paths": SOURCE, "image_folders": None, "output_dir": Path(), "num_samples": 1, "backend": "hf"}
    return settings_of(Namespace(**vars(args) | fixed | {"batch_size": 1}))


@dataclass(frozen=True)
class Answer:
    """A completion and its example; `truncated`: its tokens `ids` have no end token, or a limit of tools cut it off.

    With tools `completion` is the last turn's text, `messages` are those of all turns, `turns` hold their pictures,
    `trajectory` their tokens.
    """

    completion: str
    ids: tuple[int, ...]
    truncated: bool
    seconds: float
    example: Example
    task: Task
    messages: Sequence[Message] = ()
    turns: Sequence[ModelTurn] = ()
    trajectory: Trajectory | None = None

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures of the question, then those of tools."""
        return [*self.example.pictures, *(self.trajectory.pictures if self.trajectory else ())]

    @property
    def record(self) -> Record:
        return self.example.record

    @property
    def thinking(self) -> str:
        """The text of its thinking."""
        return thinking_text(self.completion)

    @property
    def final(self) -> str:
        """The text of its answer."""
        return final_text(self.completion)

    @property
    def parsed(self) -> Any:
        """The answer that the accuracy method parses, as JSON, or None."""
        return parsed(self.completion, self.record)

    def rewards(self) -> list[tuple[str, float, float | None]]:
        """(name, weight, value) of each reward of the task; [] without a gold answer."""
        if not has_gold(self.record):
            return []
        shown = {"record": [self.record], "images": [list(self.example.pictures)]}
        named = zip(map(BatchReward, self.task.rewards), self.task.weights, strict=True)
        said = list(self.messages) or self.completion
        values = [(reward.__name__, weight, reward([""], [said], **shown)[0]) for reward, weight in named]
        return [(name, weight, value) for name, weight, value in values if value is not None]

    def strip(self, factor: int = 1) -> list[Image.Image]:
        """The pictures of the question, then those of tools, with the boxes that were asked for; [] without tools."""
        called = any(turn.answers for turn in self.turns)
        return shown_pictures(self.turns, self.record, self.example.pictures, factor) if called else []

    def drawings(self, factor: int = 1) -> list[Image.Image]:
        """The pictures, `factor` times as large, with the outlines of the answer and of the gold answer."""
        gold = gold_outlines(self.record) if has_gold(self.record) else ()
        outlines = answered_outlines(self.completion, self.record)
        pictures = [p.resize((p.width * factor, p.height * factor), Image.NEAREST) for p in self.example.pictures]
        return [draw_outlines(picture, gold, outlines, number) for number, picture in enumerate(pictures)]


class ModelSession:
    """A loaded model that answers one question at a time; threads take turns."""

    def __init__(self, settings: EvaluationSettings):
        model = VLMConfig(model_name_or_path=settings.model)
        self.settings, self.rows, self.turn = settings, dict[int, Record](), threading.Lock()
        self.processor = load_processor(model, image_limits(settings), settings.trust_remote_code)
        options = settings.chat_template_kwargs
        self.video_form, self.why_no_videos = resolved_form(
            settings.video_form, self.processor, model_type(settings), options
        )
        loader = loader_of(self.rows, replace(settings, prompt_mode="both"), self.processor, form=self.video_form)
        self.engine = TransformersEngine(settings, self.processor, loader)

    def ask(
        self, question: Question, settings: EvaluationSettings | None = None, stop: threading.Event | None = None
    ) -> Iterator[str | Answer]:
        """Yield the whole text so far, repeatedly; at the end the Answer, which `stop` cuts short.

        `settings` are this question's; of prompt modes the first is used. Raises DataError for an invalid question.
        """
        settings, stop = settings or self.settings, stop or threading.Event()
        example, tokenizer = self._example(question, settings), self.processor.tokenizer
        stream, since = Stream(stop), time.monotonic()
        with ThreadPoolExecutor(1, thread_name_prefix="answers") as background:
            try:
                work = background.submit(self._generate, example, settings, stream)
                for ids in stream:
                    yield tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
                sampled = work.result()
            finally:
                stop.set()  # a caller that stops iterating ends the generation
        yield self._answer(example, settings, sampled or Sampled(stream.ids), time.monotonic() - since)

    def teacher_forced(self, question: Question, completion: str) -> Answer:
        """A given completion as the Answer to a question; nothing is generated."""
        ids = self.processor.tokenizer(completion, add_special_tokens=False)["input_ids"]
        return self._answer(self._example(question, self.settings), self.settings, Sampled(ids), seconds=0.0)

    def _answer(self, example: Example, settings: EvaluationSettings, sampled: Sampled, seconds: float) -> Answer:
        ids, messages = sampled.ids, sampled.messages or ()
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=True) if not messages else None
        truncated = not ids or ids[-1] not in self.engine.ends or sampled.limited
        task = find_task(settings.tasks[0], settings.prompt_template)
        said = completion_text(messages) if text is None else text
        more = (messages, sampled.turns, sampled.trajectory)
        return Answer(said, tuple(ids), truncated, seconds, example, task, *more)

    def _example(self, question: Question, settings: EvaluationSettings) -> Example:
        record = question.record(settings.methods[0])
        if record.videos and self.video_form is None:
            got = f"got {settings.video_form} and a video, but {self.why_no_videos}"
            raise UsageError(f"--video_form: {got}; {NO_FORM_REMEDY}")
        with self.turn:
            number = max(self.rows, default=0) + 1  # the loader would reuse the example of an old number
            self.rows.clear()
            self.rows[number] = record
            return self.engine.loader.take([{"split": settings.modes[0], "row": number}])[0]

    def _generate(self, example: Example, settings: EvaluationSettings, stream: "Stream") -> Sampled | None:
        """The completion; None where it was stopped."""
        banned = image_token_ids(self.engine.model.config, self.processor)
        try:
            with self.turn:
                self.engine.config = generation_config(settings, self.processor, self.engine.ends, banned)
                return self.engine.answer([example], [settings.seed], streamer=stream)[0][0]
        except AnswerStopped:
            return None
        finally:
            stream.end_of_work()

    def attention(self, answer: Answer, layer: int | None = None, head: int | None = None) -> Attention:
        """The attention of each token of an answer that was sampled. Raises UsageError for an unknown layer, head or
        family."""
        model, prompt = bare_model(self.engine.model), answer.example.prompt
        layer, trajectory, scored = chosen_layer(model, layer, head), answer.trajectory, None
        if trajectory and (turns := turns_again(trajectory, self.engine.loader.fields, self.processor)):
            prompt, scored = continued(prompt, trajectory.ids, turns), trajectory.scored
        prompt = prompt.to(self.engine.model.device)
        rows = {"input_ids": prompt.ids, "attention_mask": torch.ones_like(prompt.ids), **prompt.types}
        fields = {name: value[None] for name, value in rows.items()} | prompt.images
        shapes = [picture.size for picture in answer.pictures]
        with self.turn:
            films = self._films(answer.example)
            return attend(model, self.processor, fields, shapes, answer.ids, layer, head, scored, films)

    def _films(self, example: Example) -> Films:
        """The videos of a prompt, as it shows them."""
        loader = self.engine.loader
        if loader.fields.video_form == "native":
            return Films(example.videos, loader.fields.video_ids)
        chat = loader.conversation(example.record, example.own_pictures)
        kinds = [part["type"] for message in chat for part in message["content"] if part["type"] != "text"]
        numbers, order = count(), []
        for kind in kinds:
            number = next(numbers) if kind == "video" else None
            order += [None] if number is None else [number] * len(example.videos[number].pixels)
        return Films(example.videos, order=order)


def printable(text: str) -> str:
    r"""A model's text for a terminal or a page: control characters and lone surrogates as escapes.

    >>> printable("a\tb\n\x1b[31m\ud800")
    'a\tb\n\\x1b[31m\\ud800'
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def enlargement(size: tuple[int, int], side: int) -> int:
    """The largest whole factor by which a picture of this size fits into `side` pixels; at least 1.

    >>> enlargement((112, 56), 640), enlargement((2000, 1000), 640)
    (5, 1)
    """
    return max(1, side // max(size))
