"""The gold answers of rows: which are equal to a person's eye, the most frequent, and another row's. (torch-free)"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from open_r1.data.record import Record
from open_r1.rewards.base import gold_text, no_outlines
from open_r1.rewards.gold import gold_answer
from open_r1.rewards.parsing.absence import states_no_object
from open_r1.rewards.parsing.answer import fold_case, without_markup
from open_r1.rewards.parsing.boxes import stated_boxes
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.registry import method_of

MOST_OPTIONS = 26
_LETTER = re.compile(r"[(\[]?([A-Z])(?:[)\].:]{1,2}(?:\s.{0,400})?)?", re.DOTALL)

_LETTERS = re.compile(r"\[?[\"'(]?[A-Z][\"')]?(?:\s?[,;/&]\s?[\"'(]?[A-Z][\"')]?){1,25}\]?")  # "A, C", ["A", "C"]
_LETTERS_AS_WORD = re.compile(r"[A-Z]{2,26}")


def listed_options(record: Record) -> list[str]:
    """The texts of a row's options A, B, ... in `options` or `choices`; [] where it has no such list.

    >>> listed_options(Record("1", (), "", (), "A", {"choices": {"A": "red", "B": 7}}))
    ['red', '7']
    """
    value = record.extra.get("options") or record.extra.get("choices")
    texts = list(value.values()) if isinstance(value, Mapping) else value
    return [str(text) for text in texts[:MOST_OPTIONS]] if isinstance(texts, (list, tuple)) else []


def is_place(record: Record) -> bool:
    """Whether answers to the record are places on its picture."""
    return method_of(record).outlines is not no_outlines


def gold_key(record: Record) -> str:
    """One text for all spellings of a gold answer that a person takes for equal: letters, a number, boxes, else words.

    It asks no reward, so that it can show where a reward takes different answers for equal. Raises DataError for a
    blank gold.

    >>> row = Record("1", (), "", (), "9 cm", {"options": ["9 cm", "12 cm"]})
    >>> gold_key(row), gold_key(Record("2", (), "", (), "(A) nine")), gold_key(Record("3", (), "", (), "03.0"))
    ('A', 'A', '3')
    """
    text = without_markup(plain_characters(gold_text(record)))
    if is_place(record) and ((boxes := stated_boxes(text)) or states_no_object(text)):
        return str(sorted((box.label or "", box.xyxy) for box in boxes))
    options = [same_words_key(option) for option in listed_options(record)]
    if options.count(same_words_key(text)) == 1:
        return chr(ord("A") + options.index(same_words_key(text)))
    if letter := _LETTER.fullmatch(text):
        return letter[1]
    if _LETTERS.fullmatch(text) or (options and _LETTERS_AS_WORD.fullmatch(text)):
        return "".join(sorted(set(re.findall("[A-Z]", text))))
    number = parse_number(text)
    return str(number) if number is not None else same_words_key(text)


def same_words_key(text: str) -> str:
    """A text without case, white space and markup around it; signs and brackets stay, which mean something.

    >>> same_words_key("**A Red Car**."), same_words_key("x < 3")
    ('aredcar', 'x<3')
    """
    return "".join(fold_case(without_markup(plain_characters(text))).split())


@dataclass(frozen=True)
class GoldTable:
    """What a guesser may know of the golds of rows: their texts by `gold_key`, in order, and how often each occurs."""

    texts: Mapping[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of their first rows."""
        return tuple(self.texts)

    @cached_property
    def place(self) -> dict[str, int]:
        """Key -> its index in `keys`."""
        return {key: place for place, key in enumerate(self.keys)}

    def common(self, most: int) -> list[str]:
        """The texts of the `most` most frequent golds, the most frequent first."""
        return [self.texts[key] for key, _ in self.counts.most_common(most)]

    def other(self, record: Record) -> str | None:
        """The gold of the next row with another gold than the record's; None where all golds are equal."""
        if len(self.keys) < 2:
            return None
        place = self.place.get(gold_key(record), -1)
        return self.texts[self.keys[(place + 1) % len(self.keys)]]


def gold_table(records: Iterable[Record]) -> GoldTable:
    """The GoldTable of rows. Raises DataError for a gold that the row's method cannot use.

    >>> table = gold_table(Record("", (), "", (), gold) for gold in ("3", "4", "3.0"))
    >>> table.common(1), table.counts["3"], table.other(Record("", (), "", (), "3"))
    (['3'], 2, '4')
    """
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for record in records:
        key = gold_key(record)
        texts.setdefault(key, gold_answer(record))
        counts[key] += 1
    return GoldTable(texts, counts)
