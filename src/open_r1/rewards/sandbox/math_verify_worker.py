"""math-verify on two texts, in the process that asks; `pool` asks in one that can be killed."""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class MathVerifySettings:
    """math-verify's own parameters, at its defaults."""

    targets: tuple[str, ...] = ("latex", "expr")
    float_rounding: int = 6
    strict: bool = True
    allow_set_relation_comp: bool = False


DEFAULT_SETTINGS = MathVerifySettings()


def equal(gold: str, answer: str, settings: MathVerifySettings) -> bool:
    """Whether both texts can be read and say the same. It may take for ever, or all memory."""
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
    """The first gradings build math-verify's grammars, 0.2 s: in a worker, before the deadline of a row counts."""
    for gold, answer in (("$1$", "2"), (r"$\frac{1}{2}+\sqrt{3}$", r"$\sqrt{3}+0.5$"), ("$x=3$", "3")):
        equal(gold, answer, DEFAULT_SETTINGS)


@lru_cache(maxsize=256)
def _parsed(text: str, targets: tuple[str, ...]) -> list:
    import math_verify

    known = {"latex": math_verify.LatexExtractionConfig(), "expr": math_verify.ExprExtractionConfig()}
    return math_verify.parse(text, [known[target] for target in targets], parsing_timeout=None)
