"""Accuracy methods of multiple-choice answers: `mcq` and `mcq_partial`.

Letters are in their order, as "B" or "AC".
"""

import re
from collections.abc import Mapping

import orjson

from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.math import is_math, same_math
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.option_texts import LETTERS, option_key, text_key
from open_r1.rewards.parsing.options import letter_set, read_choice

LABELLED = re.compile(r"\W{0,3}[A-J][).:]")

_LETTER = re.compile(r"[(\[]?[A-Z][)\]]?[.:]?")
_LABELLED_TEXT = re.compile(r"[(\[]?[A-J](?:[)\]][.:]?|[.:])\s*(?=\S)")


def mcq(completion: str, record: Record) -> float:
    """1.0 where the answer chooses the gold option, or exactly the gold options, by letter or by text; else 0.0.

    The options are the extra field `options` or `choices`, if any. Gold may be "B", "(B)", "B. 12 cm", an option's
    text, or several: "A, C", "AC", ["A", "C"]. Raises DataError (field `solution`) for another gold.

    >>> mcq("<answer>The answer is (B)</answer>", Record("1", (), "", (), "B. 12 cm"))
    1.0
    >>> [mcq(answer, Record("1", (), "", (), "A, C")) for answer in ("C and A", "(A)(C)", "A", "A or C")]
    [1.0, 1.0, 0.0, 0.0]
    """
    return float(parse_mcq(completion, record) == gold_letters(record))


def mcq_partial(completion: str, record: Record) -> float:
    """The share of the gold options that the answer chooses, in [0, 1]; 0.0 with any wrong one, as for all letters.

    Reads answers and gold as `mcq` does, and raises the same.

    >>> [mcq_partial(answer, Record("1", (), "", (), "A, C")) for answer in ("A and C", "C", "A, B", "A, B, C, D")]
    [1.0, 0.5, 0.0, 0.0]
    """
    chosen, gold = set(parse_mcq(completion, record) or ""), set(gold_letters(record))
    return len(chosen) / len(gold) if chosen <= gold else 0.0


def parse_mcq(completion: str, record: Record) -> str | None:
    """The option letter that an answer chooses, or the letters, as "AC", where gold has several; None for no choice.

    "x = 80" also chooses a gold option "80".
    """
    gold, answer = gold_letters(record), final_text(completion)
    letters, stated = read_choice(answer, options_of(record), is_multiple=len(gold) > 1)
    if letters or len(gold) > 1:
        return letters if len(letters) == 1 or (letters and len(gold) > 1) else None
    return (
        gold if stated and not LABELLED.match(answer) and _has_option_text(gold_option_text(record), stated) else None
    )


def gold_option_text(record: Record) -> str:
    """The text of the one gold option without its label; "" where gold is only a letter."""
    options, letter = options_of(record), gold_letters(record)
    text = options[letter] if options else gold_text(record)
    label_free = _LABELLED_TEXT.sub("", text, count=1)
    return label_free if len(label_free.strip(" ()[].:")) > 1 or label_free.strip().isdigit() else ""


def gold_letters(record: Record) -> str:
    """The letters of the gold options in their order, "B" or "AC"; raises DataError (field `solution`) without any."""
    options, gold = options_of(record), gold_text(record)
    letters = _gold_letters(gold, options)
    if not letters:
        expected = "the text of one option, or the letters of options" if options else "option letters, A to Z"
        raise bad_gold(record, f"{expected}{f' ({min(options)} to {max(options)})' if options else ''}")
    return letters


def _gold_letters(gold: str, options: Mapping[str, str] | None) -> str:
    """The letters that a gold text means: its options' texts, else letters alone, else what it states."""
    by_text = {text_key(text): letter for letter, text in (options or {}).items()}
    if len(gold) > 1 and options and (letter := by_text.get(text_key(gold))):
        return letter
    letters = letter_set(gold) or _letters_of_list(gold, options)
    if not letters:
        letters = read_choice(gold, options).letters
    return letters if not options or options.keys() >= set(letters) else ""


def _letters_of_list(gold: str, options: Mapping[str, str] | None) -> str:
    """The letters of a JSON list of options' texts."""
    try:
        items = orjson.loads(gold) if options and gold.startswith("[") else []
    except orjson.JSONDecodeError:
        return ""
    return "".join(sorted({_gold_letters(str(item), options) for item in items})) if items else ""


def options_of(record: Record) -> dict[str, str] | None:
    """The texts of the options by letter, from `options` or `choices`: a list, or an object with letters as keys.

    Raises DataError for anything else and for more than 26.
    """
    name = "options" if record.extra.get("options") else "choices"
    value = record.extra.get(name)
    if not value:
        return None
    if isinstance(value, (list, tuple)) and len(value) <= len(LETTERS):
        return {letter: str(option) for letter, option in zip(LETTERS, value, strict=False)}
    by_letter = {key.strip("(). ").upper(): text for key, text in value.items()} if isinstance(value, Mapping) else {}
    if by_letter and by_letter.keys() <= set(LETTERS):
        return {letter: str(by_letter[letter]) for letter in sorted(by_letter)}
    expected = f"a list of at most {len(LETTERS)} options, or an object with the letters as keys"
    raise data_error(record.where, name, shorten(value), expected, "write the options as a list of texts")


def _has_option_text(gold: str, answer: str) -> bool:
    """Whether an answer is the text of the gold option, as words or as mathematics."""
    return bool(gold) and (option_key(gold) == text_key(answer) or (is_math(gold) and same_math(gold, answer)))


def is_option(gold: str, record: Record) -> bool:
    """Whether a gold answer is an option: one or several of the record's options, or letters with marks."""
    options = options_of(record)
    if options:
        return bool(_gold_letters(gold, options))
    plain = plain_characters(gold)
    is_list = not plain.isalnum() and len(letter_set(plain)) > 1
    return is_list or _LETTER.fullmatch(plain) is not None or _LABELLED_TEXT.match(plain) is not None
