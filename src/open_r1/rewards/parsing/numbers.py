"""Reads a text that is one number, as an exact fraction. (torch-free)"""

import re
from fractions import Fraction

from open_r1.rewards.parsing.answer import without_markup

MAX_NUMBER_CHARS = 400  # int() of longer digit strings is quadratic, and no answer is that long

_NUMBER = re.compile(
    r"(?P<sign>[-+−–]?)\s?(?:\\[td]?frac\{\s?(?P<top>\d+)\s?\}\{\s?(?P<bottom>\d+)\s?\}"
    r"|(?P<whole>\d{1,3}(?:[, ]\d{3})+|\d+)?(?P<decimals>\.\d*)?(?:\s?/\s?(?P<over>\d+(?:\.\d+)?))?)"
    r"\s?(?P<percent>\\?%)?",
    re.ASCII,
)


def parse_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number: sign, thousands separators, decimals, fraction, percent.

    >>> parse_number("-1,234.50"), parse_number("3/4"), parse_number("50%")
    (Fraction(-2469, 2), Fraction(3, 4), Fraction(1, 2))
    >>> parse_number("B. 9"), parse_number("7 or 8"), parse_number("1/0")
    (None, None, None)
    """
    text = without_markup(text) if len(text) <= MAX_NUMBER_CHARS else ""
    match = _NUMBER.fullmatch(text.replace("{,}", ",").replace(r"\!", ""))
    if not match or not (match["top"] or match["whole"] or (match["decimals"] or "") > "."):
        return None
    whole = re.sub("[, ]", "", match["whole"] or "0")
    value = Fraction(match["top"] or f"{whole}{match['decimals'] or ''}")
    below = Fraction(match["bottom"] or match["over"] or 1) * (100 if match["percent"] else 1)
    if below == 0:
        return None
    return value / below * (-1 if match["sign"] in ("-", "−", "–") else 1)


def same_number(gold: str, answer: str) -> bool:
    """Whether both texts are numbers of exactly the same value; False for 3.14 and 3.141, and for empty texts.

    >>> same_number("1000", "1,000.0"), same_number("3.14", "3.141"), same_number("", "")
    (True, False, False)
    """
    value = parse_number(gold)
    return value is not None and value == parse_number(answer)
