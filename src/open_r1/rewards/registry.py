"""The tables of accuracy methods and rewards by name.

To add one, write its function in a file of this folder and a line in VERIFIABLE of `methods`, or in REWARDS and, where
it can pay less than 0, in MINIMA. The name is what users write; the function maps one completion and its record to a
number. Importing this loads neither torch nor sympy.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import data_error, look_up, nearest_hint
from open_r1.rewards.area import area_format, two_decimals
from open_r1.rewards.base import Method, Reward
from open_r1.rewards.cipher import decode_answer, decode_chars, decode_partial
from open_r1.rewards.format import format_reward
from open_r1.rewards.judge.method import check_judge, llm
from open_r1.rewards.length import WRONG, length_reward
from open_r1.rewards.methods import VERIFIABLE
from open_r1.rewards.repetition import MAX_PENALTY, repetition
from open_r1.rewards.tool_use import environment, tool_errors, used_a_tool
from open_r1.rewards.turns import Message

METHODS: dict[str, Method] = {**VERIFIABLE, "llm": Method(llm, check_ready=check_judge, is_remote=True)}


def accuracy(completion: str, record: Record) -> float:
    """The score of the record's `accu_reward_method` (default: "default"), in that method's range.

    >>> accuracy("<answer>yes</answer>", Record("1", (), "", (), "Yes", accu_reward_method="yes_no"))
    1.0
    """
    return method_of(record).score(completion, record)


def length(completion: str, record: Record) -> float:
    """`length_reward`; an answer is right where the record's method scores above the middle of its range.

    So an exact method must pay 1.0, an IoU be above 0.5. Raises DataError as both do.

    >>> length("well ... yes.", Record("1", (), "", (), "Yes", {"max_units": 4}, accu_reward_method="yes_no"))
    0.5732233047033631
    """
    return length_reward(completion, record, is_right(completion, record))


def tool_bonus(completion: str, record: Record, trajectory: Sequence[Message] = ()) -> float:
    """1.0 where a tool was used and the answer is right (as for `length`), else 0.0. (DeepEyes, arXiv 2505.14362, 2.3)

    A tool was used where one of its answers in the `trajectory` (`rewards.turns`) is no error.

    >>> used = [{"role": "tool", "content": "", "error": False}]
    >>> tool_bonus("3", Record("1", (), "", (), "3"), used), tool_bonus("3", Record("1", (), "", (), "3"))
    (1.0, 0.0)
    """
    return float(used_a_tool(trajectory) and is_right(completion, record))


def is_right(completion: str, record: Record) -> bool:
    """Whether the record's accuracy method scores above the middle of its range. Raises DataError as it does."""
    method = method_of(record)
    return method.score(completion, record) > (method.minimum + method.maximum) / 2


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
    "tool_bonus": tool_bonus,
    "tool_errors": tool_errors,
    "environment": environment,
}

# The rewards of a completion's form: any answer earns them, a wrong one too.
ABOUT_FORM = frozenset({"format", "repetition", "two_decimals", "area_format", "tool_errors"})
BY_METHOD = {"accuracy", "length", "tool_bonus"}  # rewards that ask the row's accuracy method

# The least value of each reward; a completion scores it where its grading timed out or crashed.
MINIMA: dict[str, Callable[[Record], float]] = {
    **dict.fromkeys(REWARDS, lambda record: 0.0),
    "accuracy": lambda record: method_of(record).minimum,
    "length": lambda record: min(WRONG),
    "repetition": lambda record: -MAX_PENALTY,
    "tool_errors": lambda record: -1.0,
}


def get_rewards(names: Sequence[str]) -> list[Reward]:
    """The rewards of these names; raises ValueError naming the known ones and the nearest."""
    return [look_up(name, REWARDS, "reward") for name in names]


def get_method(name: str | None) -> Method:
    """The accuracy method of this name ("default" for None); raises ValueError as `get_rewards` does."""
    return look_up(name or "default", METHODS, "reward method")


def method_of(record: Record) -> Method:
    """The record's accuracy method; raises DataError for an unknown name, as a defect of the row."""
    name = record.accu_reward_method
    if name and name not in METHODS:
        expected, remedy = f"one of {', '.join(METHODS)}", nearest_hint(name, METHODS)
        raise data_error(record.where, "accu_reward_method", repr(name), expected, remedy)
    return get_method(name)


def prepare_methods(names: Iterable[str]) -> None:
    """Raises ValueError for an unknown method, and for one that cannot grade here, such as `llm` without endpoint."""
    for name in names:
        if (method := get_method(name)).check_ready:
            method.check_ready()


def parsed(completion: str, record: Record) -> Any:
    """What the record's accuracy method reads from a completion, as JSON; None where it reads nothing.

    Raises DataError and ValueError as the method does.

    >>> parsed("<answer>(B)</answer>", Record("1", (), "", (), "A", accu_reward_method="mcq"))
    'B'
    """
    return method_of(record).parse(completion, record)


def is_remote(reward: str, record: Record) -> bool:
    """Whether this reward of this record waits for another machine, as its accuracy method does.

    >>> row = Record("1", (), "", (), "3", accu_reward_method="llm")
    >>> is_remote("length", row), is_remote("format", row)
    (True, False)
    """
    method = METHODS.get(record.accu_reward_method or "default")
    return reward in BY_METHOD and method is not None and method.is_remote
