"""Accuracy methods of short answers: `default` (of any kind), `mcq`, `yes_no`, `all_match` (VLM-R1), `digits`
(r1_vlm).

The kind of the gold answer decides how they compare, and they pay 1.0 or 0.0.
"""

import re
from collections.abc import Mapping
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import data_error, shorten
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.math import is_math, lists_alternatives, same_math
from open_r1.rewards.parsing.answer import final_text, normalize
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.options import LETTERS, option_key, parse_option, parse_yes_no

_GOLD_LETTER = re.compile(rf"[(\[]?[{LETTERS}][)\]]?[.:]?|[(\[]?[{LETTERS}](?:[)\]][.:]?|[.:])\s+\S.*", re.DOTALL)
_LABELLED = re.compile(rf"\W{{0,3}}[{LETTERS}][).:]")
_OPTION_LABEL = re.compile(rf"^\s*[(\[]?[{LETTERS}](?:[)\]][.:]?|[.:])\s+")
_INTEGERS = re.compile(r"\d{1,4}(?:\s?,\s?\d{1,4}){0,30}")


def default(completion: str, record: Record) -> float:
    """1.0 for an answer equal to gold, compared by gold's kind: option letter, mathematics, or words; else 0.0.

    A labelled option ("B. 8") is wrong for a gold number, as R1-V's counting metric cannot read it.

    >>> default("<answer> 3 </answer>", Record("1", (), "", (), "3")), default("31", Record("1", (), "", (), "3"))
    (1.0, 0.0)
    """
    gold, answer = gold_text(record), final_text(completion)
    if _is_option(gold, record):
        return mcq(completion, record)
    if is_math(gold):
        return float(not _LABELLED.match(answer) and same_math(gold, answer))
    return float(same_words(gold, answer))


def parse_default(completion: str, record: Record) -> Any:
    """The letter, number or text that `default` reads; None for an answer of another kind than gold."""
    gold, answer = gold_text(record), final_text(completion)
    if _is_option(gold, record):
        return parse_mcq(completion, record)
    value = parse_number(answer)
    if parse_number(gold) is None or value is not None:
        return (int(value) if value.denominator == 1 else float(value)) if value is not None else answer or None
    is_readable = re.search(r"\d|\\", answer) and not _LABELLED.match(answer) and not lists_alternatives(gold, answer)
    return answer if is_readable else None


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts are equal but for case, spaces and sentence punctuation; False where both are empty.

    >>> same_words("Kick stand", "kick-stand."), same_words("cat", "cats"), same_words("", "")
    (True, False, False)
    """
    if gold.strip() == answer.strip():
        return bool(gold.strip())
    words = normalize(gold)
    return bool(words) and words == normalize(answer)


def mcq(completion: str, record: Record) -> float:
    """1.0 where the answer chooses the gold option by letter or by its text, else 0.0.

    The options are the extra field `options` or `choices`, if any. Gold may be "B", "(B)", "B. 12 cm", or an option's
    text. Raises DataError (field `solution`) for another gold.

    >>> mcq("<answer>The answer is (B)</answer>", Record("1", (), "", (), "B. 12 cm"))
    1.0
    """
    return float(parse_mcq(completion, record) == gold_letter(record))


def parse_mcq(completion: str, record: Record) -> str | None:
    """The option letter that an answer chooses by letter or text; "x = 80" also chooses a gold option "80"."""
    answer = final_text(completion)
    letter = parse_option(answer, options_of(record))
    if (
        letter is None
        and answer
        and not _LABELLED.match(answer)
        and _has_option_text(gold_option_text(record), answer)
    ):
        return gold_letter(record)
    return letter


def gold_option_text(record: Record) -> str:
    """The text of the gold option without its label; "" where gold is only a letter."""
    options = options_of(record)
    text = options[LETTERS.index(gold_letter(record))] if options else gold_text(record)
    label_free = _OPTION_LABEL.sub("", text, count=1)
    return label_free if len(label_free.strip(" ()[].:")) > 1 or label_free.strip().isdigit() else ""


def gold_letter(record: Record) -> str:
    """The letter of the gold option; raises DataError (field `solution`) where there is none."""
    options = options_of(record)
    letter = parse_option(gold_text(record), options)
    if letter is None:
        expected = "the text of one option, or its letter" if options else "an option letter A to J"
        raise bad_gold(record, f"{expected}{f' (A to {LETTERS[len(options) - 1]})' if options else ''}")
    return letter


def options_of(record: Record) -> list[str] | None:
    """The texts of the options A, B, ... from `options` or `choices`: a list, or an object with the letters as keys.

    Raises DataError for anything else and for more than ten.
    """
    name = "options" if record.extra.get("options") else "choices"
    value = record.extra.get(name)
    if not value:
        return None
    if isinstance(value, Mapping) and list(value) == list(LETTERS[: len(value)]):
        value = list(value.values())
    if not isinstance(value, (list, tuple)) or len(value) > len(LETTERS):
        expected = f"a list of at most {len(LETTERS)} options"
        raise data_error(record.where, name, shorten(value), expected, "write the options as a list of texts")
    return [str(option) for option in value]


def yes_no(completion: str, record: Record) -> float:
    """1.0 where yes or no is the gold answer, else 0.0. Raises DataError (field `solution`) for another gold.

    >>> yes_no("<answer>I know</answer>", Record("1", (), "", (), "No")), yes_no("no.", Record("1", (), "", (), "No"))
    (0.0, 1.0)
    """
    gold = parse_yes_no(gold_text(record))
    if gold is None:
        raise bad_gold(record, "yes or no")
    return float(parse_yes_no(final_text(completion)) == gold)


def parse_yes_no_answer(completion: str, record: Record) -> str | None:
    """The "yes" or "no" that `yes_no` reads from a completion; None for neither."""
    return parse_yes_no(final_text(completion))


def all_match(completion: str, record: Record) -> float:
    """1.0 where the whole answer is the gold one but for case and runs of space, else 0.0. (VLM-R1's GUI task)

    >>> all_match("<answer>no  defect</answer>", Record("1", (), "", (), "No Defect"))
    1.0
    """
    return float(gold_text(record).casefold().split() == final_text(completion).casefold().split())


def digits(completion: str, record: Record) -> float:
    """1.0 for the gold integer, or the gold list of integers in its order; else 0.0. (r1_vlm's digit recognition)

    Raises DataError (field `solution`) for another gold.

    >>> digits("<answer>[0,1]</answer>", Record("1", (), "", (), "[0, 1]"))
    1.0
    """
    gold = parse_integers(gold_text(record))
    if gold is None:
        raise bad_gold(record, "an integer or a list of integers, such as [0, 1]")
    return float(parse_integers(final_text(completion)) == gold)


def parse_digits(completion: str, record: Record) -> int | list[int] | None:
    """The integer or list that `digits` reads from a completion; None for anything else."""
    return parse_integers(final_text(completion))


def parse_integers(text: str) -> int | list[int] | None:
    """The integer, or list of integers in brackets, that a text is; None for anything else.

    >>> parse_integers("13"), parse_integers("[0, 1]"), parse_integers("[1]"), parse_integers("0, 1")
    (13, [0, 1], [1], None)
    """
    inside = text.removeprefix("[").removesuffix("]").strip()
    is_list = text == f"[{text[1:-1]}]"
    if not _INTEGERS.fullmatch(inside) or ((len(inside) < len(text) or "," in inside) and not is_list):
        return None
    values = [int(part.strip()) for part in inside.split(",")]  # int() knows less white space than \s
    return values if is_list else values[0]


def _has_option_text(gold: str, answer: str) -> bool:
    """Whether an answer is the text of the gold option, as words or as mathematics."""
    return bool(gold) and (option_key(gold) == option_key(answer) or (is_math(gold) and same_math(gold, answer)))


def _is_option(gold: str, record: Record) -> bool:
    """Whether a gold answer is an option: one of the record's options, or a letter."""
    by_text = options_of(record) is not None and parse_option(gold, options_of(record)) is not None
    return by_text or _GOLD_LETTER.fullmatch(gold) is not None
