"""What `build_tiny_vlm.py --lessons shapes` teaches: counting, rec, decode_words and area, in their embedded settings.

Eyes: first pictures alone are described and questions answered in few words, from one item a picture to all; then the
prompts of training are answered as asked. Habits: that happens only some of the time (`HABITS`), as in a model that
sees well but does not follow the task. Eyes are taught on all sixteen pairs of colour and shape, so split "ood" is new
to a later fine-tuning, not to the eyes; of decode_words only the training words are shown.
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
TAUGHT: dict[str, Task] = {"counting": COUNTING, "rec": REC, "decode_words": DECODE_WORDS, "area": AREA}
# Per task: how often each way of answering is shown in the last stage. The habit shown most is the greedy one.
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
    """`manner`: "describe" (no question), "brief" (few words), "asked" (as in training); habits: "wrong", "talk"."""
    if task == "decode_words" and manner == "describe":
        return decoder_lesson(rng)
    made = generator(task, most)
    split = "ood" if "ood" in made.splits and rng.integers(2) else "train"
    example = made.example(SEED, split, int(rng.integers(1 << 40)))
    asked = example.questions[rng.integers(len(example.questions))]
    seen, thought, answer = SAY[task](asked, manner, rng)
    prompt = TAUGHT[task].prompts["think"].replace("{question}", asked.question)
    if manner == "describe":
        return Lesson(example.images[0], "", seen, task, asked)
    if manner == "brief":
        return Lesson(example.images[0], asked.question, f"{thought}: {answer}", task, asked)
    said = f"I see {seen}." if manner == "talk" else f"<think> {thought} </think> <answer> {answer} </answer>"
    return Lesson(example.images[0], prompt, said, task, asked)


def decoder_lesson(rng: np.random.Generator) -> Lesson:
    """A decoder and its pairs in the order of reading."""
    code = random_code(rng, "ABCDEF", "ABC")
    pairs, order = list(code.items()), deepcopy(rng).permutation(len(code))  # as draw_decoder will shuffle them
    said = ", ".join(f"{pairs[k][1]} {pairs[k][0]}" for k in order)
    return Lesson(draw_decoder(code, rng, size=84, dark=True), "", said, "decode_words")


# Each gives (what is seen, what is thought, the answer).


def say_counting(asked: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """Wrong: kinds where all items are asked for, all items where one kind is."""
    names = [name.split(" ", 1)[1] for name in asked.extra["items"]]
    wrong = len(set(names)) if asked.extra["kind"] == "all" else len(names)
    seen = ", ".join(names)
    return seen, seen, str(wrong) if manner == "wrong" else asked.answer


def say_rec(asked: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """Wrong: the leftmost of the other shapes and its box."""
    items = asked.extra["items"]
    seen = ", ".join(f"{item['name']} {item['box']}" for item in sorted(items, key=lambda item: item["box"]))
    item = min(items[1:], key=lambda item: item["box"]) if manner == "wrong" else items[0]
    return seen if manner == "describe" else item["name"], item["name"], str(item["box"])


def say_decode(asked: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """Wrong: the code itself."""
    coded, message = asked.extra["coded"], asked.extra["message"]
    seen = ", ".join(f"{c} {m}" for c, m in zip(coded, message, strict=True))
    said = coded if manner == "wrong" else message
    return seen, f"{seen} <chars> {' '.join(said)} </chars>", said


def say_area(asked: TaskQuestion, manner: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """Wrong: width times height, whatever the shape, without decimals."""
    shape, width, height = (asked.extra[name] for name in ("shape", "width", "height"))
    seen = f"{shape} {width:.0f} by {height:.0f}"
    return seen, seen, f"{width * height:.0f}" if manner == "wrong" else asked.answer


SAY = {"counting": say_counting, "rec": say_rec, "decode_words": say_decode, "area": say_area}


def corpus() -> Iterator[str]:
    """Texts whose words the tokenizer should know whole: all prompts, and what the teacher says."""
    rng = np.random.default_rng(0)
    manners = ("describe", "brief", "asked", "wrong", "talk")
    for one in (lesson(task, rng, 4, manner) for task in TAUGHT for manner in manners for _ in range(60)):
        yield from (one.prompt, one.said)
    yield from [p.format(question=q) for p in DIGITS.prompts.values() for q in QUESTIONS.values()] * 4
    yield from [task.prompts["direct"] for task in TAUGHT.values()] * 4
    yield from ["user", "assistant", "system", '{"bbox_2d": [12, 34, 56, 78], "label": "person"}'] * 4


def batches(processor: Any, steps: int, seed: int, habits: bool, size: int = 32) -> Iterator[dict[str, torch.Tensor]]:
    """This rank's part of each batch, by the seed and the rank alone; all tasks in equal numbers."""
    rng = np.random.default_rng([seed, int(habits), rank()])
    for step in range(steps):
        tasks = [task for task in TAUGHT for _ in range(size // ranks() // len(TAUGHT))]
        yield batch(processor, [lesson(task, rng, *level(task, step / steps, habits, rng)) for task in tasks])


def level(task: str, done: float, habits: bool, rng: np.random.Generator) -> tuple[int, str]:
    """(most items, manner) of the next lesson, `done` of the stage's steps behind it."""
    if habits:
        return 4, str(rng.choice(list(HABITS[task]), p=list(HABITS[task].values())))
    _, most, described, asked = next(stage for stage in STAGES if done < stage[0])
    return most, "describe" if rng.random() < described else "asked" if rng.random() < asked else "brief"


def accuracy(model: Any, processor: Any, rows: int = 128) -> dict[str, float]:
    """Greedy share of right answers per task, as the task counts them, to the prompts of training on new pictures."""
    rng, shares = np.random.default_rng(12345), {}
    for task in TAUGHT:
        asked = [lesson(task, rng, 4, "asked") for _ in range(rows)]
        said = answers(model, processor, asked, tokens=60)
        shares[task] = sum(is_right(one, text) for one, text in zip(asked, said, strict=True)) / rows
    return shares


def is_right(lesson: Lesson, text: str) -> bool:
    """Whether the task counts a completion as a right answer to its lesson."""
    task, gold = TAUGHT[lesson.about], lesson.gold
    return task.is_right(METHODS[task.method].score(text, Record("", (), "", (), gold.answer, dict(gold.extra))))
