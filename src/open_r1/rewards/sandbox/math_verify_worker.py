"""Compares formulas by math-verify in this process; `math_verify` beside this file runs it in a worker."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from open_r1.rewards.equality import same_value
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.values import Items, Value, latex_of, read_value


def same_formulas(gold: Value, answer: Value) -> bool:
    """Whether two values are equal, their expressions by math-verify. It may never return, or fill the memory."""
    return same_value(gold, answer, same_latex)


def same_latex(gold: str, answer: str, is_rounded: bool = False) -> bool:
    """Whether two LaTeX formulas without delimiters are equal by math-verify, or describe one set of numbers.

    With `is_rounded`, whether gold is a decimal number to which the answer rounds.
    """
    if is_rounded:
        return _rounds_to(gold, answer)
    if _equal(gold, answer):
        return True
    golds, answers = _solutions(gold), _solutions(answer)
    return any(a.numbers == b.numbers and _agree(a.variables, b.variables) for a in golds for b in answers)


def _agree(gold: frozenset[Any], answer: frozenset[Any]) -> bool:
    return gold == answer or not gold or not answer


def _rounds_to(decimal: str, exact: str) -> bool:
    number, value = parse_number(decimal), _parsed(exact)
    if number is None or not value or not getattr(value[0], "is_number", False):
        return False
    unit_of_last_place = 10.0 ** -len(decimal.partition(".")[2])
    return abs(complex(value[0].evalf()) - float(number)) <= unit_of_last_place


def _equal(gold: str, answer: str) -> bool:
    """Whether math-verify can parse both formulas and finds them equal."""
    import math_verify

    parsed = _parsed(gold), _parsed(answer)
    return all(parsed) and math_verify.verify(*parsed, allow_set_relation_comp=True, timeout_seconds=None)


def warm_parsers() -> None:
    """Builds math-verify's grammars (0.2 s) before the deadline of a row counts."""
    for gold, answer in (("1", "2"), (r"\frac{1}{2}+\sqrt{3}", r"\sqrt{3}+0.5"), ("x=3", "y=3")):
        same_latex(gold, answer)


class Solution(NamedTuple):
    """A set of numbers, and the variables of the relations that describe it; none for an interval."""

    numbers: Any
    variables: frozenset[Any]


def _solutions(latex: str) -> list[Solution]:
    """What relations and intervals may describe: the union of their numbers, and what is common."""
    from sympy import Intersection, Union

    value = read_value(latex)
    parts = value.values if isinstance(value, Items) and not value.opening else (value,)
    found = [_solution(latex_of(part)) for part in parts if part is not None]
    if not found or None in found:
        return []
    sets = [solution.numbers for solution in found]
    variables = frozenset().union(*(solution.variables for solution in found))
    return [Solution(join(*sets), variables) for join in (Union, Intersection)]


def _solution(latex: str) -> Solution | None:
    """What one relation in one variable, or an interval, describes; None for anything else."""
    from sympy import And, Or, Set
    from sympy.core.relational import Relational

    parsed = _parsed(latex)
    first = parsed[0] if parsed else None
    if isinstance(first, Set):
        return Solution(first, frozenset())
    if not isinstance(first, (Relational, And, Or)) or len(first.free_symbols) != 1:
        return None
    try:
        return Solution(first.as_set(), frozenset(first.free_symbols))
    except (NotImplementedError, ValueError, TypeError, AttributeError):  # sympy solves no other relation
        return None


@lru_cache(maxsize=256)
def _parsed(latex: str) -> list:
    """math-verify's reading of a formula without delimiters; its own units are off, to which "2m" is 2."""
    import math_verify

    config = math_verify.LatexExtractionConfig()
    config = replace(config, normalization_config=replace(config.normalization_config, units=False))
    return math_verify.parse(f"${latex}$", [config], parsing_timeout=None)
