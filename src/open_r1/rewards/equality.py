"""Compares two formulas by their structure: lists, tuples, sets, intervals, ratios, relations, quantities.

What is left of both, two expressions or relations, `same` compares: math-verify, which runs in a worker.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from open_r1.rewards.parsing.answer import normalize
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.quantities import DEGREES, NO_UNIT, PERCENT, RADIANS
from open_r1.rewards.parsing.values import Atom, Items, Value, as_list, latex_of


class Same(Protocol):
    """Whether two LaTeX expressions or relations are equal; with `is_rounded`, gold to its last decimal."""

    def __call__(self, gold: str, answer: str, is_rounded: bool = False) -> bool: ...


_DECIMAL = re.compile(r"[-+]?\s?[\d,]*(?:\.\d+|(?<=\d)\.?)")
_SPACE = re.compile(r"\s(?!\d)|(?<!\d)\s")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-z])")
_INDEX = re.compile(r"_\s?\{[^{}]{0,80}\}")
_RATIO = re.compile(r"[^:]{1,200}(?::[^:]{1,200}){1,4}")
_TIME = re.compile(r"\d{1,2}:[0-5]\d(?::[0-5]\d)?")
_ENDLESS = re.compile(r"\d{5}!|!!!")  # factorials that no computer writes out
_LITERAL = re.compile(r"\\(?:angle|triangle)|\d_\s?\{?\d")  # figures and bases, equal as texts only
_WORDS = re.compile(r"(?<![\\a-zA-Z_{])[a-zA-Z]*[a-z]{3,}[a-zA-Z]*")


def same_value(gold: Value, answer: Value, same: Same) -> bool:
    """Whether an answer is the gold value; lists and sets in any order, tuples and intervals in theirs.

    >>> from open_r1.rewards.parsing.values import read_value
    >>> pairs = [("3, 5", "5, 3"), ("(3,5)", "(5,3)"), ("x=3", "3"), ("2:4", "1:2"), ("[0,1)", "[0,1]"), ("1 m", "cm")]
    >>> [same_value(read_value(gold), read_value(answer), _undecided) for gold, answer in pairs]
    [True, False, True, True, False, False]
    """
    if isinstance(gold, Atom) and isinstance(answer, Atom):
        return _same_atom(gold, answer, same)
    if isinstance(gold, Items) and isinstance(answer, Items):
        return _same_items(gold, answer, same)
    if isinstance(gold, Atom) and isinstance(answer, Items) and not answer.opening:
        values = answer.values[-1:] if _is_computation(answer) else answer.values
        if all(same_value(gold, value, same) for value in values):  # "12 or 12.0"
            return True
    lists = [(as_list(value) or value) if isinstance(value, Atom) else value for value in (gold, answer)]
    if isinstance(lists[0], Items) and isinstance(lists[1], Items):  # "100,200" and "100, 200"
        return _same_items(*lists, same)
    unnamed = (latex_of(replace(value, name="")) for value in (gold, answer))
    return _is_set(gold) and _is_set(answer) and same(*unnamed)


def _is_computation(answer: Items) -> bool:
    """Whether an answer lists the steps of a computation, "3 + 5 = 8, 2 * 8 = 16", of which the last counts."""
    return all(isinstance(step, Atom) and _is_equation(step.text) for step in answer.values)


def _is_set(value: Value) -> bool:
    """Whether a value may be a set of numbers: an interval, a relation, a union, a list of relations."""
    if isinstance(value, Atom):
        return bool(_RELATION.search(value.text)) or any(
            f"\\{name}" in value.text for name in ("cup", "cap", "mathbb", "setminus")
        )
    return value.opening in ("(", "[") or all(_is_set(item) for item in value.values)


# ----------------------------------------------------------------------------------------------------- several values


def _same_items(gold: Items, answer: Items, same: Same) -> bool:
    if gold.name and answer.name and not _same_name(gold.name, answer.name):
        return False
    if {gold.opening, answer.opening} <= {"", "{"} and not _is_assignment(gold, answer):
        if _same_in_any_order(_distinct(gold.values), _distinct(answer.values), same):
            return True
        return _is_set(gold) and _is_set(answer) and same(latex_of(gold), latex_of(answer))
    ends = {(value.opening, value.closing) for value in (gold, answer) if value.opening}
    pairs = zip(gold.values, answer.values, strict=False)
    is_alike = len(ends) <= 1 and len(gold.values) == len(answer.values)
    return is_alike and all(same_value(a, b, same) for a, b in pairs)


def _is_assignment(gold: Items, answer: Items) -> bool:
    """Whether gold names its values ("x=1, y=2") and the answer does not, so that their order counts."""
    names = {value.name for value in gold.values}
    return len(names) == len(gold.values) > 1 and "" not in names and not any(value.name for value in answer.values)


def _distinct(values: Sequence[Value]) -> list[Value]:
    return list({latex_of(value).replace(" ", ""): value for value in values}.values())


def _undecided(gold: str, answer: str, is_rounded: bool = False) -> bool:
    """Equal texts and numbers never come here; all others are taken as different."""
    return False


def _same_in_any_order(gold: list[Value], answer: list[Value], same: Same) -> bool:
    """Whether each gold value equals another answered one, and none is left."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for compare in (_undecided, same):  # the equal texts and numbers first, for they cost nothing
        unmatched = []
        for value in gold:
            match = next((other for other in left if same_value(value, other, compare)), None)
            if match is None:
                unmatched.append(value)
            else:
                left.remove(match)
        gold = unmatched
    return not gold


# ---------------------------------------------------------------------------------------------------------- one value


def _same_atom(gold: Atom, answer: Atom, same: Same) -> bool:
    if gold.name and answer.name and not _same_name(gold.name, answer.name):
        if _same_name(gold.name, answer.text) and _same_name(gold.text, answer.name):  # AB = CD, CD = AB
            return True
        return _has_variable(gold) and _has_variable(answer) and same(latex_of(gold), latex_of(answer))
    if gold.name and _is_equation(answer.text) and _has_variable(gold):
        return same(latex_of(gold), answer.text)  # y = 2x, 2x - y = 0
    if _is_equation(gold.text):  # that is no assignment
        return (_is_equation(answer.text) or bool(answer.name)) and _same_text(gold.text, latex_of(answer), same)
    if _is_equation(answer.text) and gold.name and _has_variable(answer):  # k = 1, 2x + z = 1
        return False
    if _is_equation(answer.text):  # 3 + 5 = 8
        *sides, last = (side.strip() for side in answer.text.split("="))
        if not _has_variable(answer) and not all(_same_text(side, last, same) for side in sides):
            return False
        answer = replace(answer, text=last)
    if any(_same_text(*texts, same) for texts in _in_one_unit(gold, answer)):
        return True
    rounded = replace(answer, text=answer.rounded)  # it counts where it is the expression before it, rounded
    is_gold = answer.rounded and any(_same_text(*texts, same) for texts in _in_one_unit(gold, rounded))
    return bool(is_gold) and same(answer.rounded, answer.text, True)


def _is_equation(text: str) -> bool:
    """Whether a text without a name has an equals sign, other than those of sums and other relations."""
    return "=" in _INDEX.sub("", text) and not _RELATION.search(text)


def _same_name(gold: str, answer: str) -> bool:
    gold, answer = (re.sub(r"[\\\s{}']|\^circ", "", name).casefold() for name in (gold, answer))
    return gold == answer


def _has_variable(atom: Atom) -> bool:
    return bool(re.search(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", atom.text))


def _in_one_unit(gold: Atom, answer: Atom) -> list[tuple[str, str]]:
    """The two numbers in one unit: pairs of which one must be equal; none where the units are of two kinds."""
    a, b = gold.unit, answer.unit
    if a == b or (NO_UNIT in (a, b) and PERCENT not in (a, b)):
        pairs = [(gold.text, answer.text)]
        if {a, b} == {NO_UNIT, DEGREES} and "pi" in (gold.text if a == NO_UNIT else answer.text):
            pairs.append((_radians(gold), _radians(answer)))
        return pairs
    if {a, b} == {DEGREES, RADIANS}:
        return [(_radians(gold), _radians(answer))]
    if NO_UNIT in (a, b):  # 50 % is 50, and 0.5
        return [(gold.text, answer.text), (_hundredth(gold), _hundredth(answer))]
    if sorted(a.dimensions) != sorted(b.dimensions):
        return []
    return [(gold.text, _times(answer.text, b.factor / a.factor))]


def _radians(atom: Atom) -> str:
    return rf"\frac{{({atom.text})\pi}}{{180}}" if atom.unit == DEGREES else atom.text


def _hundredth(atom: Atom) -> str:
    return _times(atom.text, Fraction(1, 100)) if atom.unit == PERCENT else atom.text


def _times(text: str, factor: Fraction) -> str:
    """A number times a factor: as a number where it is one, else as LaTeX."""
    number = parse_number(text)
    if number is not None:
        number *= factor
        return f"{number.numerator}/{number.denominator}" if number.denominator > 1 else str(number.numerator)
    return rf"({text})\cdot\frac{{{factor.numerator}}}{{{factor.denominator}}}"


def _same_text(gold: str, answer: str, same: Same) -> bool:
    """Whether two expressions, relations or ratios without units are equal."""
    if _SPACE.sub("", gold) == _SPACE.sub("", answer):
        return bool(gold)
    numbers = parse_number(gold), parse_number(answer)
    if None not in numbers and (numbers[0] == numbers[1] or (_DECIMAL.fullmatch(gold) and _DECIMAL.fullmatch(answer))):
        return numbers[0] == numbers[1]
    if _RATIO.fullmatch(gold) or _RATIO.fullmatch(answer):
        return _same_ratio(gold, answer, same)
    if any(pattern.search(text) for pattern in (_ENDLESS, _LITERAL) for text in (gold, answer)):
        return False
    if _WORDS.search(gold) or _WORDS.search(answer):
        return normalize(gold) == normalize(answer) != ""
    return same(gold, answer)


def _same_ratio(gold: str, answer: str, same: Same) -> bool:
    """Whether two ratios, or a ratio and a fraction, are in proportion; times of day must be the same."""
    if _TIME.fullmatch(gold) and _TIME.fullmatch(answer):
        return False
    golds, answers = gold.split(":"), answer.split(":")
    if {len(golds), len(answers)} == {1, 2}:
        return _same_text(*(_quotient(*parts) if len(parts) == 2 else parts[0] for parts in (golds, answers)), same)
    if len(golds) != len(answers):
        return False
    pairs = zip(golds[1:], answers[1:], strict=True)
    return all(_same_text(_quotient(golds[0], a), _quotient(answers[0], b), same) for a, b in pairs)


def _quotient(top: str, bottom: str) -> str:
    above, below = parse_number(top), parse_number(bottom)
    if above is not None and below:
        quotient = above / below
        return f"{quotient.numerator}/{quotient.denominator}"
    return rf"\frac{{{top}}}{{{bottom}}}"
