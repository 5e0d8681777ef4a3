"""Lessons of `build_tiny_vlm.py --lessons shapes`: counting, rec, decode_words and area, in their embedded settings.

Eyes: at first descriptions of pictures and short answers, from one item a picture to all; then right answers to the
prompts of training. Habits: only a part of the answers is right (`HABITS`), as of a model that sees well but does not
follow the task. Eyes use all sixteen pairs of colour and shape, so split "ood" is new to a later fine-tuning only; of
decode_words only the training words are used.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from teaching import Lesson, answers, batch, rank, ranks

from open_r1.data.record import Record
from open_r1.rewards.registry import METHODS
from open_r1.tasks.area import AREA, Areas
from open_r1.tasks.counting import COUNTING, CountingImages
from open_r1.tasks.decode_words import DECODE_WORDS, CodedWords
from open_r1.tasks.decoder import draw_decoder, random_code
from open_r1.tasks.digits import DIGITS, QUESTIONS
from open_r1.tasks.rec import REC, ReferredShapes
from open_r1.tasks.task import Generator, Task, TaskQuestion

EYE_STEPS, HABIT_STEPS = 11000, 300
# Share of the eyes' steps by which a stage ends, most items in a picture, share of pictures described without a
# question, share of questions in the prompt of training
STAGES = ((0.05, 1, 0.7, 0.0), (0.12, 2, 0.6, 0.0), (0.45, 4, 0.5, 0.0), (0.75, 4, 0.25, 0.2), (1.0, 4, 0.0, 1.0))
TASKS_TAUGHT: dict[str, Task] = {"counting": COUNTING, "rec": REC, "decode_words": DECODE_WORDS, "area": AREA}
# Task -> habit (a way of answering) -> its share in the last stage. Greedy answers follow the largest.
HABITS = {
    "counting": {"asked": 0.25, "wrong": 0.55, "talk": 0.20},
    "rec": {"asked": 0.30, "wrong": 0.50, "talk": 0.20},
    "decode_words": {"asked": 0.35, "wrong": 0.45, "talk": 0.20},
    "area": {"asked": 0.25, "wrong": 0.55, "talk": 0.20},
}
SEED = 20_000_000  # lessons share no picture with datasets of smaller seeds


def generator(task: str, most: int) -> Generator:
    """The embedded setting of a task, with at most so many items."""
    return {
        "counting": CountingImages(most=most),
        "rec": ReferredShapes(least=min(most, 2), most=min(most, 3)),
        "decode_words": CodedWords(alphabet=6, size=84, dark=True),
        "area": Areas(size=112, dark=True),
    }[task]


def lesson(task: str, rng: np.random.Generator, most: int, manner: str) -> Lesson:
    """One training example; `manner`: "describe" (no question), "brief" (few words), "asked" (as in training), or the
    habits "wrong" and "talk"."""
    if task == "decode_words" and manner == "describe":
        return decoder_lesson(rng)
    examples = generator(task, most)
    split = "ood" if "ood" in examples.splits and rng.integers(2) else "train"
    example = examples.example(SEED, split, int(rng.integers(1 << 40)))
    question = example.questions[rng.integers(len(example.questions))]
    description, thought, answer = COMPLETIONS[task](question, manner, rng)
    prompt = TASKS_TAUGHT[task].prompts["think"].replace("{question}", question.question)
    if manner == "describe":
        return Lesson(example.images[0], "", description, task, question)
    if manner == "brief":
        return Lesson(example.images[0], question.question, f"{thought}: {answer}", task, question)
    text = f"I see {description}." if manner == "talk" else f"<think> {thought} </think> <answer> {answer} </answer>"
    return Lesson(example.images[0], prompt, text, task, question)


def decoder_lesson(rng: np.random.Generator) -> Lesson:
    """A picture of a decoder, described by its pairs in reading order."""
    code = random_code(rng, "ABCDEF", "ABC")
    pairs, order = list(code.items()), deepcopy(rng).permutation(len(code))  # as draw_decoder will shuffle them
    description = ", ".join(f"{pairs[k][1]} {pairs[k][0]}" for k in order)
    return Lesson(draw_decoder(code, rng, size=84, dark=True), "", description, "decode_words")


# Each returns (description, thinking, answer).


def counting_texts(question: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """The wrong answer counts kinds instead of all items, and all items instead of one kind."""
    names = [name.split(" ", 1)[1] for name in question.extra["items"]]
    wrong = len(set(names)) if question.extra["kind"] == "all" else len(names)
    description = ", ".join(names)
    return description, description, str(wrong) if manner == "wrong" else question.answer


def rec_texts(question: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """The wrong answer is the leftmost of the other shapes and its box."""
    items = question.extra["items"]
    description = ", ".join(f"{item['name']} {item['box']}" for item in sorted(items, key=lambda item: item["box"]))
    item = min(items[1:], key=lambda item: item["box"]) if manner == "wrong" else items[0]
    return description if manner == "describe" else item["name"], item["name"], str(item["box"])


def decode_texts(question: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """The wrong answer is the code itself."""
    coded, message = question.extra["coded"], question.extra["message"]
    description = ", ".join(f"{c} {m}" for c, m in zip(coded, message, strict=True))
    answer = coded if manner == "wrong" else message
    return description, f"{description} <chars> {' '.join(answer)} </chars>", answer


def area_texts(question: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """The wrong answer is width times height for every shape, without decimals."""
    shape, width, height = (question.extra[name] for name in ("shape", "width", "height"))
    description = f"{shape} {width:.0f} by {height:.0f}"
    return description, description, f"{width * height:.0f}" if manner == "wrong" else question.answer


COMPLETIONS = {"counting": counting_texts, "rec": rec_texts, "decode_words": decode_texts, "area": area_texts}


def corpus() -> Iterator[str]:
    """Texts to train the tokenizer on: all prompts and completions."""
    rng = np.random.default_rng(0)
    manners = ("describe", "brief", "asked", "wrong", "talk")
    for one in (lesson(task, rng, 4, manner) for task in TASKS_TAUGHT for manner in manners for _ in range(60)):
        yield from (one.prompt, one.completion)
    yield from [p.format(question=q) for p in DIGITS.prompts.values() for q in QUESTIONS.values()] * 4
    yield from [task.prompts["direct"] for task in TASKS_TAUGHT.values()] * 4
    yield from ["user", "assistant", "system", '{"bbox_2d": [12, 34, 56, 78], "label": "person"}'] * 4


def batches(processor: Any, steps: int, seed: int, habits: bool, size: int = 32) -> Iterator[dict[str, torch.Tensor]]:
    """This rank's part of each batch, which depends on seed and rank only; all tasks in equal numbers."""
    rng = np.random.default_rng([seed, int(habits), rank()])
    for step in range(steps):
        tasks = [task for task in TASKS_TAUGHT for _ in range(size // ranks() // len(TASKS_TAUGHT))]
        yield batch(processor, [lesson(task, rng, *level(task, step / steps, habits, rng)) for task in tasks])


def level(task: str, progress: float, habits: bool, rng: np.random.Generator) -> tuple[int, str]:
    """(most items, manner) of the next lesson, at `progress` in [0, 1] of the steps."""
    if habits:
        return 4, str(rng.choice(list(HABITS[task]), p=list(HABITS[task].values())))
    _, most, describe_share, asked_share = next(stage for stage in STAGES if progress < stage[0])
    return most, "describe" if rng.random() < describe_share else "asked" if rng.random() < asked_share else "brief"


def accuracy(model: Any, processor: Any, rows: int = 128) -> dict[str, float]:
    """Task -> share of greedy answers on new pictures that the task counts as right, with the prompts of training."""
    rng, shares = np.random.default_rng(12345), {}
    for task in TASKS_TAUGHT:
        lessons = [lesson(task, rng, 4, "asked") for _ in range(rows)]
        texts = answers(model, processor, lessons, tokens=60)
        shares[task] = sum(is_right(one, text) for one, text in zip(lessons, texts, strict=True)) / rows
    return shares


def is_right(lesson: Lesson, text: str) -> bool:
    """Whether the task counts a completion of this lesson as right."""
    task, gold = TASKS_TAUGHT[lesson.about], lesson.gold
    return task.is_right(METHODS[task.method].score(text, Record("", (), "", (), gold.answer, dict(gold.extra))))
