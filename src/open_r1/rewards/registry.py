"""Rewards and accuracy methods by name. To add one, write it in a file of this folder and name it here.

A reward sees one completion's text and its record; `adapter` makes it TRL's batch contract and loads users' files.
Importing this loads neither torch nor sympy.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from open_r1.data.record import Record
from open_r1.errors import DataError, Problem
from open_r1.rewards.area import area, area_format, parsed_area, two_decimals
from open_r1.rewards.base import Method, Reward, gold_text
from open_r1.rewards.cipher import decode, decode_answer, decode_chars, decode_partial, parse_decoded, spelling
from open_r1.rewards.detection import detection_outlines, od_ap, od_ap50, od_length, show_detections, weighted_sum
from open_r1.rewards.format import format_reward
from open_r1.rewards.judge import llm
from open_r1.rewards.judge import ready as judge_is_ready
from open_r1.rewards.length import WRONG, length_reward
from open_r1.rewards.math import score_math
from open_r1.rewards.parsing.answer import extract_answer
from open_r1.rewards.referring import answered_box, rec, rec_outlines
from open_r1.rewards.repetition import MAX_PENALTY, repetition
from open_r1.rewards.segmentation import answered_polygon, gold_ceiling, mask_iou, polygon_outlines
from open_r1.rewards.short_answers import (
    all_match,
    default,
    digits,
    mcq,
    parse_default,
    parse_digits,
    parse_mcq,
    parse_yes_no_answer,
    yes_no,
)

_T = TypeVar("T")

METHODS: dict[str, Method] = {
    "default": Method(default, parse=parse_default),
    "math": Method(score_math),
    "mcq": Method(mcq, parse=parse_mcq),
    "yes_no": Method(yes_no, parse=parse_yes_no_answer),
    "all_match": Method(all_match),
    "digits": Method(digits, parse=parse_digits),
    "rec": Method(rec, parse=answered_box, outlines=rec_outlines),
    "iou": Method(rec, parse=answered_box, outlines=rec_outlines),  # VLM-R1's other name of it
    "mask_iou": Method(mask_iou, parse=answered_polygon, gold_earns=gold_ceiling, outlines=polygon_outlines),
    "od_ap": Method(od_ap, parse=show_detections, outlines=detection_outlines),
    "od_ap50": Method(od_ap50, parse=show_detections, outlines=detection_outlines),
    "odLength": Method(od_length, parse=show_detections, outlines=detection_outlines),
    "weighted_sum": Method(weighted_sum, parse=show_detections, outlines=detection_outlines),
    "map": Method(od_ap, parse=show_detections, outlines=detection_outlines),  # VLM-R1: of any fence of the text
    "decode": Method(decode, parse=parse_decoded, thought=spelling),
    "llm": Method(llm, ready=judge_is_ready, asks=True),
    "area": Method(area, maximum=3.0, minimum=-3.0, parse=parsed_area),
}


def accuracy(completion: str, record: Record) -> float:
    """The score of the record's `accu_reward_method` (default: "default"), in that method's range.

    >>> accuracy("<answer>yes</answer>", Record("1", (), "", (), "Yes", accu_reward_method="yes_no"))
    1.0
    """
    return method_of(record).score(completion, record)


def parsed(completion: str, record: Record) -> Any:
    """What the record's accuracy method reads from a completion, as JSON; None where it reads nothing.

    Raises DataError and ValueError as the method does.

    >>> parsed("<answer>(B)</answer>", Record("1", (), "", (), "A", accu_reward_method="mcq"))
    'B'
    """
    return method_of(record).parse(completion, record)


def length(completion: str, record: Record) -> float:
    """`length_reward`, where right means more than half way from the minimum to the maximum of the row's accuracy
    method: all of an exact method's 1.0, an IoU above .5. Raises DataError as both do.

    >>> length("well ... yes.", Record("1", (), "", (), "Yes", {"max_units": 4}, accu_reward_method="yes_no"))
    0.5732233047033631
    """
    method = method_of(record)
    right = method.score(completion, record) > (method.minimum + method.maximum) / 2
    return length_reward(completion, record, right)


REWARDS: dict[str, Reward] = {
    "accuracy": accuracy,
    "format": format_reward,
    "length": length,
    "repetition": repetition,
    "decode_chars": decode_chars,
    "decode_answer": decode_answer,
    "decode_partial": decode_partial,
    "two_decimals": two_decimals,
    "area_format": area_format,
}

# The least that each pays, which is what a completion scores whose grading is lost.
MINIMA: dict[str, Callable[[Record], float]] = {
    **dict.fromkeys(REWARDS, lambda record: 0.0),
    "accuracy": lambda record: method_of(record).minimum,
    "length": lambda record: min(WRONG),
    "repetition": lambda record: -MAX_PENALTY,
}


def get_rewards(names: Sequence[str]) -> list[Reward]:
    """The rewards of these names; raises ValueError naming the known ones and the nearest."""
    return [look_up(name, REWARDS, "reward") for name in names]


def get_method(name: str | None) -> Method:
    """The accuracy method of this name ("default" for None); raises ValueError as `get_rewards` does."""
    return look_up(name or "default", METHODS, "reward method")


def prepare_methods(names: Iterable[str]) -> None:
    """Refuse methods that cannot grade here: raises ValueError for an unknown name, and for one that lacks something
    outside of the rows, such as a judge's endpoint."""
    for name in names:
        if (method := get_method(name)).ready:
            method.ready()


def look_up(name: str, table: Mapping[str, _T], kind: str) -> _T:
    """`table[name]`; raises ValueError naming the known entries and the nearest.

    >>> look_up("formt", {"accuracy": accuracy, "format": format_reward}, "reward")
    Traceback (most recent call last):
    ValueError: reward: got 'formt', expected one of accuracy, format; did you mean 'format'?
    """
    if name in table:
        return table[name]
    raise ValueError(f"{kind}: got {name!r}, expected one of {', '.join(table)}; {_hint(name, table)}")


def _hint(name: str, table: Mapping[str, object]) -> str:
    nearest = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else "correct the name"


def method_of(record: Record) -> Method:
    """The row's own method; an unknown name is a defect of the row."""
    name = record.accu_reward_method
    if name and name not in METHODS:
        expected = f"one of {', '.join(METHODS)}"
        raise DataError([Problem(record.where, "accu_reward_method", repr(name), expected, _hint(name, METHODS))])
    return get_method(name)


def asks(reward: str, record: Record) -> bool:
    """This reward asks another machine about this row: its accuracy method does.

    >>> row = Record("1", (), "", (), "3", accu_reward_method="llm")
    >>> asks("length", row), asks("format", row)
    (True, False)
    """
    method = METHODS.get(record.accu_reward_method or "default")
    return reward in ("accuracy", "length") and method is not None and method.asks


def _chosen(record: Record, method: str | None) -> Method:
    """The method of this name, or else the row's own."""
    return method_of(record) if method in (None, record.accu_reward_method) else get_method(method)


def gold_completion(record: Record, method: str | None = None) -> str:
    """The gold answer as a perfect completion would write it for `method` (default: the record's own).

    Solutions that hold `<answer>` tags stand as they are.

    >>> gold_completion(Record("1", (), "", (), "3"))
    '<think>\\n...\\n</think>\\n<answer>3</answer>'
    """
    if extract_answer(record.solution) is not None:
        return record.solution
    thought = _chosen(record, method).thought(record)
    return f"<think>\n{thought}\n</think>\n<answer>{gold_text(record)}</answer>"


def gold_score(record: Record, method: str | None = None) -> tuple[float, float]:
    """(score, maximum) of the gold answer by `method`, or else by the record's own. Equal, or the row is unusable.

    The maximum is the row's own where the method has `gold_earns`; equal then means not less.

    Raises DataError for a gold that the method cannot use, or a row with an unknown method.

    >>> gold_score(Record("1", (), "", (), "(B)"), "mcq")
    (1.0, 1.0)
    """
    chosen = _chosen(record, method)
    in_pixels = record.with_extra(model_family="original")  # the frame of gold boxes, whatever the model's is
    best = chosen.gold_earns(record) if chosen.gold_earns else chosen.maximum
    return chosen.score(gold_completion(record, method), in_pixels), best
