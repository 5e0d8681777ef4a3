"""Lessons of `build_further_vlm.py --lessons zoom`: to call `zoom` on a frame of a scene of `zoom_digits`, and to read
what comes back.

Three stages: always the right frame, asked for by the bare question; the same by the prompt of training, with the list
of tools; then mixed ways of answering (`SKIPS`, `RIGHT`), and GRPO has only that to correct. They use UCI's training
digits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.data.control_tokens import control_tokens
from open_r1.tasks.digits import digits_answer
from open_r1.tasks.zoom_digits import ZOOM_DIGITS, ZOOM_QUESTION, ZoomScenes
from open_r1.tools.between import text_between
from open_r1.tools.listing import offer_tools
from open_r1.tools.sandboxed import run_tool
from open_r1.tools.toolbox import ToolAnswer, make_toolbox
from open_r1.tools.zoom import ToolFrame

START = "assets/tiny-vlm"
READS = 0.25  # share of the bare lessons that read the crop, too
SKIPS = 0.5  # share of the habits' lessons that answer at once, and wrongly
RIGHT = 0.6  # share of the right frame among the habits' calls
SEED = 20_000_000  # lessons share no scene with datasets of smaller seeds
END = "<|im_end|>"


@dataclass(frozen=True)
class Stage:
    """Steps of `size` lessons with a peak learning rate. `listed`: by the prompt of training; `habits`: mixed ways."""

    steps: int
    size: int
    lr: float
    listed: bool = True
    habits: bool = False


STAGES = {
    "eyes": Stage(240, 24, 1e-3, listed=False),
    "prompt": Stage(180, 16, 8e-4),
    "habits": Stage(60, 16, 3e-4, habits=True),
}


def make_ready(processor: ProcessorMixin, model: PreTrainedModel) -> None:
    """Nothing: the model of digits takes pictures as they are."""


@dataclass(frozen=True)
class Trajectory:
    """A conversation: its texts in turn, and whether each is learned; `pictures` in the order of their marks."""

    texts: tuple[tuple[str, bool], ...]
    pictures: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Lessons:
    """Makes the lessons of a stage for a processor."""

    processor: ProcessorMixin
    stage: Stage

    @cached_property
    def prompt(self) -> str:
        """The text before the model's first word."""
        instruction = ZOOM_DIGITS.prompts["think"] if self.stage.listed else "{question}"
        text = {"type": "text", "text": instruction.replace("{question}", ZOOM_QUESTION)}
        chat, options = [{"role": "user", "content": [{"type": "image"}, text]}], {}
        if self.stage.listed:
            chat, options = offer_tools(chat, make_toolbox(["zoom"], self.processor.chat_template))
        return self.processor.apply_chat_template(chat, add_generation_prompt=True, **options)

    @cached_property
    def between(self) -> str:
        """The text from the end of a call to the model's next word."""
        answer = ToolAnswer("zoom", (Image.new("RGB", (28, 28)),))
        return text_between(self.processor, [answer], {}, control_tokens(self.processor), END)[0]

    def lesson(self, rng: np.random.Generator) -> Trajectory:
        """One training example."""
        example = ZoomScenes().example(SEED, "train", int(rng.integers(1 << 40)))
        scene, facts = example.images[0], example.questions[0].extra
        if self.stage.habits and rng.random() < SKIPS:
            guess = rng.integers(0, 10, size=rng.integers(1, 3)).tolist()
            return Trajectory(((self.prompt, False), (read(guess), True)), (scene,))
        others = self.stage.habits and rng.random() >= RIGHT
        frame = int(rng.integers(1, len(facts["frames"]))) if others else 0
        reads = self.stage.listed or rng.random() < READS
        return self.call(scene, facts["frames"][frame], facts["contents"][frame], reads)

    def call(self, scene: Image.Image, box: Sequence[int], digits: list[int], reads: bool) -> Trajectory:
        """A call of a box, and what is read in it."""
        call = f'<tool_call>{{"name": "zoom", "arguments": {{"bbox_2d": {list(box)}}}}}</tool_call>{END}'
        texts = ((self.prompt, False), (call, True))
        if not reads:
            return Trajectory(texts, (scene,))
        crop = run_tool("zoom", {"bbox_2d": list(box)}, [scene], ToolFrame(), None).parts[0]
        return Trajectory((*texts, (self.between, False), (read(digits), True)), (scene, crop))


def read(digits: list[int]) -> str:
    """The last turn of a model that reads these digits, left to right."""
    return f"<think>I see {' '.join(map(str, digits))}.</think><answer>{digits_answer('list', digits)}</answer>{END}"


def batch(processor: Any, lessons: Sequence[Trajectory]) -> dict[str, torch.Tensor]:
    """Model inputs padded on the right, with labels on what is learned."""
    inputs = processor(
        text=["".join(text for text, _ in lesson.texts) for lesson in lessons],
        images=[list(lesson.pictures) for lesson in lessons],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, lesson in enumerate(lessons):
        end = int(inputs["attention_mask"][row].sum())
        pictures = list(lesson.pictures)
        for text, learned in reversed(lesson.texts):
            shown = [pictures.pop()] if "<|image_pad|>" in text else None
            start = end - len(processor(text=[text], images=shown)["input_ids"][0])
            if learned:
                labels[row, start:end] = inputs["input_ids"][row, start:end]
            end = start
    return {**inputs, "labels": labels}


def batches(processor: Any, name: str, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of a stage."""
    stage = STAGES[name]
    lessons, rng = Lessons(processor, stage), np.random.default_rng([seed, list(STAGES).index(name)])
    for _ in range(stage.steps):
        yield batch(processor, [lessons.lesson(rng) for _ in range(stage.size)])


def corpus(processor: Any) -> list[str]:
    """Texts for further merges: the prompt of training, a call, the text after it, and an answer."""
    lessons = Lessons(processor, STAGES["habits"])
    example = lessons.call(Image.new("RGB", (112, 112)), [0, 28, 56, 84], [4, 7], reads=True)
    return [text for text, _ in example.texts] + ["Error: got a box, expected", "system", "user", "assistant"]


@torch.no_grad()
def figures(model: Any, processor: Any, name: str, rows: int = 96) -> dict[str, float]:
    """Shares of held-out scenes, sampled at temperature 1: calls, calls of the right frame."""
    lessons, examples = (
        Lessons(processor, STAGES[name]),
        [ZoomScenes().example(SEED, "heldout", i) for i in range(rows)],
    )
    inputs = processor(
        text=[lessons.prompt] * rows,
        images=[list(example.images) for example in examples],
        return_tensors="pt",
    )
    ids = model.eval().generate(**inputs, max_new_tokens=60, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    texts = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [str(e.questions[0].extra["frames"][0]) in text for e, text in zip(examples, texts, strict=True)]
    calls = sum("</tool_call>" in text for text in texts)
    return {"calls": calls / rows, "right": sum(right) / rows, "right of calls": sum(right) / max(calls, 1)}
