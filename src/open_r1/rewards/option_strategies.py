"""Cheap strategies that answer by the form of the options alone. (torch-free)"""

from collections.abc import Sequence

from open_r1.data.record import Record
from open_r1.rewards.gold import in_format
from open_r1.rewards.gold_table import GoldTable, listed_options


def every_letter(record: Record, golds: GoldTable) -> str | None:
    """the letters of all options"""
    options = listed_options(record)
    return in_format(", ".join(letters(options)), record) if len(options) > 1 else None


def every_option(record: Record, golds: GoldTable) -> str | None:
    """all options with their texts"""
    options = listed_options(record)
    lines = (f"{letter}. {text}" for letter, text in zip(letters(options), options, strict=True))
    return in_format("\n".join(lines), record) if len(options) > 1 else None


def first_option(record: Record, golds: GoldTable) -> str | None:
    """the first option, always"""
    return in_format("A", record) if listed_options(record) or "A" in golds.keys else None


def longest_option(record: Record, golds: GoldTable) -> str | None:
    """the option with the longest text"""
    options = listed_options(record)
    lengths = [len(text) for text in options]
    return in_format(letters(options)[lengths.index(max(lengths))], record) if len(set(lengths)) > 1 else None


def letters(options: Sequence[str]) -> list[str]:
    """The letters of options.

    >>> letters(["red", "blue"])
    ['A', 'B']
    """
    return [chr(ord("A") + place) for place in range(len(options))]
