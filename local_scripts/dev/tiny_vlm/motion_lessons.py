"""Lessons of `build_further_vlm.py --lessons motion`: to see what changes from frame to frame of a clip.

Four stages: short answers to the bare questions of `motion`, then most about turning arrows; right answers to the
prompt of training; then mixed ways of answering (`HABITS`), and GRPO has only that to correct. Clips of lessons are
drawn, not encoded. When `assets/tiny-vlm-motion` was made, arrows of the first stage had half the size, and it learned
turns in the second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin, Qwen2_5_VLForConditionalGeneration

from open_r1.data.record import Record
from open_r1.data.video.inputs import metadata_of
from open_r1.data.video.types import VideoFrames
from open_r1.rewards.registry import METHODS
from open_r1.tasks.motion import MOTION, TURNS, WAYS, MotionClips
from open_r1.tasks.task import TaskQuestion

START = "assets/tiny-vlm-shapes"
SEED = 20_000_000  # lessons share no clip with datasets of smaller seeds
END = "<|im_end|>"
KINDS = ("way", "turn", "next", "visits")
PIXELS_OF_FRAME = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
# Kind of question -> habit (a way of answering) -> its share in the last stage. Greedy answers follow the largest.
HABITS = {
    "way": {"asked": 0.45, "wrong": 0.35, "talk": 0.20},
    "turn": {"asked": 0.45, "wrong": 0.35, "talk": 0.20},
    "next": {"asked": 0.30, "wrong": 0.50, "talk": 0.20},
    "visits": {"asked": 0.30, "wrong": 0.50, "talk": 0.20},
}


@dataclass(frozen=True)
class Stage:
    """Steps of `size` lessons with a peak learning rate. `short`: answers without tags; `asked`: by the prompt of
    training; `habits`: mixed ways; `turns`: the share of questions about turning arrows, which are learned last."""

    steps: int
    size: int
    lr: float
    short: bool = False
    asked: bool = False
    habits: bool = False
    turns: float = 0.25


STAGES = {
    "eyes": Stage(1500, 32, 1e-3, short=True),
    "turns": Stage(500, 32, 6e-4, short=True, turns=0.55),
    "prompt": Stage(350, 32, 5e-4, asked=True),
    "habits": Stage(120, 32, 2e-4, asked=True, habits=True),
}


@dataclass(frozen=True)
class ClipLesson:
    """A training example: a clip, the user's text, the completion to learn; `gold` for grading."""

    clip: VideoFrames
    prompt: str
    completion: str
    gold: TaskQuestion


def make_ready(processor: ProcessorMixin, model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Videos in the chat template, frames of few pixels, and Qwen2.5-VL's positions of time."""
    image = "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    video = "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    processor.chat_template = processor.chat_template.replace(image, image + video)
    processor.video_processor.size = dict(PIXELS_OF_FRAME)
    processor.video_processor.cap_pixels_per_frame = True  # as the published processors will have it
    model.config.vision_config.tokens_per_second = 2  # as the published models have it


def opposite(question: TaskQuestion) -> str:
    """The answer to the reversed clip; of a number of visits, visits and absences together."""
    kind, answer = question.extra["kind"], question.answer
    if kind == "way":
        dx, dy = WAYS[answer]
        return next(way for way, step in WAYS.items() if step == (-dx, -dy))
    if kind == "turn":
        return next(turn for turn in TURNS if turn != answer)
    if kind == "next":
        return from_asked(question)[-1]
    return str(2 * int(answer))


def from_asked(question: TaskQuestion) -> list[str]:
    """The colours of a clip in their order, from the one that the question names; none for another question."""
    colors = question.extra.get("colors", [])
    return sorted(colors, key=lambda color: (colors.index(color) - colors.index(question.answer) + 1) % len(colors))


def thought(question: TaskQuestion) -> str:
    """What is seen, in words."""
    kind, answer = question.extra["kind"], question.answer
    return {
        "way": f"It moves {answer}.",
        "turn": f"It turns {answer}.",
        "next": f"The colours go {', '.join(from_asked(question))}.",
        "visits": f"It is seen {answer} times.",
    }[kind]


def completion(question: TaskQuestion, habit: str) -> str:
    """A completion of a habit."""
    if habit == "talk":
        return thought(question)
    answer = opposite(question) if habit == "wrong" else question.answer
    return f"<think>{thought(question)}</think><answer>{answer}</answer>"


def lesson(rng: np.random.Generator, stage: Stage, split: str = "train") -> ClipLesson:
    """One training example."""
    others = (1 - stage.turns) / (len(KINDS) - 1)
    kind = rng.choice(len(KINDS), p=[stage.turns if kind == "turn" else others for kind in KINDS])
    example = MotionClips().example(SEED, split, len(KINDS) * int(rng.integers(1 << 40)) + kind)
    (question,), (clip,) = example.questions, example.videos
    habits = HABITS[question.extra["kind"]] if stage.habits else {"asked": 1.0}
    habit = rng.choice(list(habits), p=list(habits.values()))
    prompt = (MOTION.prompts["think"] if stage.asked else "{question}").replace("{question}", question.question)
    text = f"{thought(question)} {question.answer}" if stage.short else completion(question, habit)
    return ClipLesson(clip, prompt, text, question)


def prompt_text(processor: Any, prompt: str) -> str:
    """A clip and a user text in the chat template."""
    message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}
    return processor.apply_chat_template([message], add_generation_prompt=True)


def fields_of(
    processor: Any, clips: Sequence[VideoFrames], texts: Sequence[str], side: str
) -> dict[str, torch.Tensor]:
    """Model inputs, padded on a side."""
    metadata = [metadata_of(clip) for clip in clips]
    options = {"do_sample_frames": False, "video_metadata": metadata, "padding": True, "padding_side": side}
    return processor(text=texts, videos=[clip.pixels for clip in clips], return_tensors="pt", **options)


def batch(processor: Any, lessons: Sequence[ClipLesson]) -> dict[str, torch.Tensor]:
    """Model inputs with labels on the completions."""
    texts = [prompt_text(processor, one.prompt) + one.completion + END for one in lessons]
    inputs = fields_of(processor, [one.clip for one in lessons], texts, "right")
    labels = torch.full_like(inputs["input_ids"], -100)
    for row, tokens in enumerate(processor.tokenizer([one.completion + END for one in lessons])["input_ids"]):
        end = int(inputs["attention_mask"][row].sum())
        labels[row, end - len(tokens) : end] = torch.tensor(tokens)
    return {**inputs, "labels": labels}


def batches(processor: Any, name: str, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of a stage."""
    stage, rng = STAGES[name], np.random.default_rng([seed, list(STAGES).index(name)])
    for _ in range(stage.steps):
        yield batch(processor, [lesson(rng, stage) for _ in range(stage.size)])


def corpus(processor: Any) -> list[str]:
    """Texts for further merges: the prompts of training, and completions of all manners."""
    rng, texts = np.random.default_rng(0), ["system", "user", "assistant"]
    lessons = [lesson(rng, stage) for stage in STAGES.values() for _ in range(400)]
    return texts + [text for one in lessons for text in (one.prompt, one.completion)]


@torch.no_grad()
def figures(model: Any, processor: Any, name: str, rows: int = 128) -> dict[str, float]:
    """Shares of greedy answers on held-out clips, of each kind, that are right, and whose thought is right."""
    rng, shares = np.random.default_rng(12345), {}
    lessons = [lesson(rng, replace(STAGES[name], habits=False), "heldout") for _ in range(rows)]
    texts = [prompt_text(processor, one.prompt) for one in lessons]
    inputs = fields_of(processor, [one.clip for one in lessons], texts, "left")
    ids = model.eval().generate(**inputs, max_new_tokens=40, do_sample=False)
    said = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    for kind in KINDS:
        own = [(one, text) for one, text in zip(lessons, said, strict=True) if one.gold.extra["kind"] == kind]
        shares[kind] = fmean(is_right(one, text) for one, text in own)
        shares[f"{kind} seen"] = fmean(thought(one.gold) in text for one, text in own)
    return {name: round(share, 3) for name, share in shares.items()}


def is_right(lesson: ClipLesson, text: str) -> bool:
    """Whether the task counts a completion as right; of a bare question, the last words."""
    if "<answer>" not in text:
        return text.endswith(f" {lesson.gold.answer}")
    record = Record("", (), "", (), lesson.gold.answer)
    return MOTION.is_right(METHODS[MOTION.method].score(text, record))
