r"""Finds the formula that a text states: in its last `\boxed{}`, after "the answer is", else its last. (torch-free)"""

import re

from open_r1.rewards.parsing.formula_spans import Span, formula_spans, is_prose, plain_latex
from open_r1.rewards.parsing.number_words import number_of_words, number_words
from open_r1.rewards.parsing.statement import (
    Statement,
    boxed_answers,
    cued_answers,
    final_part,
    is_open,
    sentences,
    without_reason,
)
from open_r1.rewards.parsing.wrapping import unwrapped

MAX_FORMULA_CHARS = 2_000  # of a text; 1 MB of digits takes sympy 622 MB
MAX_WORDS = 12  # of an answer in words
_SUBJECT_CHARS, _ENDING_CHARS = 60, 250  # before an answer in its sentence; of the last two sentences or so

_FILLER = r"approximately|about|around|equal to|equals|roughly|exactly|simply|just|only|the|value|of|is|that|option"
_LEAD = re.compile(rf"(?:\W|\b(?:{_FILLER})\b)*", re.IGNORECASE)
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|equals|becomes|gives?|yields|gets?|have|has|total of)\W{0,3}"
    r"(?:(?:approximately|about|equal to|exactly|only|just|the|value|of|therefore|thus|a total)\W{1,3}){0,4}$",
    re.IGNORECASE,
)
_RATIO = re.compile(r"(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)")
_DOUBT = re.compile(r"\b(?:maybe|perhaps|possibly|could|might|may|alternatively|either|or)\b|或", re.IGNORECASE)
_LISTED = re.compile(r"(?:[,;/]|\band)\s?$")
_OR_BEFORE, _OR_AFTER = re.compile(r"(?:\bor|或)\W{0,3}$"), re.compile(r"\W{0,3}(?:or\b|或)")
_REFUSAL = re.compile(
    r"\b(?:can(?:not|'t)|unable to|(?:not|im)possible to)\b.{0,40}\b(?:determine|answer|tell|say|find|give|see|help"
    r"|solve|view)\b|\bnot enough information\b|\bwithout the (?:image|picture)\b|\bas an ai\b|无法|不确定|不知道",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"(?:\?|\(\s{0,9}\)|_{2,}|\$\\square\$)\W{0,3}$")  # "then x = ?", "the area is ( )"
_CORRECTION = re.compile(
    r"(?:[,.;?!…—-]|\n|^)\s?(?:(?:oh|but|no)[, ]\s?)?(?:no|wait|sorry|correction|actually|hmm|i mean|(?:or )?rather"
    r"|i made an? \w+|不对|错了|更正)(?:[,:.!，：。—-]|\s(?:it|that|the|this|i)\b)",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"(?:\b(?:is|was|are)(?: \w+)? (?:wrong|incorrect|false|not (?:right|correct|true))|\((?:wrong|incorrect)\)|错了)"
    r"\W{0,3}$",
    re.IGNORECASE,
)
_DOUBTED = re.compile(  # before an answer
    r"\b(?:wrong|incorrect|doubt|suppose|(?:don't|do not|not) know (?:if|whether|that))\b|错误|假设", re.IGNORECASE
)
_ASIDE = re.compile(
    r"\W{0,5}(?:let me know|(?:i )?hope|feel free|if you (?:need|have|want)|please|verif\w*|check(?:ing)?\b|note\b"
    r"|(?:this|that|step \d+|which)(?: \w+)? (?:confirms?|matches|agrees?|checks?))",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?:an? )?[a-zA-Z-]{3,}(?: [a-zA-Z-]+){0,2}")  # an answer in words


def stated_formula(text: str) -> str:
    r"""The formula that a text states, in `to_latex`'s spelling; words where it states no formula; "" for a doubt.

    >>> stated_formula(r"So $x = \boxed{\frac{1}{2}}$ cm."), stated_formula("First 7, then 9, so the total is 16.")
    ('\\frac{1}{2}', '16')
    >>> stated_formula("Angle C is 20 degrees. Therefore, the answer is 40."), stated_formula("It is 7 or 8.")
    ('40', '7 or 8')
    >>> stated_formula("The answer is 7, but it could also be 8."), stated_formula("2x + 3"), stated_formula("Even.")
    ('', '2x + 3', 'Even')
    """
    text = _corrected(unwrapped(final_part(clip(text))))
    boxes = boxed_answers(text)
    if not boxes and not is_prose(text):
        return plain_latex(text)
    cued = [said for said in cued_answers(text) if _is_answer(said.text) and not _is_in_box(said, boxes)]
    if cued or boxes:
        stated = max(cued + boxes, key=lambda said: said.start)
        is_doubted = _DOUBTED.search((sentences(text[: stated.start]) or [""])[-1][-_SUBJECT_CHARS:])
        return "" if is_doubted else _formula_of(stated.text, is_answer=True)
    if _QUESTION.search(text) or _REFUSAL.search(text[-_ENDING_CHARS:]):
        return ""
    *earlier, last_said = [said for said in sentences(text) if not _ASIDE.match(said)] or [text]
    said = [sentence for sentence in earlier if formula_spans(sentence)]
    said += [last_said] if _is_answer(last_said) or not said else []
    return "" if _DOUBTED.search(said[-1]) else _formula_of(said[-1], is_answer=False)


def _corrected(text: str) -> str:
    """What a text says after it takes something back, where that states an answer; "" where nothing replaces it.

    >>> _corrected("The answer is 5, no wait, 6."), _corrected("It is 5. That is wrong."), _corrected("It is 5.")
    (' 6.', '', 'It is 5.')
    """
    if _RETRACTED.search(text):
        return ""
    for match in reversed(list(_CORRECTION.finditer(text))[-20:]):
        if formula_spans(rest := text[match.end() :]):
            return rest
    return text


def _is_in_box(said: Statement, boxes: list[Statement]) -> bool:
    """Whether a statement holds a box, or stands in one."""
    return r"\boxed" in said.text or any(box.start <= said.start <= box.start + len(box.text) + 8 for box in boxes)


def _is_answer(sentence: str) -> bool:
    """Whether a sentence holds a formula, or is nothing but a formula or a few words."""
    if not is_prose(sentence):
        return re.search(r"[a-zA-Z\d]", plain_latex(sentence)) is not None
    return bool(formula_spans(sentence) or _NAMED.fullmatch(sentence) or _worded(sentence))


def clip(text: str) -> str:
    r"""At most MAX_FORMULA_CHARS of a text: from before its last `\boxed` on where there is one, else its end.

    >>> clip("7" * 5000 + r" so \boxed{8}" + "." * 9000)[200:209], len(clip("7" * 5000))
    ('\\boxed{8}', 2000)
    """
    boxed = text.rfind(r"\boxed")
    if len(text) <= MAX_FORMULA_CHARS or boxed < 0:
        return text[-MAX_FORMULA_CHARS:]
    start = max(boxed - 200, 0)
    return text[start : start + MAX_FORMULA_CHARS]


def _formula_of(sentence: str, is_answer: bool) -> str:
    """The formula of a sentence: where it `is_answer`, the one that it begins with, else what it says last."""
    if not is_prose(sentence):
        return plain_latex(sentence)
    if ratio := _RATIO.fullmatch(sentence):
        return f"{ratio[1]}:{ratio[2]}"
    if _REFUSAL.search(sentence):
        return ""
    spans = formula_spans(without_reason(sentence)) or formula_spans(sentence)
    if not spans:
        return _words(sentence)
    if is_answer and _LEAD.fullmatch(spans[0].before):
        chosen, doubts = spans[0], _DOUBT.search(spans[0].after)
    elif predicates := [span for span in spans if _COPULA.search(span.before)]:
        chosen, doubts = predicates[-1], is_open(sentence)
    elif worded := _worded(sentence):
        return worded
    else:
        chosen, doubts = spans[-1], is_open(sentence) or _LISTED.search(spans[-1].before)
    return "" if (doubts and len(spans) > 1) or _is_open_beside(chosen) else chosen.latex


def _worded(sentence: str) -> str:
    """The number in words that a sentence says: 2 of "There are two flocks of at least 17 birds"; "" without one."""
    found = [match for match in number_words(sentence) if match[0].lower() != "one"]
    said = [match[0] for match in found if _COPULA.search(sentence[: match.start()])]
    return number_of_words(said[-1]) if said else ""


def _is_open_beside(span: Span) -> bool:
    """Whether "or" joins a formula with words: "12 or a red car", but not "3 or more"."""
    return bool(_OR_BEFORE.search(span.before)) or (_OR_AFTER.match(span.after) is not None and is_open(span.after))


def _words(text: str) -> str:
    """A short text without formulas: the number that it names, or its words."""
    numbers = [match[0] for match in number_words(text)]
    if len(numbers) == 1 and (numbers[0].lower() != "one" or len(text.split()) < 5):
        return number_of_words(numbers[0])
    return plain_latex(text).strip(" .") if len(text.split()) <= MAX_WORDS and not numbers else ""
