"""math-verify on two texts, where it can be killed: a completion can make sympy run for ever or eat all memory.

It runs in `workers`; within one, which grades whole completions and is bounded itself, it is called directly.

$OPEN_R1_GRADE_SECONDS (default 2) is the deadline of one grading; what exceeds it is graded False and counted.
"""

import math
import os
from dataclasses import dataclass
from functools import lru_cache

from open_r1.rewards.workers import OWN, Lost, call, count, inside

START_SECONDS = 60.0
MAX_CHARS = 2_000  # of each side; 1 MB of digits takes sympy 622 MB


@dataclass(frozen=True)
class Settings:
    """math-verify's own parameters, at its defaults."""

    targets: tuple[str, ...] = ("latex", "expr")
    float_rounding: int = 6
    strict: bool = True
    allow_set_relation_comp: bool = False


DEFAULTS = Settings()


def verify(gold: str, answer: str, settings: Settings = DEFAULTS) -> bool:
    """math-verify's verdict on the ends of two texts (`clip`); False where it takes too long or kills its worker.

    Safe to call from many threads, and faster so. Raises RuntimeError where workers do not start.
    """
    return _verdict(clip(gold), clip(answer), settings)


@lru_cache(maxsize=4_096)  # at most 16 MB of texts
def _verdict(gold: str, answer: str, settings: Settings) -> bool:
    if inside():
        return _verify(gold, answer, settings)
    try:
        return call(OWN, deadline(), _verify, gold, answer, settings)
    except Lost as lost:
        count(lost.how)
        return False


def warm_up() -> None:
    """Start the workers and wait for one grading: before CUDA starts, and so that the first step is not slow."""
    call(OWN, START_SECONDS, _verify, "$1$", "$1$", DEFAULTS)


def deadline() -> float:
    """Seconds one grading may take. Raises ValueError where the environment holds no positive number."""
    value = os.environ.get("OPEN_R1_GRADE_SECONDS", "2")
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"OPEN_R1_GRADE_SECONDS: got {value!r}, expected a positive number of seconds")
    return seconds


def clip(text: str) -> str:
    """At most MAX_CHARS: from the last `\\boxed` on where there is one, else the end.

    >>> clip("7" * 5000 + r" so \\boxed{8}" + "." * 9000)[:9], len(clip("7" * 5000))
    ('\\\\boxed{8}', 2000)
    """
    if len(text) <= MAX_CHARS:
        return text
    boxed = text.rfind(r"\boxed")
    return text[boxed : boxed + MAX_CHARS] if boxed >= 0 else text[-MAX_CHARS:]


# What follows runs in workers only.


def warm_parsers() -> None:
    """A worker's first gradings build math-verify's grammars, 0.2 s: before the deadline of a row counts."""
    for gold, answer in (("$1$", "2"), (r"$\frac{1}{2}+\sqrt{3}$", r"$\sqrt{3}+0.5$"), ("$x=3$", "3")):
        _verify(gold, answer, DEFAULTS)


def _verify(gold: str, answer: str, settings: Settings) -> bool:
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


@lru_cache(maxsize=256)
def _parsed(text: str, targets: tuple[str, ...]) -> list:
    import math_verify

    known = {"latex": math_verify.LatexExtractionConfig(), "expr": math_verify.ExprExtractionConfig()}
    return math_verify.parse(text, [known[target] for target in targets], parsing_timeout=None)
