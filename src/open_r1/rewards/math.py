"""Compares mathematical answers: the formulas that gold and answer state, whole, whatever they are written with.

A text is read in three steps: the formula it states (`parsing.formulas`), in one LaTeX (`parsing.latex`), as a value
with its structure and units (`parsing.values`). Equal texts and numbers are decided here; other expressions go to
math-verify in a worker process.
"""

import re

from open_r1.data.record import Record
from open_r1.rewards.base import gold_text
from open_r1.rewards.equality import same_value
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.parsing.formula_spans import is_prose, plain_latex
from open_r1.rewards.parsing.formulas import MAX_FORMULA_CHARS, stated_formula
from open_r1.rewards.parsing.numbers import same_number
from open_r1.rewards.parsing.options import parse_option
from open_r1.rewards.parsing.values import Items, Value, decimal_comma, read_value
from open_r1.rewards.sandbox import math_verify as verifier

_LETTER = re.compile(r"\$?[(\[]?([A-Z])[)\]]?\.?\$?")
_DATE = re.compile(r"\d+(?:[-/.]\d+){2,}")
_SIGN = re.compile(r"\d|\\|\w\s?[+*/^=<>]\s?\w")


def score_math(completion: str, record: Record) -> float:
    """1.0 where the final text equals the gold answer mathematically, else 0.0. Raises DataError for a blank gold.

    >>> score_math("<answer>$5\\\\sqrt3$ cm</answer>", Record("1", (), "", (), "5√{3}cm"))
    1.0
    """
    return float(same_math(gold_text(record), final_text(completion)))


def parse_math(completion: str, record: Record) -> str | None:
    """What `score_math` reads: the formula that a completion states in LaTeX, or its option letter; None for neither.

    >>> parse_math("So x = 2√3, hence the area is 6√3 cm.", Record("1", (), "", (), "6√3"))
    '6\\\\sqrt{3} cm'
    """
    if _LETTER.fullmatch(gold_text(record)):
        return parse_option(final_text(completion))
    return stated_formula(final_text(completion)) or None


def has_formula(record: Record) -> bool:
    """Whether the gold answer is one that `is_math`; raises DataError for a blank one."""
    return is_math(gold_text(record))


def same_math(gold: str, answer: str) -> bool:
    """Whether two texts state equal formulas; decimals must be exactly equal, units of one kind are converted.

    A gold answer of one capital letter is an option.

    >>> same_math("140°", "140"), same_math("9米", "9 m"), same_math("9m", "9 cm"), same_math("5", "5.01")
    (True, True, False, False)
    """
    if letter := _LETTER.fullmatch(gold):
        return parse_option(answer) == letter[1]
    gold, answer = (stated_formula(text) for text in (gold, answer))
    if same_number(decimal_comma(gold) or gold, decimal_comma(answer) or answer):
        return True
    values = read_value(gold), read_value(answer)
    return None not in values and _same(*values)


def _same(gold: Value, answer: Value) -> bool:
    """Whether two values are equal; a worker is asked only where their texts and numbers do not decide."""
    asked: list[bool] = []

    def ask(gold: str, answer: str, is_rounded: bool = False) -> bool:
        asked.append(True)
        return False

    return same_value(gold, answer, ask) or (bool(asked) and verifier.verify(gold, answer))


def lists_alternatives(gold: str, answer: str) -> bool:
    """Whether the gold answer is one value and the answer lists several.

    >>> [lists_alternatives("8", answer) for answer in ("7 or 8", "6, 7, 8", "3 + 5 = 8", "The answer is 8")]
    [True, True, False, False]
    """
    values = [read_value(stated_formula(text)) for text in (gold, answer)]
    return isinstance(values[1], Items) and not isinstance(values[0], Items) and len(values[1].values) > 1


def is_math(text: str) -> bool:
    """Whether a gold answer can be compared as mathematics: it has digits, signs or LaTeX, no words, and is no date.

    >>> is_math("4πcm"), is_math("a + b"), is_math("Bus 42"), is_math("red"), is_math("2021-05-03")
    (True, True, False, False, False)
    """
    if len(text) > MAX_FORMULA_CHARS or _DATE.fullmatch(text.strip()):
        return False
    return _SIGN.search(plain_latex(text)) is not None and not is_prose(text)
