"""Finds the statements of an answer that choose options: boxes, "the answer is", "B is correct", a last line.
(torch-free)
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from open_r1.rewards.parsing.labels import CLOSED, OPENED, Labels, labels_at
from open_r1.rewards.parsing.statement import cued_answers, sentence_at, sentences, without_reason

NOUN = r"options?|choices?|letters?|answers?|alternatives?|statements?|responses?"
FIGURE = r"figure|image|picture|graph|diagram|pattern|shape|box|panel|tile|cube|drawing|piece|illustration|net"

_LAST = 20  # statements of a kind that are read
_BOX = re.compile(f"{OPENED}([^{OPENED}{CLOSED}]*){CLOSED}")
_VERB = r"choos(?:e|ing)|chosen?|select(?:ed|ing)?|pick(?:ed|ing)?|go(?:ing)?\swith|opt(?:ed|ing)?\sfor"
_BEST = r"correct|right|best|closest|nearest|final|matching|most\s\w{3,12}"
_CHOOSES = re.compile(
    rf"(?P<denied>(?:\b(?:not|never|cannot|wrong\sto)|n't)\s)?\b(?:{_VERB})\b(?:\sis\b|:)?\s?"
    rf"|\b(?:{_BEST})\s(?:{NOUN}|{FIGURE}|selection|guess|one|match(?:ing)?)\b[^.:\n]{{0,80}}?(?:\b(?:is|are|be|was)\b|:)[\s:]{{0,5}}"
    r"|正确的?(?:选项)?(?:应该?)?[是为:]\s?|(?<!不)选择?(?!项)(?:的?是|为|:)?\s?",
    re.IGNORECASE,
)
_ENDS = (
    r"(?=\s?(?:[.,;:!)(]|$|(?:answers?|options?|choices?|ones?|match|response|solution)\b"
    r"|(?:because|since|as|for|and|here)\b))"
)
_IN_A_ROLE = re.compile(
    r"[A-Z]\sas\s(?!(?:the|my|an?)\s(?:correct|right|best|final|answer)\b)"
)  # "choose A as origin"
_IS_RIGHT = re.compile(
    r"\s(?:is|are|was|be|seems|appears)\s(?:to be\s)?"
    r"(?:(?:therefore|thus|the|an?|most|only|indeed|likely|clearly)\s){0,4}"
    rf"(?:(?:correct|right|best|closest){_ENDS}|answer\b|odd one\b|different one\b|one (?:that|which)\b"
    r"|(?:appropriate|accurate|suitable|likely|plausible)\s(?:answer|option|choice)\b)"
    r"|(?:选项|项)?(?:是|为)?正确(?=的|答案|选项|[.,;!]|$)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    rf"(?:^|[.!?]\s|[,;:]\s?|\b(?i:{NOUN}|so|thus|therefore|hence|that|and|or|believe|think|only|both|either)\s|选项)(?=[(\[]?[A-Za-z]\b)"
)
_SURE = (
    r"(?:most|very|quite)\slikely|likely|probably|possibly|(?:almost\s)?certainly|definitely|clearly|obviously|surely"
    r"|without(?:\sa)?\sdoubt|only|just|I(?:'d|\swould)?\s(?:think|guess|believe|say)|it(?:'s|\sis)|its|so|ok(?:ay)?"
    r"|of course|no|thanks|my\s(?:best\s)?guess\s(?:is|would be)|mark|tick|circle|ans"
)
_ALONE = re.compile(
    rf"[^\w|]{{0,3}}(?:(?:{NOUN}|{FIGURE}|{_SURE})[\s,.:!]{{1,3}}){{0,3}}(?=\W?[A-Za-z](?![A-Za-z]))|选项|图",
    re.IGNORECASE,
)
_SURE_AFTER = (
    r"I\s(?:think|guess|believe)|for sure|obviously|of course|again|please|only|is true|is it|it is"
    r"|(?:looks?|seems)\s(?:correct|right|good)|makes sense|thanks|correct|true"
)
_LINE_END = re.compile(
    rf"(?:[\s,.:!=\[(]{{1,3}}(?:{_SURE_AFTER})\b|\s?[✓✔✅])?[\s.,;:)\]}}?!]*(?:$|\b(?:because|since|as)\s)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:(?:\b(?:not|cannot|never|neither|nor|eliminat\w{1,4}|rul\w{1,3} out|exclud\w{1,4}|rather than|instead of"
    r"|unlike|except|incorrect|wrong|than)\b|n't|不|排除)(?:(?!\b(?:but|is|are)\b)[^,;.]){0,25}"
    r"|\b(?:if|whether|why|thought|guess\w{0,3}|suppos\w{1,3}|assum\w{1,3})\b[^,;.]{0,25})$",
    re.IGNORECASE,
)


class ChoiceStatement(NamedTuple):
    """A statement of an answer: where it stands, what it says, and its labels where they stand before or alone."""

    start: int
    text: str
    labels: Labels | None = None


def choice_statements(text: str) -> list[ChoiceStatement]:
    """The statements of an answer, a text of `label_text`, that choose options; the last one first.

    >>> [said.text or said.labels.letters for said in choice_statements("A is right. No, the answer is 5 cm.\\nC")]
    ['C', '5 cm', 'A']
    """
    found = [*_boxed(text), *_said(text), *_held_right(text), *_last_line(text)]
    return sorted(found, key=lambda said: said.start, reverse=True)


def is_denied(text: str, end: int) -> bool:
    """Whether the words before `end` deny what follows: "not", "rather than", "if".

    >>> is_denied("rather than B", 12), is_denied("not A but B", 10)
    (True, False)
    """
    return _DENIED.search(text, max(end - 60, 0), end) is not None


def line_labels(line: str) -> Labels | None:
    """The labels that a line consists of.

    >>> line_labels("Option (B)."), line_labels("B is blue")
    (Labels(letters='B', is_open=False, end=10), None)
    """
    lead = _ALONE.match(line)
    labels = labels_at(line, lead.end()) if lead else None
    return labels if labels and _LINE_END.match(line, labels.end) else None


def _boxed(text: str) -> Iterator[ChoiceStatement]:
    """The boxes; those that "and" or "or" joins to the one before are in its labels."""
    chained = 0
    for match in list(_BOX.finditer(text))[-_LAST:]:
        if match.start() >= chained:
            labels = labels_at(text, match.start())
            yield ChoiceStatement(match.start(), match[1], labels)
            chained = labels.end if labels else 0


def _said(text: str) -> Iterator[ChoiceStatement]:
    """What follows "the answer is", "I choose", "the best option is"."""
    for said in cued_answers(text):
        yield ChoiceStatement(said.start, said.text)
    for match in list(_CHOOSES.finditer(text))[-_LAST:]:
        said = sentence_at(text, match.end())
        if not match["denied"] and not _IN_A_ROLE.match(said):
            yield ChoiceStatement(match.end(), without_reason(said))


def _held_right(text: str) -> Iterator[ChoiceStatement]:
    """The labels before "is correct", "is the answer"."""
    for match in list(_IS_RIGHT.finditer(text))[-_LAST:]:
        clause = (sentences(text[max(match.start() - 200, 0) : match.start()]) or [""])[-1]
        if labels := _subject(clause):
            yield ChoiceStatement(match.start(), "", labels)


def _subject(clause: str) -> Labels | None:
    """The last labels that a clause is about: "so option B", "(B) 12 cm"."""
    last = None
    for match in _SUBJECT.finditer(clause):
        labels = labels_at(f"{clause}.", match.end())
        if labels and not is_denied(clause, match.end()) and (last is None or last.end < match.end()):
            last = labels
    return last


def _last_line(text: str) -> Iterator[ChoiceStatement]:
    """The labels that the last line consists of."""
    before, _, line = text.rpartition("\n")
    start = len(text) - len(line)
    is_listed = line_labels(before.rstrip("\n").rpartition("\n")[2]) or before.endswith("\nor")  # "A\\nB\\nC"
    if (labels := line_labels(line)) and not is_listed:
        yield ChoiceStatement(start, "", labels)
