"""The types of rewards and accuracy methods; the gold answer of a record and the error for an unusable one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import DataError, data_error, shorten
from open_r1.rewards.parsing.answer import extract_answer, final_text

# (text of one completion, its record) -> a value, or None where it does not apply. Pure, deterministic, no I/O.
Reward = Callable[[str, Record], float | None]


class UnusableReward(ValueError):
    """What a reward returned is no reward, and what is one; or the error of an environment's own, as it is shown."""


@dataclass(frozen=True)
class Outline:
    """The corners of a box or polygon to draw on one of a record's pictures.

    `points` are (x, y) in [0, 1] of the upright original image's width and height; `image` is the picture's index.
    """

    points: tuple[tuple[float, float], ...]
    label: str | None = None
    image: int = 0


def read_final_text(completion: str, record: Record) -> Any:
    """The final text of a completion, or None without one; the default `parse` of a method."""
    return final_text(completion) or None


def no_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """No outlines: the default of methods whose answers are not places on a picture."""
    return ()


def no_form(record: Record) -> bool:
    """That a gold has no form of its own: of methods that compare letters and words, whatever they say."""
    return False


def gold_text(record: Record) -> str:
    """The gold answer: the content of `<answer>` tags (R1-V's solutions), else the solution itself.

    Raises DataError where it is blank, which would match an empty answer.

    >>> gold_text(Record("1", (), "", (), "<answer> 3 </answer>"))
    '3'
    """
    answer = extract_answer(record.solution)
    gold = record.solution.strip() if answer is None else answer
    if not gold:
        raise bad_gold(record, "a non-empty answer")
    return gold


@dataclass(frozen=True)
class Method:
    """An accuracy method.

    - `score`: a number in [minimum, maximum]; `minimum` for a malformed completion, DataError for a malformed record.
    - `parse`: what was read from the completion, as JSON; None for nothing.
    - `thinking`, `answer`: the texts between the think and answer tags of a perfect completion; places on a picture
      are as the record's space writes them.
    - `check_ready`: raises ValueError before training where something outside of the rows is missing (an endpoint).
    - `is_remote`: waits for another machine; it has its own deadlines, and runs in the training process.
    - `gold_maximum`: the score of a record's own gold answer, where that is below `maximum` (a polygon is not a mask).
    - `places`: the boxes of the gold answer in pixels, (x, y, x, y) for a point, where it is a place on a picture.
    - `outlines`: the answer of a completion on the picture; `gold_outlines`: the gold answer, where that is more than
      the outlines of a perfect completion.
    - `has_form`: whether a record's gold has the form that the method reads, for a method that takes any words as
      gold; None: it raises DataError for a gold of another form.
    """

    score: Callable[[str, Record], float]
    maximum: float = 1.0
    minimum: float = 0.0
    parse: Callable[[str, Record], Any] = read_final_text
    thinking: Callable[[Record], str] = lambda record: "..."
    answer: Callable[[Record], str] = gold_text
    check_ready: Callable[[], None] | None = None
    is_remote: bool = False
    gold_maximum: Callable[[Record], float] | None = None
    places: Callable[[Record], Sequence[Sequence[float]]] | None = None
    outlines: Callable[[str, Record], tuple[Outline, ...]] = no_outlines
    gold_outlines: Callable[[Record], tuple[Outline, ...]] | None = None
    has_form: Callable[[Record], bool] | None = None


def outline(
    points: Iterable[tuple[float, float]], wh: tuple[float, float], label: str | None = None, image: int = 0
) -> Outline:
    """The Outline of corners in pixels of the record's image `image`, whose size is `wh` (width, height); corners
    outside move to its edge.

    >>> outline([(0, 0), (320, 0), (320, 900)], (640, 425))
    Outline(points=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)), label=None, image=0)
    """
    width, height = wh
    inside = ((min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)) for x, y in points)
    return Outline(tuple(inside), label, image)


def is_direct(record: Record) -> bool:
    """Whether the record is answered in direct mode, without thinking (extra field `prompt_mode`)."""
    return record.extra.get("prompt_mode") == "direct"


def bad_gold(record: Record, expected: str) -> DataError:
    """The DataError of a gold answer that its method cannot use."""
    remedy = "correct the gold answer, or choose another --reward_method"
    return data_error(record.where, "solution", shorten(record.solution), expected, remedy)
