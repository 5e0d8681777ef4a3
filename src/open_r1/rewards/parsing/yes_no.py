"""Reads whether an answer says yes or no. (torch-free)"""

import re
from typing import Literal

from open_r1.rewards.parsing.labels import CLOSED, OPENED, label_text
from open_r1.rewards.parsing.statement import stated_answer

_YES = frozenset(("yes", "true", "是", "是的", "对", "对的", "正确", "没错", "有", "有的"))
_NO = frozenset(("no", "false", "否", "不", "不是", "不是的", "不对", "错", "错的", "错误", "不正确", "没有", "并非"))
_SAID = _YES | _NO
_CLAUSE = re.compile(rf"[.,;:!?\n()\[\]\"'{OPENED}{CLOSED}]")
_DENIED = re.compile(r"\b(?:not|neither|nor)\s(?:yes|no|true|false)\b|\bno (?:answer|idea|clue|response|comment)\b")
_HEDGED = re.compile(
    r"\b(?:yes|no|true|false)\W{0,3}\sor\b|\bor\s\W{0,3}(?:yes|no|true|false)\b|[是否对错]或|或[是否对错]"
)


def parse_yes_no(text: str) -> Literal["yes", "no"] | None:
    """The "yes" or "no" that an answer says, also as true, false, 是, 否, 对, 错; None for neither or both.

    The stated answer decides ("So the answer is no."), else a clause of one word ("Yes, there is no dog"), else a word
    at the edge of a clause where it is the only one.

    >>> parse_yes_no("No."), parse_yes_no("I know"), parse_yes_no("Yes, there is no dog"), parse_yes_no("yes and no")
    ('no', None, 'yes', None)
    >>> parse_yes_no("True or 1"), parse_yes_no("no answer")
    (None, None)
    >>> [parse_yes_no(text) for text in ("I see no cat. The answer is yes.", "不是。", "Ｙｅｓ", "是否")]
    ['yes', 'no', 'yes', None]
    """
    stated = stated_answer(text)
    said = {_polarity(word) for word in (_words(stated) if stated else ()) or _words(text)}
    return said.pop() if len(said) == 1 else None


def says_only(text: str) -> bool:
    """Whether a text is one word of yes or no.

    >>> says_only("Yes."), says_only("否"), says_only("no dog")
    (True, True, False)
    """
    return label_text(text[:40]).strip(" .!").casefold() in _SAID


def _polarity(word: str) -> Literal["yes", "no"]:
    return "yes" if word in _YES else "no"


def _words(text: str) -> set[str]:
    """The words of yes and no that decide a text."""
    plain = label_text(text[-4000:]).casefold()
    if _HEDGED.search(plain):
        return set()
    clauses = [clause.split() for clause in _CLAUSE.split(_DENIED.sub("", plain))]
    if alone := {words[0] for words in clauses if len(words) == 1} & _SAID:
        return alone
    mentions = {word for words in clauses for word in words} & _SAID
    edges = {word for words in clauses if words for word in (words[0], words[-1])} & _SAID
    return edges if len({_polarity(word) for word in mentions}) == 1 else set()
