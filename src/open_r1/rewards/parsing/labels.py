r"""Reads option labels in prose: "(B)", "B.", "option B", "A and C"; not the letters of words, formulas and figures.
(torch-free)
"""

import re
from typing import NamedTuple

from open_r1.rewards.parsing.statement import box_spans, final_part

OPENED, CLOSED = "\x02", "\x03"  # stand for `\boxed{` and its brace

_LONGEST = 40  # labels that are read together
_COMMAND = re.compile(
    r"\\(?:text(?:bf|rm|sf|it|tt)?|math(?:rm|bf|sf|it|tt)|bf|rm|mbox|hbox|underline|operatorname)\s?\{([^{}]{0,400})\}"
)
_MARKUP = re.compile(
    r"\*+|`+|\$+|\\[()\[\]]|</?(?:b|strong|i|em|u|p|br|span|div|center|s)\s?/?>|<end_of_utterance>|\\\$(?=[A-Z]\b)|\\\Z"
    r"|</?(?i:ans|answer|final|final_answer|conclusion)>|\[/?(?i:answer)\]|<(?=<[A-Z]>>)|(?<=<[A-Z]>)>|<\|[^|<>\n]{1,30}\|>"
    r"|^[#>]{1,6}(?=\s)|(?<![A-Za-z0-9_])_{1,3}(?=[A-Za-z(])|(?<=[A-Za-z).])_{1,3}(?![A-Za-z0-9_])",
    re.MULTILINE,
)
_QUOTED = re.compile(r"(?<![A-Za-z0-9])([\"'])\s?([A-Za-z][.)]?)\s?\1")
_SPACE = re.compile(r"\\[,;:! ]|~|\\q?quad\b|[^\S\n]+")

_BRACKETED = re.compile(rf"[(\[{{<{OPENED}]\s?[(\[]?([A-Za-z])[)\]]?[.:]?\s?[)\]}}>{CLOSED}]")
_BARE = re.compile(r"([A-Za-z])(?![A-Za-z0-9_']|\([a-z0-9]{1,3}\))(?:\s?[)\]])?")
_LOWER = re.compile(r"[a-z](?:\s{0,3}$|\s?\n|[.:)\]](?=\s|$))")
_FORMULA = re.compile(r"\s{0,3}[=+^<>≤≥≠≈×·∪∩∥⊥∠°]|\s?\\|-[^\s\d]")
# What a label may stand before: an end, a mark, a Chinese word, or a word that goes on about the label.
_AFTER_ANY = (
    r"\s{0,3}(?:$|\n|[.,;:!?)\]|&/](?![A-Za-z0-9]\.)|[-–—](?=\s)|[^\x00-\x7f]|[(\x02\x03])"
    r"|\s(?:because|since|as|for|which|with|is the|and|or|but|from|based|due|given|where|whose|if)\b"
)
_AFTER_I = re.compile(_AFTER_ANY)
_AFTER = re.compile(
    rf"{_AFTER_ANY}|\s(?:is|the|that|are|was|would|has|shows?|so|in|to|on|at|by|of|only|here|then|not|option|choice|matches|best"
    r"|instead|rather|both|when|while|can|does|must|should|also)\b"
)
_ROMAN = re.compile(r"[\s,]{1,3}(?:(?:and|or|&)\s)?(?:I{2,3}|IV|VI{0,3})\b|\sonly\b")
_JOINT = re.compile(
    r"\s{0,3}(?P<or>,?\s?\(?(?:\b(?:or|and/or|versus|vs\.?)\b|或者?|还是)|[/|]|[-–—~]|\b(?:to|through)\b|[至到])?"
    r"(?P<and>[,;]?\s?(?:\band\b|[&+])|[,;]|[和与及])?"
    r"(?:\s?(?:even|maybe|possibly|perhaps|also|both|(?:the\s)?(?:option|choice|answer|statement)s?|选项)\b)?\s{0,3}",
    re.IGNORECASE,
)
_REFUTED = re.compile(r"\s(?:(?:is|are|was|were|can)(?:n't|\snot)|(?:is|are)\s(?:incorrect|wrong|false|too))\b|不|错")
_VERB = re.compile(r"(?:,?\s(?:and|or|&)\s[(\[]?[A-Z][)\]]?)?\s(?:are|is|were|was|have|do)\b")
_NEW_CLAUSE = re.compile(rf"\s(?:is|was|does|has|would|could|can|isn't|can't)\b|{_REFUTED.pattern}")


class Labels(NamedTuple):
    """Option letters that stand together: sorted, without repetition; alternatives or not; where they end."""

    letters: str
    is_open: bool
    end: int


def label_text(text: str) -> str:
    r"""The end of a text in plain characters, without Markdown, math delimiters and LaTeX's commands of text.

    A box is written as OPENED, its content, CLOSED.

    >>> label_text(r"**Answer:** $\boxed{\text{（B）}}$."), label_text(r"\(\mathrm{B.}\)")
    ('Answer: \x02(B)\x03.', 'B.')
    """
    text = final_part(text).replace(OPENED, "").replace(CLOSED, "")
    spans = box_spans(text)
    edits = [(at, to, OPENED) for at, to, _ in spans] + [(at, at + 1, CLOSED) for *_, at in spans]
    parts, end = [], 0
    for at, to, mark in sorted(edits):
        parts += [text[end:at], mark]
        end = to
    text = "".join(parts) + text[end:]
    for _ in range(4):
        text = _COMMAND.sub(r"\1", text)
    return _SPACE.sub(" ", _QUOTED.sub(r"\2", _MARKUP.sub("", text))).strip()


def labels_at(text: str, start: int = 0, is_strict: bool = False) -> Labels | None:
    """The labels that stand at `start`, joined by commas, "and", "or"; None where the letter there is no label.

    >>> labels_at("(A) or C."), labels_at("A, C and D, not B")
    (Labels(letters='AC', is_open=True, end=8), Labels(letters='ACD', is_open=False, end=10))
    >>> labels_at("A cat"), labels_at("B = 5"), labels_at("I think"), labels_at("AD + BC"), labels_at("B, C is wrong")
    (None, None, None, None, Labels(letters='B', is_open=False, end=1))
    """
    label = _label(text, start)
    if label is None or (is_strict and not _AFTER.match(text, label[1])):
        return None
    runs = [({label[0]}, False, label[1])]
    while len(runs) < _LONGEST and (following := _joined(text, runs[-1][2])):
        runs.append((runs[-1][0] | {following[0]}, runs[-1][1] or following[2], following[1]))
    if _VERB.match(text, runs[-1][2]):  # "D, A and B are too small" says D
        runs = runs[: next((n for n, run in enumerate(runs, 1) if text[run[2] : run[2] + 1] in (",", ";")), len(runs))]
    letters, is_open, end = runs[-1]
    return Labels("".join(sorted(letters)), is_open, end)


def _joined(text: str, end: int) -> tuple[str, int, bool] | None:
    """(letter, end, whether "or" joins it) of a label that a comma, "and", "or" or nothing joins to one before."""
    joint = _JOINT.match(text, end)
    start = joint.end() if joint else end
    is_bracket = text[start : start + 1] in (*"([", OPENED)
    if not joint or not (is_bracket or (text[start : start + 1].isupper() and (joint["or"] or joint["and"]))):
        return None
    label = _label(text, start)
    is_word = bool(joint[0].strip(" ,;"))
    if label is None or (_REFUTED if is_word else _NEW_CLAUSE).match(text, label[1]):
        return None
    return (*label, bool(joint["or"]))


def _label(text: str, start: int) -> tuple[str, int] | None:
    """(letter, end) of the label at `start`; None where there is none."""
    if match := _BRACKETED.match(text, start):
        return match[1].upper(), match.end()
    match = _BARE.match(text, start)
    if (
        not match
        or (len(match[0]) == 1 and _FORMULA.match(text, match.end()))
        or (match[1] == "I" and _ROMAN.match(text, match.end(1)))
    ):
        return None
    letter, end = match[1], match.end()
    if letter.islower():
        return (letter.upper(), end) if _LOWER.match(text, start) else None
    is_word = letter in "AI" and len(match[0]) == 1
    if is_word and not (_AFTER if letter == "A" else _AFTER_I).match(text, end):
        return None
    return letter, end
