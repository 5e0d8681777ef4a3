"""Reads a text that is one number, as an exact fraction. (torch-free)"""

import re
import unicodedata
from fractions import Fraction

from open_r1.rewards.parsing.answer import without_markup
from open_r1.rewards.parsing.characters import plain_characters

MAX_NUMBER_CHARS = 400  # int() of longer digit strings is quadratic, and no answer is that long

_NUMBER = re.compile(
    r"(?P<sign>[-+–]?)\s?"
    r"(?:(?P<whole>\d{1,3}(?:[, ]\d{3})+|\d+)?(?P<decimals>\.\d*)?(?:\s?/\s?(?P<over>\d+(?:\.\d+)?))?"
    r"|(?P<units>\d{1,3}(?:,\d{3})+|\d+)\s(?P<top>\d{1,3})\s?/\s?(?P<bottom>\d{1,3}))"
    r"\s?(?P<percent>\\?%)?",
    re.ASCII,
)
_LATEX_FRACTION = re.compile(
    r"\s?\\[tdc]?frac\s?(?:\{\s?(\d+)\s?\}\s?\{\s?(\d+)\s?\}|(\d)\s?(\d)|(\d)\s?\{(\d+)\})\s?", re.ASCII
)
_FRACTION_CHAR = re.compile("[¼-¾⅐-⅞↉]")


def parse_number(text: str) -> Fraction | None:
    """The exact value of a text that is one number: sign, thousands separators, decimals, fraction, percent.

    A mixed number is one too, and so are characters that stand for numbers.

    >>> parse_number("-1,234.50"), parse_number("3/4"), parse_number("50%")
    (Fraction(-2469, 2), Fraction(3, 4), Fraction(1, 2))
    >>> parse_number("3½") == parse_number("3 1/2") == parse_number(r"3\\frac{1}{2}") == parse_number("３．５")
    True
    >>> parse_number("B. 9"), parse_number("7 or 8"), parse_number("1/0"), parse_number("5²")
    (None, None, None, None)
    """
    match = _NUMBER.fullmatch(_plain(text)) if len(text) <= MAX_NUMBER_CHARS else None
    if not match or not (match["units"] or match["whole"] or (match["decimals"] or "") > "."):
        return None
    value = _mixed(match) if match["units"] else _quotient(match)
    if value is None:
        return None
    return value / (100 if match["percent"] else 1) * (-1 if match["sign"] in ("-", "–") else 1)


def same_number(gold: str, answer: str) -> bool:
    """Whether both texts are numbers of exactly the same value; False for 3.14 and 3.141, and for empty texts.

    >>> same_number("1000", "1,000.0"), same_number("3.14", "3.141"), same_number("", "")
    (True, False, False)
    """
    value = parse_number(gold)
    return value is not None and value == parse_number(answer)


def _plain(text: str) -> str:
    """A text without markup, with ASCII digits, and every fraction as "1/2"."""
    text = _FRACTION_CHAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match[0])} ", plain_characters(text))
    text = without_markup(text.replace("⁄", "/")).replace("{,}", ",").replace(r"\!", "")
    text = _LATEX_FRACTION.sub(lambda match: " {}/{} ".format(*filter(None, match.groups())), text)
    return text.strip()


def _quotient(match: re.Match[str]) -> Fraction | None:
    """The value of a number with decimals, or of "3/4"; None for a division by zero."""
    top, below = Fraction(_digits(match["whole"]) + (match["decimals"] or "")), Fraction(match["over"] or 1)
    return top / below if below else None


def _mixed(match: re.Match[str]) -> Fraction | None:
    """The value of "3 1/2"; None where the fraction is not below one."""
    top, bottom = int(match["top"]), int(match["bottom"])
    return int(_digits(match["units"])) + Fraction(top, bottom) if top < bottom else None


def _digits(text: str | None) -> str:
    return re.sub("[, ]", "", text or "0")
