"""Reads a line that begins with an option's label: "B. 12 cm", not "F - f = ma". (torch-free)"""

import re
from typing import NamedTuple

from open_r1.rewards.parsing.choice_statements import NOUN
from open_r1.rewards.parsing.labels import Labels
from open_r1.rewards.parsing.option_texts import NOTHING, Choice, OptionTexts

LABEL_LINE = re.compile(
    rf"^\s?(?:[-•]\s)?(?:(?i:{NOUN})\s)?"
    r"(?P<label>[(\[][A-Za-z][)\]][.:]?|[a-hA-Z][.)](?![A-Za-z.])"
    r"|[A-Z](?:[:\]]|,(?!\s?[A-Z](?![A-Za-z]))|\s[-–—](?=\s)|\s?(?=\()))\s?"
    r"(?!(?:is|are|was|were|has|have|can|does|would|shows?|and|or)\b)(?=\S)",
    re.MULTILINE,
)
_LISTS = re.compile(r"\b(?:options|choices|each)\b[^\n:]{0,60}:\s*\Z", re.IGNORECASE)


class LabelLine(NamedTuple):
    """A line that begins with a label: its letter, the label as written, the rest; first or last of its text."""

    letter: str
    label: str
    rest: str
    is_first: bool
    is_last: bool


def labelled(text: str, texts: OptionTexts) -> Choice | None:
    """The letter of the only line that begins with a label, where it has its option's text or ends the text."""
    line = _label_line(text)
    return _choice_of_line(line, texts) if line and (line.is_last or texts.is_own(line.letter, line.rest)) else None


def headed(text: str, texts: OptionTexts) -> Choice | None:
    """The letter of the only line that begins with a label, of a text without a conclusion."""
    line = _label_line(text)
    return _choice_of_line(line, texts) if line and (line.is_first or texts.are_pictures) else None


def _choice_of_line(line: LabelLine, texts: OptionTexts) -> Choice | None:
    """The choice of a line with a label; None for variables ("F - f = ma", "A: area"), and for other labels in it."""
    is_own = texts.is_own(line.letter, line.rest)
    is_loose = not re.search(r"[.)\]]", line.label) and not (line.is_first and line.is_last)
    is_variable = is_loose and ("=" in line.rest or not texts.are_pictures)
    if not is_own and (is_variable or _has_label(line.rest, line.label)):
        is_other = texts.has(line.letter) and texts.choice(Labels(line.letter, False, 0), line.rest) == NOTHING
        return NOTHING if is_other else None
    return texts.choice(Labels(line.letter, False, 0), line.rest)


def _label_line(text: str) -> LabelLine | None:
    """The only line that begins with a label, or a last one apart; None for a list of options."""
    lines = list(LABEL_LINE.finditer(text))
    letters = [re.sub("[^A-Za-z]", "", match["label"]).upper() for match in lines]
    is_last = bool(lines) and "\n" not in text[lines[-1].end() :]
    is_apart = is_last and "\n\n" in text[: lines[-1].start() + 1]
    follows = len(letters) > 1 and ord(letters[-1]) == ord(letters[-2]) + 1  # as in a list
    is_list = len(set(letters)) > 1 and (follows or not is_apart)
    if not lines or is_list or _LISTS.search(text, 0, lines[-1].start()):
        return None
    rest = text[lines[-1].end() :].partition("\n")[0]
    return LabelLine(letters[-1], lines[-1]["label"].strip(), rest, not text[: lines[-1].start()].strip(), is_last)


def _has_label(text: str, label: str) -> bool:
    """Whether a text has another letter in the form of a label, such as "A." or "(A)"."""
    form = re.escape(label).replace(label.strip("()[].:,-–— "), "(?P<letter>[A-Za-z])")
    others = re.finditer(rf"(?<![A-Za-z0-9]){form}(?=\s)", text) if len(label) > 1 else ()
    return any(match["letter"] not in label for match in others)
