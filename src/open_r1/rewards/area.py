"""The three rewards of VLM Area: relative error of the area, two decimals, and the format."""

from fractions import Fraction

from open_r1.data.record import Record
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.format import format_reward
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.parsing.area import has_two_decimals, parse_area

BEST, WORST = 3.0, -3.0
FLOOR = 32  # square units; errors on smaller areas are relative to this
TOLERANCE = 0.1  # relative error that counts as right in evaluations


def area(completion: str, record: Record) -> float:
    """3 - 6 min(1, |answer - gold| / max(gold, 32)) in [-3, 3]; -3 without a number. The accuracy method.

    Raises DataError (field `solution`) for a gold that is no positive number.

    >>> record = Record("1", (), "", (), "200.00")
    >>> area("<answer>200.00</answer>", record), area("<answer>220.00</answer>", record)  # off by 0 and 1/10
    (3.0, 2.4)
    >>> area("<answer>100 cm²</answer>", record), area("<answer>large</answer>", record)
    (0.0, -3.0)
    """
    gold, answer = gold_area(record), parse_area(final_text(completion))
    if answer is None:
        return WORST
    return float(BEST - (Fraction(BEST) - Fraction(WORST)) * min(1, abs(answer - gold) / max(gold, FLOOR)))


def is_within_tolerance(score: float) -> bool:
    """Whether a score of `area` means a relative error of at most TOLERANCE.

    >>> is_within_tolerance(2.4), is_within_tolerance(2.39)
    (True, False)
    """
    return score >= BEST - (BEST - WORST) * TOLERANCE - 1e-9


def relative_error(completion: str, record: Record) -> float | None:
    """|answer - gold| / gold; None without a number.

    >>> relative_error("<answer>150.00</answer>", Record("1", (), "", (), "200.00"))
    0.25
    """
    gold, answer = gold_area(record), parse_area(final_text(completion))
    return None if answer is None else float(abs(answer - gold) / gold)


def parsed_area(completion: str, record: Record) -> float | None:
    """The number that `area` reads from a completion; None without one."""
    value = parse_area(final_text(completion))
    return None if value is None else float(value)


def two_decimals(completion: str, record: Record) -> float:
    """0.5 where the answer is one number with exactly two decimals, else 0.0; whether it is right does not matter.

    >>> two_decimals("<answer>1.00</answer>", Record("1", (), "", (), "200.00"))
    0.5
    """
    return 0.5 * has_two_decimals(final_text(completion))


def area_format(completion: str, record: Record) -> float:
    """0.5 where `format_reward` pays 1.0, else 0.0."""
    return 0.5 * format_reward(completion, record)


def gold_area(record: Record) -> Fraction:
    """The gold area; raises DataError (field `solution`) where it is no positive number."""
    gold = parse_area(gold_text(record))
    if gold is None or gold <= 0:
        raise bad_gold(record, "an area: a positive number such as 616.50")
    return gold
