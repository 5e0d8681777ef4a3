"""Reads which option, or which of yes and no, an answer chooses. (torch-free)"""

import re
from collections.abc import Sequence
from typing import Literal

from open_r1.rewards.parsing.answer import fold_case, without_markup
from open_r1.rewards.parsing.numbers import parse_number

LETTERS = "ABCDEFGHIJ"

_ALONE = re.compile(r"[(\[]?([A-Ja-j])[)\]]?[.:,)]?")
_LABEL = re.compile(r"[(\[]?([A-J])(?:[)\]][.:]?|\s?[.:、．：])(?=\s|\*|$)|[(\[]([A-J])[)\]]")
_STATED = re.compile(
    r"(?i:answer|option|choice|choose|pick|select|答案|选)[\s*]{0,9}(?i:is|be|are|:|：|是)?(?:[\s:：*$]|\\boxed\{|\\text\{){0,9}"
    r"[(\[]?([A-Ja-j])\b(?=[)\]*.:,;}\s]{0,20}(?:$|\n|[)\]*.:,;}]))"
)
# "A" and "I" are also words: "answer is C because" chooses C, "answer is A because" chooses nothing.
_STATED_LETTER = re.compile(r"(?i:answer|option|choice)\s{1,9}(?i:is|:)?\s{0,9}([B-HJ])\b(?!')")


def parse_option(text: str, options: Sequence[str] | None = None) -> str | None:
    """The option letter A to J that an answer chooses; None where it chooses none or several.

    Read in this order: the letter alone; an option's own text; "the answer is (B)"; a single label as in "B. 12 cm".
    With `options` a letter beyond them, or one followed by the text of another option, is no choice.

    >>> parse_option("(B)"), parse_option("The answer is C."), parse_option("A. 7 or B. 6"), parse_option("A cat sits")
    ('B', 'C', None, None)
    >>> parse_option("12 cm", ["9 cm", "12 cm"]), parse_option("A. 12 cm", ["9 cm", "12 cm"])
    ('B', None)
    """
    text = without_markup(text[-4000:])
    if match := _ALONE.fullmatch(text):
        letter = match[1].upper()
    else:
        letter = _unlabelled_option(text, options) or _stated_or_labelled_option(text, options)
    return letter if letter and (not options or letter in LETTERS[: len(options)]) else None


def _unlabelled_option(text: str, options: Sequence[str] | None) -> str | None:
    """The letter of the option whose text equals a text without label."""
    return None if _LABEL.match(text) else _option_by_text(text, options)


def _option_by_text(text: str, options: Sequence[str] | None) -> str | None:
    """The letter of the one option whose text equals this text; None for no or several options."""
    key = option_key(text)
    letters = [letter for letter, option in zip(LETTERS, options or (), strict=False) if option_key(option) == key]
    return letters[0] if key and len(letters) == 1 else None


def option_key(option: str) -> str:
    """The text of an option for comparing, without its label: "B: 12.0 cm" and "12.0 CM" have one key.

    >>> option_key("B: 12.0 cm"), option_key("−3")
    ('12.0 cm', '-3')
    """
    label = _LABEL.match(option)
    text = without_markup(option[label.end() :] if label and label.end() < len(option) else option)
    number = parse_number(text)
    if number is not None:
        return str(number)
    return " ".join(fold_case(text).split())


def _stated_or_labelled_option(text: str, options: Sequence[str] | None) -> str | None:
    """The letter of a stated answer ("the answer is B"), else of the only label ("B. 12 cm")."""
    if letters := _STATED.findall(text) + _STATED_LETTER.findall(text):
        return _only([letter.upper() for letter in letters])
    letter = _only([first or second for first, second in _LABEL.findall(text)])
    leading = _LABEL.match(text)
    if letter and leading and options:
        text_letter = _option_by_text(text[leading.end() :], options)
        return letter if text_letter in (None, letter) else None
    return letter


def _only(letters: list[str]) -> str | None:
    return letters[0] if len(set(letters)) == 1 else None


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """The "yes" or "no" of a text, None for neither or both; a clause of one word decides ("Yes, there is no dog").

    >>> parse_yes_no("No."), parse_yes_no("I know"), parse_yes_no("Yes, there is no dog"), parse_yes_no("yes and no")
    ('no', None, 'yes', None)
    """
    plain = re.sub(r"[*_`\"'$]", "", text[-4000:]).casefold()
    clauses = [clause.split() for clause in re.split(r"[.,;:!?\n()]", plain)]
    alone = {words[0] for words in clauses if len(words) == 1} & {"yes", "no"}
    mentions = {word for words in clauses for word in words} & {"yes", "no"}
    edges = {word for words in clauses if words for word in (words[0], words[-1])} & {"yes", "no"}
    decided = alone or (edges if len(mentions) == 1 else set())
    return decided.pop() if len(decided) == 1 else None  # type: ignore[return-value]
