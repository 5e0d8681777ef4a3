"""Compares mathematical answers: equal texts and numbers here, all others by math-verify in a worker process.

math-verify alone reads `5√{3}` as 5, and takes the last number of any text as its answer. So symbols become LaTeX,
units are removed (and compared where both sides have one), and an answer that lists several numbers for a gold answer
of one number is wrong.
"""

import re

from open_r1.data.record import Record
from open_r1.rewards.base import gold_text
from open_r1.rewards.parsing.answer import final_text, without_markup
from open_r1.rewards.parsing.numbers import same_number
from open_r1.rewards.sandbox import math_verify as verifier

_SYMBOLS = {
    "π": r"\pi ",
    "×": r"\times ",
    "÷": r"\div ",
    "·": r"\cdot ",
    "−": "-",
    "²": "^{2}",
    "³": "^{3}",
    "°": r"^\circ",
    "℃": r"^\circ C",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "±": r"\pm ",
    "∞": r"\infty ",
    "（": "(",
    "）": ")",
    "，": ",",
    "％": "%",
    "\u00a0": " ",
}
_ROOT = re.compile(r"√\s?(?:\{([^{}]{1,200})\}|\(([^()]{1,200})\)|(\d+(?:\.\d+)?|[a-zA-Z]))")
_UNITS = {
    "mm": "mm",
    "毫米": "mm",
    "millimeters": "mm",
    "cm": "cm",
    "厘米": "cm",
    "centimeter": "cm",
    "centimeters": "cm",
    "dm": "dm",
    "m": "m",
    "米": "m",
    "meter": "m",
    "meters": "m",
    "metres": "m",
    "km": "km",
    "千米": "km",
    "kilometers": "km",
    "海里": "nmi",
    "nautical miles": "nmi",
    "feet": "ft",
    "ft": "ft",
    "inches": "in",
    "miles": "mi",
    "s": "s",
    "秒": "s",
    "seconds": "s",
    "min": "min",
    "minutes": "min",
    "分钟": "min",
    "h": "h",
    "小时": "h",
    "hours": "h",
    "kg": "kg",
    "g": "g",
    "元": "yuan",
    "dollars": "usd",
    r"^\circ": "deg",
    r"^{\circ}": "deg",
    r"\degree": "deg",
    "度": "deg",
    "degrees": "deg",
    "degree": "deg",
    "units": "",
    "个": "",
}
_POWERS = {"square ": "^2", "平方": "^2", "cubic ": "^3", "立方": "^3"}
_UNIT = re.compile(
    r"(?:\s|\\,|\\ |\\text\{\s?|\\mathrm\{\s?|\\mbox\{\s?){0,4}(?P<power>square |cubic |平方|立方)?"
    rf"(?P<unit>{'|'.join(map(re.escape, sorted(_UNITS, key=len, reverse=True)))})"
    r"\s?\}?(?:\^\{?(?P<exponent>[23])\}?\^?)?\}?$"
)
_FUNCTIONS = r"sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|frac|inf|and|or"
_WORD = re.compile(rf"(?<![\\a-zA-Z])(?!(?:{_FUNCTIONS})\b)[a-zA-Z]{{2,}}(?:'[a-z]+)?")
_VALUE = re.compile(r"(?<![\d.])\d+(?:[,\s]\d{3})*(?:\.\d+)?")
_DELIMITED = re.compile(r"\$|\\boxed|\\\(|\\\[")
_PLAIN = re.compile(r"[-+−]?[\d,]*(?:\.\d+|(?<=\d))")
_DATE = re.compile(r"\d+(?:[-/.:]\d+){2,}")


def score_math(completion: str, record: Record) -> float:
    """1.0 where the final text equals the gold answer mathematically, else 0.0. Raises DataError for a blank gold.

    >>> score_math("<answer>$5\\\\sqrt3$ cm</answer>", Record("1", (), "", (), "5√{3}cm"))
    1.0
    """
    return float(same_math(gold_text(record), final_text(completion)))


def same_math(gold: str, answer: str) -> bool:
    """Whether two answers are equal after normalisation; plain numbers must be exactly equal.

    >>> same_math("140°", "140"), same_math("9米", "9 m"), same_math("9m", "9 cm"), same_math("5", "5.01")
    (True, True, False, False)
    """
    (gold, gold_unit), (answer, answer_unit) = split_unit(to_latex(gold)), split_unit(to_latex(answer))
    if not gold or not answer or (gold_unit and answer_unit and gold_unit != answer_unit):
        return False
    if "".join(gold.split()) == "".join(answer.split()) or same_number(gold, answer):
        return True
    if (_PLAIN.fullmatch(gold) and _PLAIN.fullmatch(answer)) or lists_alternatives(gold, answer):
        return False
    return verifier.verify(_delimited(gold), _delimited(answer))


def to_latex(text: str) -> str:
    """Symbols as LaTeX, and the formula alone where prose stands before or after it.

    >>> to_latex("The area is 5√{3}π."), to_latex(r"$\\\\frac12$"), to_latex("cm^2^")
    ('5\\\\sqrt{3}\\\\pi', '\\\\\\\\frac12', 'cm^2^')
    """
    text = without_markup(verifier.clip(text))
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2] or m[3]}}}", text)
    for symbol, latex in _SYMBOLS.items():
        text = text.replace(symbol, latex)
    return _formula(text.strip())


def split_unit(text: str) -> tuple[str, str]:
    """A LaTeX text and the unit at its end in one spelling, "" without one; lengths are not converted.

    >>> split_unit("9平方米"), split_unit(r"15\\mbox{ cm}^2"), split_unit("5x"), split_unit("m")
    (('9', 'm^2'), ('15', 'cm^2'), ('5x', ''), ('m', ''))
    """
    match = _UNIT.search(text, max(len(text) - 60, 0))
    body = text[: match.start()].strip() if match else ""
    if not match or not re.search(r"(?:[\d})\]%]|\\pi)$", body) or _DELIMITED.search(text):
        return text, ""
    power = _POWERS.get(match["power"] or "", f"^{match['exponent']}" if match["exponent"] else "")
    return body, _UNITS[match["unit"]] + power


def lists_alternatives(gold: str, answer: str) -> bool:
    """Whether the gold answer is one number and the answer lists several that form no expression.

    >>> [lists_alternatives("8", answer) for answer in ("7 or 8", "6, 7, 8", "3 + 5 = 8", "The answer is 8")]
    [True, True, False, False]
    """
    is_expression = re.search(r"[=+*/^√]|\\(?!text)", answer)
    return same_number(gold, gold) and not is_expression and len(set(_VALUE.findall(answer))) > 1


def is_math(text: str) -> bool:
    """Whether a gold answer can be compared as mathematics: it has digits or LaTeX, no words, and is no date.

    >>> is_math("4πcm"), is_math("(0, 1)"), is_math("Bus 42"), is_math("red"), is_math("2021-05-03")
    (True, True, False, False, False)
    """
    body = split_unit(to_latex(text))[0]
    has_value = re.search(r"\d|\\(?:pi|sqrt|frac|infty)", body)
    return bool(has_value) and not _WORD.search(body) and not _DATE.fullmatch(body)


def _formula(text: str) -> str:
    """The formula after the last word of a text, or before the first; the whole text where `$` or `\\boxed` mark
    it."""
    body, unit = split_unit(text)
    words = list(_WORD.finditer(body))
    if _DELIMITED.search(text) or not words or "\\" not in body:
        return text
    tail = body[words[-1].end() :].strip(" :.,")
    head = body[: words[0].start()].strip(" :.,")
    return tail + (text[len(body) :] if unit else "") if tail else head or text


def _delimited(text: str) -> str:
    """The text in `$` where it is LaTeX without delimiters: math-verify reads bare LaTeX only up to its first
    command."""
    is_latex = re.search(r"[\\^_{]", text) and not _DELIMITED.search(text)
    return f"${text}$" if is_latex else text
