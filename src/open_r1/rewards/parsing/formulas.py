r"""Finds the formula that a text states: in its last `\boxed{}`, after "the answer is", else the last one. (torch-free)"""

import re

from open_r1.rewards.parsing.latex import to_latex
from open_r1.rewards.parsing.quantities import UNIT_NAMES, split_unit
from open_r1.rewards.parsing.statement import (
    boxed_answers,
    cued_answers,
    final_part,
    is_open,
    sentences,
    stated_answer,
    without_reason,
)

_DELIMITED = re.compile(
    r"\$\$([^$]{1,2000})\$\$|(?<!\\)\$([^$]{1,2000}?)(?<!\\)\$|\\\(((?:[^\\]|\\(?!\))){1,2000})\\\)"
    r"|\\\[((?:[^\\]|\\(?!\])){1,2000})\\\]"
)
_PLACE, _LAST_PLACE = 0xE000, 0xE8FF  # private characters that stand for the formulas of a text
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_UNIT_WORD = "|".join(re.escape(name) for name in UNIT_NAMES if len(name) > 1 and name != "in")
_PIECE = re.compile(
    r"[\ue000-\ue8ff]|\\(?:[a-zA-Z]+|[^a-zA-Z\s])|\d|(?<=\d)\.(?=\d)|(?<!\w)\.(?=\d)|(?<=\d)\.(?=\s?[-+*/=)])"
    r"|(?<![a-zA-Z'])(?:[b-zB-HJ-Z]|[aAI](?=\s?[-+*/^=<>(,_]))(?![a-zA-Z'])|(?<=[\d+*/^=(,_-])[aA](?![a-zA-Z'])"
    r"|(?<![a-zA-Z])[A-Z]{2,4}(?![a-zA-Z])|[-+*/^=<>:!|%(){}\[\],;_'&]|(?<=\S)\s(?=\S)"
    r"|(?<=[\s,])(?:and|or)(?=\s)|或|和"
    rf"|\sper\s(?={_UNIT_WORD})|(?<=[\d}})\]\s\ue000-\ue8ff])(?:(?:square|sq\.?|cubic)\s)?(?:{_UNIT_WORD})(?![a-zA-Z])|(?<=\d)\s?in(?=\^|\s?[.,;)]|\s?$)"
)
_VALUE = re.compile(r"[\d\ue000-\ue8ff]|\\(?:pi|infty|emptyset|sqrt|frac)|[<>=]\s?[a-zA-Z]")
_EDGES = re.compile(r"^(?:[\s,;:=&.|!/*]|(?:and|or)\b|[和或])+|(?:[\s,;:=&|/+*^<>-]|\b(?:and|or)|[和或])+$")
_DENIED = re.compile(r"(?:\bnot|n't|rather than|instead of|≠|不是)\W{0,3}(?:be\s|equal to\s)?$")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]*[a-z]{2,}[a-zA-Z]*|[\u4e00-\u9fff]")
_MATH_WORD = re.compile(
    r"(?:and|or|sin|cos|tan|cot|sec|csc|log|ln|exp|arc(?:sin|cos|tan)|sqrt|cbrt|frac|pi|inf|infinity|oo|mod)"
)
_LEAD = re.compile(
    r"^(?:\W|\b(?:approximately|about|around|equal to|equals|roughly|exactly|simply|just|only|the|value|of|is|that|option|option)\b)*$",
    re.I,
)
_COPULA = re.compile(
    r"\b(?:is|are|was|be|equals|becomes|gives?|yields|gets?|have|has|total of)\W{0,3}"
    r"(?:(?:approximately|about|equal to|exactly|only|just|the|value|of|therefore|thus|a total)\W{1,3}){0,4}$",
    re.IGNORECASE,
)
_RATIO = re.compile(r"(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)")
_DOUBT = re.compile(r"\b(?:maybe|perhaps|possibly|could|might|may|alternatively|either|or)\b|或", re.IGNORECASE)
_CORRECTION = re.compile(r"\b(?:wait|actually|correction|mistake|sorry|hmm)\b", re.IGNORECASE)
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
}
MAX_CHARS = 2_000  # of a text; 1 MB of digits takes sympy 622 MB
MAX_WORDS = 12  # of an answer in words


def stated_formula(text: str) -> str:
    r"""The formula that a text states, in `to_latex`'s spelling; words where it states no formula; "" for a doubt.

    >>> stated_formula(r"So $x = \boxed{\frac{1}{2}}$ cm."), stated_formula("First 7, then 9 more, so the total is 16.")
    ('\\frac{1}{2}', '16')
    >>> stated_formula("Angle C is 20 degrees. Therefore, the answer is 40."), stated_formula("It is 7 or 8.")
    ('40', '7 or 8')
    >>> stated_formula("The answer is 7, but it could also be 8."), stated_formula("2x + 3"), stated_formula("Even.")
    ('', '2x + 3', 'Even')
    """
    text = _flat(_PRIVATE.sub("", final_part(clip(text))))
    boxes = boxed_answers(text)
    if not boxes and not is_prose(text):
        return to_latex(_without_delimiters(text))
    stated = [said for said in cued_answers(text) if _has_formula(said.text)] + boxes
    if stated:
        last = max(stated, key=lambda said: said.start)
        if last.is_boxed or not _CORRECTION.search(text, last.start + len(last.text)):
            return _formula_of(last.text, is_answer=True)
    said = [sentence for sentence in sentences(text) if _has_formula(sentence)]
    return _formula_of((said or [stated_answer(text) or text])[-1], is_answer=False)


def clip(text: str) -> str:
    """At most MAX_CHARS of a text: from before its last `\\boxed` on where there is one, else its end.

    >>> clip("7" * 5000 + r" so \\boxed{8}" + "." * 9000)[200:209], len(clip("7" * 5000))
    ('\\\\boxed{8}', 2000)
    """
    if len(text) <= MAX_CHARS:
        return text
    boxed = max(text.rfind(r"\boxed") - 200, 0)
    return text[boxed : boxed + MAX_CHARS] if r"\boxed" in text else text[-MAX_CHARS:]


def is_prose(text: str) -> bool:
    """Whether a text has words, apart from units, functions, "and" and "or".

    >>> is_prose("3 cm and 4 cm"), is_prose("AB = 2sqrt(3)"), is_prose("x is 3")
    (False, False, True)
    """
    plain = split_unit(to_latex(_without_delimiters(text)))[0]
    return any(not _MATH_WORD.fullmatch(word[0]) and not _is_unit(plain, word) for word in _WORD.finditer(plain))


def _is_unit(text: str, word: re.Match[str]) -> bool:
    before = text[: word.start()].rstrip()
    is_power = word[0] in ("square", "sq", "cubic", "per")
    return (is_power or word[0] in UNIT_NAMES) and bool(
        re.search(r"[\d})\]/]$|\\pi$|(?:square|sq\.?|cubic|per)$", before)
    )


def _flat(text: str) -> str:
    """A text whose formulas hold no line breaks, without emphasis."""
    if r"\begin" not in text:
        text = text.replace("\\\\", "\\")  # escaped twice
    text = _DELIMITED.sub(lambda match: match[0].replace("\n", " "), text)
    return re.sub(r"\*\*(?=\S)([^*\n]{1,400}?)\*\*", r"\1", text).strip()


def _without_delimiters(text: str) -> str:
    return re.sub(r"(?<!\\)\$(?!\s?\d[\d.,]*\s*$)|\\[()\[\]]|\\?\"", " ", text)


def _formula_of(sentence: str, is_answer: bool) -> str:
    """The formula of a sentence: where it `is_answer`, the one that it begins with, else the last."""
    if not is_prose(sentence):
        return to_latex(_without_delimiters(sentence))
    if ratio := _RATIO.fullmatch(sentence):
        return f"{ratio[1]}:{ratio[2]}"
    reason_free = without_reason(sentence)
    masked, formulas = _masked(reason_free if _has_formula(reason_free) else sentence)
    runs = _runs(masked, formulas)
    if not runs:
        return _words(sentence)
    first = is_answer and _LEAD.match(masked[: runs[0].start()])
    chosen = runs[0] if first else _predicate(masked, runs)
    if len(runs) > 1 and _DOUBT.search(masked[chosen.end() :] if first else masked) and (first or is_open(masked)):
        return ""
    return to_latex(_unmasked(_trimmed(chosen[0]), formulas))


def _predicate(masked: str, runs: list[re.Match[str]]) -> re.Match[str]:
    """The last run that follows "is" or the like; the last of all without one."""
    said = [run for run in runs if _COPULA.search(masked[: run.start()])]
    return (said or runs)[-1]


def _has_formula(sentence: str) -> bool:
    return bool(_runs(*_masked(sentence)))


def _masked(text: str) -> tuple[str, list[str]]:
    """(a text in LaTeX with a private character for each delimited formula, these formulas)."""
    formulas: list[str] = []

    def place(match: re.Match[str]) -> str:
        if len(formulas) > _LAST_PLACE - _PLACE:
            return " "
        formulas.append(next(group for group in match.groups() if group))
        return f" {chr(_PLACE + len(formulas) - 1)} "

    return to_latex(_DELIMITED.sub(place, text).replace("$", "")), formulas


def _unmasked(text: str, formulas: list[str]) -> str:
    return re.sub("[\ue000-\ue8ff]", lambda match: formulas[ord(match[0]) - _PLACE], text)


_RUN = re.compile(rf"(?:{_PIECE.pattern})+")


def _runs(masked: str, formulas: list[str]) -> list[re.Match[str]]:
    """The pieces of a text that are formulas or numbers and are not denied."""
    runs = [run for run in _RUN.finditer(masked) if _VALUE.search(_trimmed(run[0]))]
    said = [run for run in runs if not _DENIED.search(masked[: run.start()])]
    return said or runs[:0]


def _trimmed(run: str) -> str:
    """A run without joints at its ends and without brackets that have no partner."""
    run = _EDGES.sub("", run)
    for opening, closing in ("()", "[]"):
        if run.count(opening) != run.count(closing):
            run = run.strip(opening + closing) if {run[:1], run[-1:]} & {opening, closing} else run
    return _EDGES.sub("", run)


def _words(text: str) -> str:
    """A short text without formulas: the number that it names, or its words."""
    words = re.findall(r"[a-zA-Z]+", text.lower())
    numbers = {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS and (word != "one" or len(words) < 4)}
    if len(numbers) == 1:
        return numbers.pop()
    return to_latex(_without_delimiters(text)).strip(" .") if len(text.split()) <= MAX_WORDS and not numbers else ""
