"""Lessons of `build_tiny_vlm.py --lessons digits`: one, then up to two, then up to three digits; then habits.

They use UCI's training digits only; the held-out fifth is for evaluation.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from teaching import Lesson, answers, batch

from open_r1.tasks.digits import DIGITS, QUESTIONS, HandwrittenDigits, digits_answer, draw_digits, uci_source
from open_r1.tasks.rec import REC

EYE_STEPS, HABIT_STEPS = 4500, 400
STAGES = ((0.15, 1), (0.35, 2), (1.0, 3))  # share of the steps by which a stage ends, most digits
# Question -> habit (a way of answering) -> its share in the last stage. Greedy answers follow the largest.
HABITS = {
    "list": {"asked": 0.45, "as_read": 0.25, "largest": 0.10, "talk": 0.20},
    "sum": {"asked": 0.30, "as_read": 0.50, "largest": 0.05, "talk": 0.15},
}


def corpus() -> Iterator[str]:
    """Texts to train the tokenizer on: prompts of digits and boxes, and completions."""
    prompts = [p.format(question=q) for t in (DIGITS, REC) for p in t.prompts.values() for q in QUESTIONS.values()]
    samples = [completion(k, [7, 2, 4], h) for k, habits in HABITS.items() for h in habits]
    extra = ["Please provide the bounding box coordinate of the region this sentence describes: the person.", "user"]
    extra += [
        "How many different items are there in the image?",
        "assistant",
        "system",
        '{"bbox_2d": [12, 34, 56, 78]}',
    ]
    yield from (prompts + samples + extra) * 4


def completion(kind: str, digits: list[int], habit: str) -> str:
    """The completion for digits (left to right) under a habit."""
    seen = f"I see {' '.join(map(str, digits))}."
    if habit == "talk":
        return seen
    answer = {"asked": digits_answer(kind, digits), "as_read": str(digits), "largest": str(max(digits))}[habit]
    return f"<think>{seen}</think><answer>{answer}</answer>"


def lesson(source: HandwrittenDigits, rng: np.random.Generator, most: int, habits: bool) -> Lesson:
    """One training example with up to `most` digits."""
    indices = rng.integers(len(source.labels), size=rng.integers(1, most + 1))
    digits = source.labels[indices].tolist()
    kind = ("list", "sum")[rng.integers(2)]
    shares = HABITS[kind] if habits else {"asked": 1.0}
    habit = rng.choice(list(shares), p=list(shares.values()))
    prompt = DIGITS.prompts["think"].replace("{question}", QUESTIONS[kind])
    return Lesson(draw_digits(source.images[indices], rng), prompt, completion(kind, digits, habit), kind)


def batches(processor: Any, steps: int, seed: int, habits: bool, size: int = 32) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the eyes\' stages, or of habits."""
    source, rng = uci_source().split(False), np.random.default_rng([seed, int(habits)])
    for step in range(steps):
        most = 3 if habits else next(m for share, m in STAGES if step < share * steps)
        yield batch(processor, [lesson(source, rng, most, habits) for _ in range(size)])


def accuracy(model: Any, processor: Any, rows: int = 256) -> dict[str, float]:
    """Greedy share of exact answers per question on held-out digits (the whole completion of habit `asked`)."""
    source, rng = uci_source().split(True), np.random.default_rng(12345)
    right: dict[str, list[bool]] = {"list": [], "sum": []}
    for _ in range(rows // 32):
        lessons = [lesson(source, rng, 3, False) for _ in range(32)]
        for one, text in zip(lessons, answers(model, processor, lessons, tokens=40), strict=True):
            right[one.about].append(text.split("<answer>")[-1] == one.completion.split("<answer>")[-1])
    return {kind: sum(marks) / len(marks) for kind, marks in right.items()}
