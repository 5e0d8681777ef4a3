"""What rewards and accuracy methods are, and the two ways a row can be malformed for them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import DataError, Problem, shorten
from open_r1.rewards.parsing.answer import extract_answer, final_text

# One completion's text and its record -> a value, or None for "does not apply". Pure, deterministic, no I/O.
Reward = Callable[[str, Record], float | None]


@dataclass(frozen=True)
class Outline:
    """A closed line on one of a record's pictures, for people: the corners of a box or of a polygon.

    `points` are (x, y) in [0, 1] of the displayed original image's width and height; `image` counts the pictures.
    """

    points: tuple[tuple[float, float], ...]
    label: str | None = None
    image: int = 0


def read_final_text(completion: str, record: Record) -> Any:
    """What most methods read: the final text, or None where there is none."""
    return final_text(completion) or None


def nothing_to_draw(completion: str, record: Record) -> tuple[Outline, ...]:
    """The outlines of a method whose answers lie nowhere on a picture."""
    return ()


@dataclass(frozen=True)
class Method:
    """How accuracy is measured: `score` in [minimum, maximum]; `parse` shows what was read (JSON), None for nothing.

    A malformed completion scores `minimum`; a malformed record raises DataError. `ready` raises ValueError, before
    training, where the method lacks something outside of the rows: a judge's endpoint. `thought` gives what a perfect
    completion thinks before it answers. `gold_earns` says what a row's own gold answer earns where that is less than
    `maximum`: a polygon is not the mask. `outlines` are what a completion answers with on the picture. A method that
    `asks` another machine has deadlines of its own, and stays in the process whose threads share its answers.
    """

    score: Callable[[str, Record], float]
    maximum: float = 1.0
    minimum: float = 0.0
    parse: Callable[[str, Record], Any] = read_final_text
    thought: Callable[[Record], str] = lambda record: "..."
    ready: Callable[[], None] | None = None
    asks: bool = False
    gold_earns: Callable[[Record], float] | None = None
    outlines: Callable[[str, Record], tuple[Outline, ...]] = nothing_to_draw


def outline(points: Iterable[tuple[float, float]], wh: tuple[float, float], label: str | None = None) -> Outline:
    """An outline of corners in pixels of an image of `wh` (width, height), moved inside of it.

    >>> outline([(0, 0), (320, 0), (320, 900)], (640, 425))
    Outline(points=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), label=None, image=0)
    """
    width, height = wh
    inside = ((min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in points)
    return Outline(tuple(inside), label)


def gold_text(record: Record) -> str:
    """The gold answer: R1-V's solutions stand in `<answer>` tags, others are the solution itself.

    Raises DataError where it is blank: nothing against nothing must not pay.

    >>> gold_text(Record("1", (), "", (), "<answer> 3 </answer>"))
    '3'
    """
    answer = extract_answer(record.solution)
    gold = record.solution.strip() if answer is None else answer
    if not gold:
        raise bad_gold(record, "a non-empty answer")
    return gold


def bad_gold(record: Record, expected: str) -> DataError:
    """The error of a gold answer that its method cannot use."""
    remedy = "correct the gold answer, or choose another --reward_method"
    return DataError([Problem(record.where, "solution", shorten(record.solution), expected, remedy)])
