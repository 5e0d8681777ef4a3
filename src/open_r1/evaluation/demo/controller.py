"""What the demo's buttons do. Texts of the model and of visitors are shown as text, never as HTML or Markdown."""

import html
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from open_r1.errors import UsageError
from open_r1.evaluation.session import Answer, ModelSession, Question, magnified, printable
from open_r1.evaluation.settings import check_settings
from open_r1.report.heat import Attention, heat
from open_r1.rewards.drawing import has_outlines
from open_r1.tasks.task import Generator

MOST_PICTURES = 16
ENLARGED_SIDE = 640  # pixels: small pictures are shown enlarged up to it


@dataclass(frozen=True)
class Desk:
    """One model for all who have the page open; `stops` holds an event for each session that is being answered."""

    asker: ModelSession
    generator: Generator | None
    stops: dict[str, threading.Event] = field(default_factory=dict)

    def draw(self, number: int | None) -> tuple[list[Image.Image], str, str, Mapping[str, Any]]:
        """Held-out example `number` (an emptied field is None) of the task: pictures, question, gold, further fields
        of its row."""
        number = int(number or 0)
        split = "heldout" if "heldout" in self.generator.splits else self.generator.splits[-1]
        questions = len(self.generator.example(0, split, 0).questions)
        example = self.generator.example(0, split, number // questions)
        asked = example.questions[number % questions]
        return list(example.images), asked.question, asked.answer, asked.extra

    def ask(
        self,
        pictures: list[tuple[str, str | None]] | None,
        text: str,
        gold: str,
        extra: Mapping[str, Any],
        mode: str,
        temperature: float,
        tokens: int | None,
        seed: int | None,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """What `shown` gives, first empty, then with the text so far, last with all of it."""
        paths = tuple(Path(path) for path, _ in pictures or ())
        known = {"prompt_mode": mode, "temperature": temperature, "max_completion_length": int(tokens or 0)}
        settings = replace(self.asker.settings, **known, seed=int(seed or 0))
        stop = self.stops[request.session_hash] = threading.Event()
        yield "", "", "", hidden(), hidden(), None
        try:
            if len(paths) > MOST_PICTURES:
                raise UsageError(f"pictures: got {len(paths)}, expected at most {MOST_PICTURES}; remove some")
            check_settings(settings)
            for now in self.asker.ask(Question(text, paths, gold.strip() or None, extra), settings, stop):
                yield shown(now) if isinstance(now, Answer) else (printable(now), *[gr.skip()] * 5)
        except ValueError as error:
            raise told(error) from error
        finally:
            self.stops.pop(request.session_hash, None)

    def stop(self, request: gr.Request) -> None:
        """End what this session waits for; the answer is what was said until then."""
        if found := self.stops.get(request.session_hash):
            found.set()

    def look(self, answer: Answer | None) -> tuple[Any, ...]:
        """(attention, a slider over tokens, the token, heat maps), at the token that looked most at pictures."""
        try:
            if answer is None or not answer.example.pictures:
                raise UsageError("attention: got no answer about a picture, expected one; ask first")
            seen = self.asker.look(answer)
        except ValueError as error:
            raise told(error) from error
        first = int(seen.on_images.sum(axis=1).argmax()) + 1
        slider = gr.Slider(maximum=len(seen.tokens), value=first, visible=True, label=f"Token; {seen.source}")
        return seen, slider, *step(seen, answer, first)


def shown(answer: Answer) -> tuple[Any, ...]:
    """(text, what was read, length, pictures with outlines, rewards, answer) as the page's parts have them."""
    read = "nothing" if answer.parsed is None else json.dumps(answer.parsed, ensure_ascii=False)
    cut = ", cut off" if answer.truncated else ""
    length = f"{len(answer.ids)} tokens, {answer.seconds:.1f} s{cut}"
    rows = [
        [name, f"{weight:g}", "-" if value is None else f"{value:.3f}"] for name, weight, value in answer.rewards()
    ]
    pictures = answer.drawn(factor(answer.example.pictures)) if has_outlines(answer.record) else []
    rewards = gr.Dataframe(rows, visible=bool(rows))
    return printable(answer.completion), printable(read), length, wall(pictures), rewards, answer


def step(seen: Attention | None, answer: Answer | None, number: int) -> tuple[Any, Any]:
    """(the token in its text, pictures under heat) of token `number`, counted from 1."""
    if seen is None or answer is None:
        return hidden(), hidden()
    at = min(int(number), len(seen.tokens)) - 1
    before, after = (printable("".join(part)) for part in (seen.tokens[:at], seen.tokens[at + 1 :]))
    token = gr.HighlightedText([(before, None), (printable(seen.tokens[at]), "token"), (after, None)], visible=True)
    times = factor(answer.example.pictures)
    large = [p.resize((p.width * times, p.height * times), Image.Resampling.NEAREST) for p in answer.example.pictures]
    pictures = [heat(picture, weights[at]) for picture, weights in zip(large, seen.images, strict=True)]
    shares = " and ".join(f"{share:.0%}" for share in seen.on_images[at])
    return token, wall(pictures, label=f"Green: looked at most; {shares} on pictures")


def factor(pictures: list[Image.Image]) -> int:
    """How many times all pictures of an answer are enlarged to be seen."""
    return min((magnified(picture.size, ENLARGED_SIDE) for picture in pictures), default=1)


def wall(pictures: list[Image.Image], **options: Any) -> gr.Gallery:
    """The gallery with these pictures, hidden where there is none."""
    return gr.Gallery(pictures, visible=bool(pictures), columns=min(2, max(1, len(pictures))), **options)


def hidden() -> dict[str, Any]:
    return gr.update(value=None, visible=False)


def told(error: ValueError) -> gr.Error:
    """What cannot be asked, as the page says it, which would render HTML."""
    return gr.Error(html.escape(printable(str(error))), print_exception=False, title="This cannot be asked")
