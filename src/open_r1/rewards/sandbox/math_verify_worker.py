"""Compares formulas by math-verify in this process; `math_verify` beside this file runs it in a worker."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from open_r1.rewards.equality import same_value
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.values import Items, Value, latex_of, read_value


@dataclass(frozen=True)
class MathVerifySettings:
    """The parameters of math-verify with its defaults."""

    targets: tuple[str, ...] = ("latex", "expr")
    float_rounding: int = 6
    strict: bool = True
    allow_set_relation_comp: bool = False


DEFAULT_SETTINGS = MathVerifySettings()
FORMULA_SETTINGS = MathVerifySettings(targets=("latex",), allow_set_relation_comp=True)


def same_formulas(gold: Value, answer: Value) -> bool:
    """Whether two values are equal, their expressions by math-verify. It may never return, or fill the memory."""
    return same_value(gold, answer, same_latex)


def same_latex(gold: str, answer: str, is_rounded: bool = False) -> bool:
    """Whether two LaTeX formulas without delimiters are equal by math-verify, or describe one set of numbers.

    With `is_rounded`, whether gold is a decimal number to which the answer rounds.
    """
    if is_rounded:
        return _rounds_to(gold, answer)
    if equal(f"${gold}$", f"${answer}$", FORMULA_SETTINGS):
        return True
    golds, answers = _solutions(gold), _solutions(answer)
    return any(a == b for a in golds for b in answers)


def _rounds_to(decimal: str, exact: str) -> bool:
    number, value = parse_number(decimal), _parsed(f"${exact}$", ("latex",))
    if number is None or not value or not getattr(value[0], "is_number", False):
        return False
    unit_of_last_place = 10.0 ** -len(decimal.partition(".")[2])
    return abs(complex(value[0].evalf()) - float(number)) <= unit_of_last_place


def equal(gold: str, answer: str, settings: MathVerifySettings) -> bool:
    """Whether both texts can be parsed and are equal. It may never return, or fill the memory."""
    import math_verify

    parsed_gold, parsed_answer = _parsed(gold, settings.targets), _parsed(answer, settings.targets)
    return bool(parsed_gold and parsed_answer) and math_verify.verify(
        parsed_gold,
        parsed_answer,
        float_rounding=settings.float_rounding,
        strict=settings.strict,
        allow_set_relation_comp=settings.allow_set_relation_comp,
        timeout_seconds=None,
    )


def warm_parsers() -> None:
    """Builds math-verify's grammars (0.2 s) before the deadline of a row counts."""
    for gold, answer in (("$1$", "2"), (r"$\frac{1}{2}+\sqrt{3}$", r"$\sqrt{3}+0.5$"), ("$x=3$", "3")):
        equal(gold, answer, DEFAULT_SETTINGS)


def _solutions(latex: str) -> list[Any]:
    """The sets of numbers that relations and intervals may mean: their union, and what is common."""
    from sympy import Intersection, Union

    value = read_value(latex)
    parts = value.values if isinstance(value, Items) and not value.opening else (value,)
    sets = [_solution(latex_of(part)) for part in parts if part is not None]
    if not sets or None in sets:
        return []
    return [Union(*sets), Intersection(*sets)]


def _solution(latex: str) -> Any:
    """The set of numbers of one relation in one variable, or of an interval; None for anything else."""
    from sympy import And, Or, Set
    from sympy.core.relational import Relational

    parsed = _parsed(f"${latex}$", ("latex",))
    first = parsed[0] if parsed else None
    if isinstance(first, Set):
        return first
    is_relation = isinstance(first, (Relational, And, Or)) and len(first.free_symbols) == 1
    try:
        return first.as_set() if is_relation else None
    except (NotImplementedError, ValueError, TypeError, AttributeError):  # sympy solves no other relation
        return None


@lru_cache(maxsize=256)
def _parsed(text: str, targets: tuple[str, ...]) -> list:
    import math_verify

    configs = {"latex": math_verify.LatexExtractionConfig(), "expr": math_verify.ExprExtractionConfig()}
    return math_verify.parse(text, [configs[target] for target in targets], parsing_timeout=None)
