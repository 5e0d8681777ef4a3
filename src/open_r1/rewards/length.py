"""The cosine length reward: right answers earn more the shorter they are, wrong ones lose less the longer they are.

After the cosine reward of "Demystifying Long Chain-of-Thought Reasoning in LLMs" (arXiv:2502.03373), with VLM-R1's
values. Two things differ from VLM-R1: the row's accuracy method decides whether the answer is right (VLM-R1 counts
every answer as right), and lengths beyond the limit count as the limit (in VLM-R1 the cosine turns around and pays
again).
"""

import math

from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.parsing.units import count_units

MAX_UNITS = 1024  # words, or characters of scripts without spaces; an English word is about 1.3 tokens
RIGHT = (1.0, 0.5)  # value of the shortest and of the longest completion with a right answer
WRONG = (-0.5, 0.0)


def length_reward(completion: str, record: Record, is_right: bool) -> float:
    """A value in [0.5, 1] for a right answer and in [-0.5, 0] for a wrong one, by the whole completion's length.

    The length in words at which the value stops changing is the extra field `max_units` (default 1024). Raises
    DataError for a `max_units` that is not a positive integer.

    >>> row = Record("1", (), "", (), "Yes", {"max_units": 4})
    >>> length_reward("well ... yes.", row, True), length_reward("no", row, False)  # 3 and 1 of 4 words
    (0.5732233047033631, -0.42677669529663687)
    """
    limit = _limit(record)
    return cosine_value(count_units(completion, limit), limit, *(RIGHT if is_right else WRONG))


def cosine_value(units: int, limit: int, shortest: float, longest: float) -> float:
    """From `shortest` at no units to `longest` at `limit` units and beyond, along half a cosine.

    >>> cosine_value(0, 100, 1.0, 0.5), cosine_value(50, 100, 1.0, 0.5), cosine_value(900, 100, 1.0, 0.5)
    (1.0, 0.75, 0.5)
    """
    share = min(units / limit, 1.0)
    return longest + (shortest - longest) * (1 + math.cos(math.pi * share)) / 2


def _limit(record: Record) -> int:
    """The field `max_units` of a record, in words."""
    limit = record.extra.get("max_units", MAX_UNITS)
    if type(limit) is int and limit > 0:
        return limit
    remedy = "write the number of words at which a completion counts as long, or remove the field"
    raise data_error(record.where, "max_units", shorten(limit), "a positive integer", remedy)
