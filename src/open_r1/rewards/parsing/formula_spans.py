"""Finds the formulas and numbers within a sentence, between its words. (torch-free)"""

import re
from functools import lru_cache
from typing import NamedTuple

from open_r1.rewards.parsing.latex import to_latex
from open_r1.rewards.parsing.quantities import UNIT_NAMES, split_unit

DELIMITED = re.compile(
    r"\$\$([^$]{1,2000})\$\$|(?<!\\)\$([^$]{1,2000}?)(?<!\\)\$|\\\(((?:[^\\]|\\(?!\))){1,2000})\\\)"
    r"|\\\[((?:[^\\]|\\(?!\])){1,2000})\\\]"
)
_PLACE, _LAST_PLACE = 0xE000, 0xE8FF  # private characters that stand for the delimited formulas of a sentence
_PRIVATE = re.compile("[\ue000-\uf8ef]")
_UNIT = "|".join(re.escape(name) for name in UNIT_NAMES if len(name) > 1 and name != "in")
_SPAN = re.compile(
    "(?:"
    + "|".join(
        (
            r"[\ue000-\ue8ff]|\\(?:[a-zA-Z]+|[^a-zA-Z\s])",  # a formula, a command
            r"\d|(?<=\d)\.(?=\d)|(?<!\w)\.(?=\d)|(?<=\d)\.(?=\s?[-+*/=)])",
            r"(?<![a-zA-Z'])[b-zB-HJ-Z](?![a-zA-Z'])",  # a variable; "a" and "I" beside an operator only
            r"(?<![a-zA-Z'])[aAI](?=\s?[-+*/^=<>(,_])(?![a-zA-Z'])|(?<=[\d+*/^=(,_-])[aA](?![a-zA-Z'])",
            r"(?<![a-zA-Z])[A-Z]{2,4}(?![a-zA-Z])",  # points
            r"(?<=[\s,])(?:and|or)(?=\s)|或|和",
            rf"(?<=[\d}})\]\ue000-\ue8ff])\s{{0,2}}(?:(?:square|sq\.?|cubic)\s)?(?:{_UNIT})(?![a-zA-Z])",
            rf"\sper\s(?:{_UNIT})(?![a-zA-Z])",
            r"(?<=\d)\s?in(?=\^|\s?[.,;)]|\s?$)",  # inches, at an end
            r"[-+*/^=<>:!|%(){}\[\],;_'&]|(?<=\S)\s(?=\S)",
        )
    )
    + ")+"
)
_VALUE = re.compile(r"[\d\ue000-\ue8ff]|\\(?:pi|infty|emptyset|sqrt|frac)|[<>=]\s?[a-zA-Z]")
_EDGES = re.compile(r"^(?:[\s,;:=&.|!/*]|(?:and|or)\b|[和或])+|(?:[\s,;:=&|/+*^<>-]|\b(?:and|or)|[和或])+$")
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|unlikely|neither|nor|other than|different from|rather than|instead of|except)"
    r"|n't|\\ne|不是|不等于|不可能是|不会是|并非|不为)\W{0,3}(?:(?:to )?be\s|equal(?: to)?\s|exactly\s|的是)?$",
    re.IGNORECASE,
)
_DELIMITERS = re.compile(r"^#{1,6}\s?(?=\S)|(?<!\\)\$(?!\s?\d[\d.,]*\s*$)|\\[()\[\]]|\\?\"")  # "$5" is a price
_LABEL = re.compile(r"\s\([A-Z]\)$|^[(\[]?[A-Z](?:[)\]][.:]?|[.:])\s+(?=[\d\\(+-])")
_WORD = re.compile(  # letters beside each other are a product, as in "1 + nd"
    r"(?<![\\a-zA-Z])(?:[a-zA-Z]*[a-z]{3,}[a-zA-Z]*|[A-Z]{5,}|[a-zA-Z][a-z]{2,}|(?i:am|an|as|at|be|by|do|if|in|is|it|my|no|of|on|or"
    r"|so|to|up|we)(?![a-zA-Z]))|[\u4e00-\u9fff]"
)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s?\{[a-zA-Z*]{1,20}\}")
_MATH_WORD = re.compile(
    r"and|or|sin|cos|tan|cot|sec|csc|log|ln|exp|arc(?:sin|cos|tan)|sqrt|cbrt|frac|pi|inf|infinity|oo|mod"
)
_UNIT_PLACE = re.compile(r"(?:[\d})\]/]|\\pi|square|sq\.?|cubic|per)$")
_AROUND = 60  # characters of a sentence that say what a formula in it is


class Span(NamedTuple):
    """A formula of a sentence in `to_latex`'s spelling, and 60 characters of the sentence before and after it."""

    latex: str
    before: str
    after: str


@lru_cache(maxsize=128)
def formula_spans(sentence: str) -> tuple[Span, ...]:
    """The formulas and numbers of a sentence that it does not deny, in their order.

    >>> [span.latex for span in formula_spans("Not 5 cm, but AB = 2sqrt(3) m and $x+1$ in step B")]
    ['AB = 2\\\\sqrt{3} m and x+1']
    """
    masked, formulas = _masked(sentence)
    spans = []
    for match in _SPAN.finditer(masked):
        text = _trimmed(match[0])
        start = match.start() + match[0].find(text)
        before = masked[max(start - _AROUND, 0) : start]
        if _VALUE.search(text) and not _DENIED.search(before):
            latex = to_latex(_unmasked(text, formulas)) if formulas else text
            spans.append(Span(latex, before, masked[start + len(text) : start + len(text) + _AROUND]))
    return tuple(spans)


def plain_latex(text: str) -> str:
    """A whole formula in `to_latex`'s spelling, without delimiters, quotes, and the label of an option before it.

    >>> plain_latex(r"\\\\(B. 12\\\\)"), plain_latex("$5")
    ('12', '$5')
    """
    return _LABEL.sub("", to_latex(_DELIMITERS.sub(" ", text)))


def is_prose(text: str) -> bool:
    """Whether a text has words, apart from units, functions, "and" and "or".

    >>> is_prose("3 cm and 4 cm"), is_prose("AB = 2sqrt(3)"), is_prose("x is 3")
    (False, False, True)
    """
    plain = split_unit(_ENVIRONMENT.sub("", plain_latex(text)))[0]
    return any(not _MATH_WORD.fullmatch(word[0]) and not _is_unit(plain, word) for word in _WORD.finditer(plain))


def _is_unit(text: str, word: re.Match[str]) -> bool:
    is_known = word[0] in UNIT_NAMES or word[0] in ("square", "sq", "cubic", "per")
    return is_known and bool(_UNIT_PLACE.search(text[max(word.start() - 10, 0) : word.start()].rstrip()))


def _masked(text: str) -> tuple[str, list[str]]:
    """(a sentence in LaTeX with a private character for each delimited formula, these formulas)."""
    formulas: list[str] = []

    def place(match: re.Match[str]) -> str:
        if len(formulas) > _LAST_PLACE - _PLACE:
            return " "
        formulas.append(next(group for group in match.groups() if group))
        return f" {chr(_PLACE + len(formulas) - 1)} "

    return to_latex(re.sub(r"\\?\$", "", DELIMITED.sub(place, _PRIVATE.sub("", text)))), formulas


def _unmasked(text: str, formulas: list[str]) -> str:
    return re.sub("[\ue000-\ue8ff]", lambda match: formulas[ord(match[0]) - _PLACE], text)


def _trimmed(span: str) -> str:
    """A span without joints at its ends and without brackets that have no partner there."""
    span = _EDGES.sub("", span)
    for opening, closing in ("()", "[]"):
        if span.count(opening) != span.count(closing) and {span[:1], span[-1:]} & {opening, closing}:
            span = span.strip(opening + closing)
    return _EDGES.sub("", span)
