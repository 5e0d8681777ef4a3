"""Runs math-verify on two texts in this process; `math_verify` beside this file runs it in a worker."""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class MathVerifySettings:
    """The parameters of math-verify with its defaults."""

    targets: tuple[str, ...] = ("latex", "expr")
    float_rounding: int = 6
    strict: bool = True
    allow_set_relation_comp: bool = False


DEFAULT_SETTINGS = MathVerifySettings()


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


@lru_cache(maxsize=256)
def _parsed(text: str, targets: tuple[str, ...]) -> list:
    import math_verify

    configs = {"latex": math_verify.LatexExtractionConfig(), "expr": math_verify.ExprExtractionConfig()}
    return math_verify.parse(text, [configs[target] for target in targets], parsing_timeout=None)
