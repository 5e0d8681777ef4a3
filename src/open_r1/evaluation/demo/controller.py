"""The actions of the demo's buttons. Texts of the model and of visitors are shown as plain text."""

import html
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from PIL import Image

from open_r1.data.video.types import VideoFrames
from open_r1.errors import UsageError
from open_r1.evaluation.demo.limits import (
    MOST_ATTENDED,
    MOST_VIDEOS,
    Limits,
    number,
    question_of,
    refuse_long,
    settings_of_visitor,
)
from open_r1.evaluation.session import Answer, ModelSession, enlargement, printable
from open_r1.report.heat import Attention, heat, mapped_pictures
from open_r1.rewards.drawing import has_outlines
from open_r1.tasks.export import save_video
from open_r1.tasks.task import Generator

ENLARGED_SIDE = 640  # pixels: small pictures are shown enlarged up to it
MOST_NUMBER = 10**6  # of an example
NOT_OF_THE_PAGE = "This cannot be answered: an input is not of the kind that the page sends; reload it and ask again."
logger = logging.getLogger(__name__)


class DrawnClips:
    """The videos of drawn examples as files, in a folder that goes with the demo; a file for each video."""

    def __init__(self) -> None:
        self.folder, self.lock = TemporaryDirectory(prefix="open_r1_demo_"), threading.Lock()

    def file_of(self, video: VideoFrames, name: str) -> str:
        """The file of the video of this name."""
        path = Path(self.folder.name) / f"{name}.mp4"
        with self.lock:
            if not path.exists():
                save_video(path, video)
        return str(path)


@dataclass(frozen=True)
class DemoController:
    """The actions on one model, shared by all visitors; `stops` has an event for each visitor who waits."""

    session: ModelSession
    generator: Generator | None
    limits: Limits = field(default_factory=Limits)
    stops: dict[str, threading.Event] = field(default_factory=dict)
    clips: DrawnClips = field(default_factory=DrawnClips)

    def draw(self, number: int | None) -> tuple[list[Image.Image], str, str, Mapping[str, Any], list[str] | None]:
        """Held-out example `number` of the task: pictures, question, gold answer, further fields, videos."""
        if self.generator is None:
            raise page_error(UsageError("example: got a task without a generator, expected a question of your own"))
        number = whole("Number of the example", number or 0, 0, MOST_NUMBER)  # an emptied field is None
        split = "heldout" if "heldout" in self.generator.splits else self.generator.splits[-1]
        questions = len(self.generator.example(0, split, 0).questions)
        example = self.generator.example(0, split, number // questions)
        question = example.questions[number % questions]
        if len(example.videos) > MOST_VIDEOS:
            got = f"{len(example.videos)} videos, but the page takes {MOST_VIDEOS}"
            raise page_error(UsageError(f"example: got {got}"))
        names = [f"{number // questions}-{place}" for place in range(len(example.videos))]
        videos = list(map(self.clips.file_of, example.videos, names))
        return list(example.images), question.question, question.answer, question.extra, videos or None

    def ask(
        self,
        pictures: list[tuple[str, str | None]] | None,
        text: str,
        gold: str,
        extra: Mapping[str, Any],
        mode: str,
        temperature: float | None,
        tokens: int | None,
        seed: int | None,
        videos: list[str] | None,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the outputs of `answer_outputs`: empty ones, then with the text so far, last all of them."""
        stop = self.stops[request.session_hash] = threading.Event()
        end = threading.Timer(self.limits.seconds, stop.set)
        end.daemon = True
        yield "", "", "", hidden(), hidden(), None
        try:
            settings = settings_of_visitor(self.session.settings, mode, temperature, tokens, seed)
            question = question_of(pictures, text, gold, extra, videos)
            refuse_long(self.session, question, settings, self.limits)
            end.start()
            for now in self.session.ask(question, settings, stop):
                yield answer_outputs(now) if isinstance(now, Answer) else (printable(now), *[gr.skip()] * 5)
        except Exception as error:
            raise page_error(error) from error
        finally:
            end.cancel()
            self.stops.pop(request.session_hash, None)

    def stop(self, request: gr.Request) -> None:
        """Stop this visitor's generation; the tokens until then are the answer."""
        if event := self.stops.get(request.session_hash):
            event.set()

    def show_attention(self, answer: Answer | None) -> tuple[Any, ...]:
        """(attention, a slider over tokens, the token, heat maps) at the token with most attention on pictures."""
        try:
            if answer is None or not answer.example.has_media:
                raise UsageError("attention: got no answer about a picture or video, expected one; ask first")
            length = len(answer.example.prompt.ids) + len(answer.ids)
            if length > MOST_ATTENDED:
                raise UsageError(f"attention: got {length:,} tokens, expected at most {MOST_ATTENDED:,}; ask for less")
            attention = self.session.attention(answer)
        except Exception as error:
            raise page_error(error) from error
        first = int(attention.on_images.sum(axis=1).argmax()) + 1
        slider = gr.Slider(
            maximum=len(attention.tokens), value=first, visible=True, label=f"Token; {attention.source}"
        )
        return attention, slider, *step(attention, answer, first)


def answer_outputs(answer: Answer) -> tuple[Any, ...]:
    """(text, parsed answer, length, pictures with outlines, rewards, answer) for the page's components."""
    parsed = "nothing" if answer.parsed is None else json.dumps(answer.parsed, ensure_ascii=False)
    cut = ", cut off" if answer.truncated else ""
    frames = sum(len(video.seconds) for video in answer.example.videos)
    seen = f", {frames} frames seen" if frames else ""
    length = f"{len(answer.ids)} tokens, {answer.seconds:.1f} s{seen}{cut}"
    rows = [
        [name, f"{weight:g}", "-" if value is None else f"{value:.3f}"] for name, weight, value in answer.rewards()
    ]
    times = factor(answer.example.pictures)
    pictures = answer.strip(times) or (answer.drawings(times) if has_outlines(answer.record) else [])
    rewards = gr.Dataframe(rows, visible=bool(rows))
    said = "\n".join(turn.text for turn in answer.turns) or answer.completion
    return printable(said), printable(parsed), length, gallery(pictures), rewards, answer


def whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number within [least, most], for the page. Raises its error for anything else."""
    try:
        return int(number(name, value, least, most, whole=True))
    except UsageError as error:
        raise page_error(error) from error


def step(attention: Attention | None, answer: Answer | None, number: int) -> tuple[Any, Any]:
    """(the completion with token `number` highlighted, pictures under its heat map); counted from 1."""
    if attention is None or answer is None:
        return hidden(), hidden()
    at = whole("Token", number, 1, len(attention.tokens)) - 1
    before, after = (printable("".join(part)) for part in (attention.tokens[:at], attention.tokens[at + 1 :]))
    token = gr.HighlightedText(
        [(before, None), (printable(attention.tokens[at]), "token"), (after, None)], visible=True
    )
    seen = list(mapped_pictures(attention, answer.pictures, answer.example.videos))
    times = factor(seen)
    large = [p.resize((p.width * times, p.height * times), Image.Resampling.NEAREST) for p in seen]
    pictures = [heat(picture, one.levels()[at]) for picture, one in zip(large, attention.maps, strict=True)]
    shares = " and ".join(f"{share:.0%}" for share in attention.on_images[at])
    return token, gallery(pictures, label=f"Green: looked at most; {shares} on what was shown")


def factor(pictures: list[Image.Image]) -> int:
    """The factor by which all pictures of an answer are enlarged."""
    return min((enlargement(picture.size, ENLARGED_SIDE) for picture in pictures), default=1)


def gallery(pictures: list[Image.Image], **options: Any) -> gr.Gallery:
    """A gallery of these pictures, hidden without any."""
    return gr.Gallery(pictures, visible=bool(pictures), columns=min(2, max(1, len(pictures))), **options)


def hidden() -> dict[str, Any]:
    """The update that empties and hides a component."""
    return gr.update(value=None, visible=False)


def page_error(error: Exception) -> gr.Error:
    """An error message for the page, escaped because the page renders HTML; the log has what nobody expected."""
    if isinstance(error, gr.Error):
        return error
    text = str(error) if isinstance(error, UsageError) else NOT_OF_THE_PAGE
    if text is NOT_OF_THE_PAGE:
        logger.error("an action of the demo failed", exc_info=error)
    return gr.Error(html.escape(printable(text)), print_exception=False, title="This cannot be asked")
