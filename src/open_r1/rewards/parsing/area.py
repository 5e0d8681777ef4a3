"""Reads an area from an answer: one number, with or without a unit, an equals sign, or words before it."""

import re
from fractions import Fraction

from open_r1.rewards.parsing.answer import without_markup
from open_r1.rewards.parsing.numbers import MAX_NUMBER_CHARS, parse_number

LARGEST_AREA = 10**300  # so that every area is a finite float

_PREFIX = re.compile(
    r"^(?:(?:the\s)?area(?:\sof\sthe\s(?:shape|rectangle|square|circle|triangle))?\s?)?(?:is|=|:)?\s?"
    r"(?:(?:approximately|about|roughly|≈|~|\\approx)\s?)?",
    re.I,
)
_UNIT = re.compile(
    r"\s?(?:\\?text\{|\\mathrm\{)?\s?"
    r"(?:(?:square|sq\.?)\s?(?:units?|cm|mm|m|px|pixels?|centimet(?:er|re)s?|met(?:er|re)s?)"
    r"|(?:units?|cm|mm|m|px|pixels?)\}?\s?(?:²|\^\{?2\}?|2|squared)?)\}?$",
    re.I,
)
_TWO_DECIMALS = re.compile(r"[-+−]?\d[\d, ]*\.\d\d", re.ASCII)


def area_text(answer: str) -> str:
    """The number in an answer, without words before it and unit.

    >>> area_text("Area = 1,234.50 cm²"), area_text("about 12.30 square units."), area_text(r"$616.00\\text{ cm}^2$")
    ('1,234.50', '12.30', '616.00')
    """
    text = without_markup(answer) if len(answer) <= MAX_NUMBER_CHARS else ""
    return without_markup(_UNIT.sub("", _PREFIX.sub("", text)))


def parse_area(answer: str) -> Fraction | None:
    """The exact value of an answer that is one number, finite, not a percentage; None for anything else.

    >>> parse_area("616.5 units^2"), parse_area("1e999"), parse_area("12.00 or 13.00"), parse_area("50%")
    (Fraction(1233, 2), None, None, None)
    """
    value = parse_number(area_text(answer))
    return value if value is not None and "%" not in answer and abs(value) < LARGEST_AREA else None


def has_two_decimals(answer: str) -> bool:
    """Whether an answer is one number with exactly two digits after the point.

    >>> has_two_decimals("616.50 cm²"), has_two_decimals("616.5"), has_two_decimals("616.500"), has_two_decimals("616")
    (True, False, False, False)
    """
    return parse_area(answer) is not None and _TWO_DECIMALS.fullmatch(area_text(answer)) is not None
