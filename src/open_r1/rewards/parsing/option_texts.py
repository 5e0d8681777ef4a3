"""The options of a question: their letters and texts, made comparable. (torch-free)"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple

from open_r1.rewards.parsing.answer import fold_case, without_markup
from open_r1.rewards.parsing.labels import Labels, label_text
from open_r1.rewards.parsing.numbers import parse_number

LETTERS = ascii_uppercase

_MAX_CHARS = 2_000  # no option is that long
_ARTICLE = re.compile(r"^(?:an?|the) (?=\w\w)")
_LABEL = re.compile(r"\s*(?:[(\[]([A-Z])[)\]][.:]?|([A-Z])[.:)](?![A-Za-z.]))\s*(?=\S)")
_LOOSE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:)(?![a-z])|[.,;:!?]+$")
_PICTURE = re.compile(r"(?:<?image ?\d*>?|[A-Z]|)", re.IGNORECASE)
_SEPARATOR = re.compile(r"\s{0,3}(?:[.:,;)=](?!\d)|[-–—](?=\s))?\s{0,3}")  # between a letter and its text
_MARKS = " .:,;()-–—=\n"
_CLAUSE = re.compile(
    r"[,;:(]|\s(?:because|since|as|which|so|for|with|is|are|rather than|instead of|not|but)\b|\.\s"
    r"|\s[-–—]\s",
    re.IGNORECASE,
)


class Choice(NamedTuple):
    """What an answer chooses: letters in their order, "" for none; and where it names no option, what it states."""

    letters: str
    stated: str = ""


NOTHING = Choice("")  # of a statement that leaves the choice open, or contradicts itself


@dataclass(frozen=True)
class OptionTexts:
    """The texts of options by letter, as keys to compare (`option_key`); without any, every letter is an option."""

    keys: Mapping[str, str]

    @classmethod
    def of(cls, options: Sequence[str] | Mapping[str, str] | None) -> "OptionTexts":
        """The texts of `options`: in the order of the letters, or by letter."""
        by_letter = options if isinstance(options, Mapping) else dict(zip(LETTERS, options or (), strict=False))
        return cls({letter: option_key(str(text), letter) for letter, text in by_letter.items()})

    @property
    def are_pictures(self) -> bool:
        """Whether the options have no texts of their own: "figure B" then names option B."""
        return all(_PICTURE.fullmatch(key) for key in self.keys.values())

    def choice(self, labels: Labels, rest: str) -> Choice:
        """The choice of labels that a text follows; NOTHING for alternatives, other letters, another option's text."""
        if labels.is_open or not self.has(labels.letters):
            return NOTHING
        is_contradicted = len(labels.letters) == 1 and self._contradicts(labels.letters, rest)
        return NOTHING if is_contradicted else Choice(labels.letters)

    def has(self, letters: Iterable[str]) -> bool:
        """Whether all letters are options."""
        return not self.keys or self.keys.keys() >= set(letters)

    def letter_of(self, text: str) -> str:
        """The letter of the one option with this text, "" where none or several have it; a bare letter is no text.

        >>> OptionTexts.of(["9 cm", "12 cm"]).letter_of("12 cm."), OptionTexts.of(["x", "x"]).letter_of("x")
        ('B', '')
        """
        key = text_key(text) if self.keys and len(text) <= _MAX_CHARS else ""
        letters = [letter for letter, own in self.keys.items() if own == key]
        return letters[0] if len(letters) == 1 and not re.fullmatch("[a-z]?", key) else ""

    def is_own(self, letter: str, text: str) -> bool:
        """Whether a text after a letter is the text of this option: ". 12 cm", "-3, as x < 0"."""
        return self.keys.get(letter) in self._said(text)

    def _contradicts(self, letter: str, text: str) -> bool:
        """Whether a text after a letter is the text of other options, and not of this one."""
        said = self._said(text)
        return bool(said) and self.keys.get(letter) not in said

    def _said(self, text: str) -> set[str]:
        """The option's key that a text after a letter is; its sign, dot and brackets are its own where they can be."""
        rest = text[_SEPARATOR.match(text).end() : _MAX_CHARS].rstrip(" .:,;\n") if self.keys else ""
        for part in (rest, first_clause(rest), rest.strip(_MARKS), first_clause(rest.strip(_MARKS))):
            if (key := text_key(part)) and key in self.keys.values():
                return {key}
        return set()


def option_key(option: str, letter: str = "") -> str:
    """The key of an option's text without its label, or without only this `letter` as its label.

    >>> option_key("B: 12.0 cm"), option_key("B. 3", "B"), option_key("(A) = 6, (B) = 4", "C")
    ('12.0cm', '3', '(a)=6,(b)=4')
    """
    label = _LABEL.match(option)
    is_own = label and letter in (label[1] or label[2], "")
    return text_key(option[label.end() :] if label and is_own else option)


def first_clause(text: str) -> str:
    """A text up to its first comma, bracket, or word that begins another clause.

    >>> first_clause("9 cm, as measured"), first_clause("9 cm is too short")
    ('9 cm', '9 cm')
    """
    return _CLAUSE.split(text, maxsplit=1)[0]


def text_key(text: str) -> str:
    r"""A text for comparing: without markup, case, article, final marks, spaces about digits; a number by its value.

    >>> text_key("−3.0"), text_key("$x = \\dfrac{1}{2}$"), text_key("The  cat."), text_key("1 : 2")
    ('-3', 'x=\\frac{1}{2}', 'cat', '1:2')
    """
    text = label_text(text)
    number = parse_number(text)
    if number is not None:
        return str(number)
    words = _ARTICLE.sub(
        "", " ".join(fold_case(_LOOSE.sub("", without_markup(text)).replace(r"\dfrac", r"\frac")).split())
    )
    return re.sub(r"(?<!\d) | (?!\d)", "", words) if re.search(r"[\d\\]", words) else words
