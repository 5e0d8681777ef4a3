"""Accuracy methods of short answers: `default` (of any kind), `yes_no`, `all_match` (VLM-R1), `digits` (r1_vlm).

They pay 1.0 or 0.0.
"""

import re
from collections.abc import Iterator
from typing import Any

from open_r1.data.record import Record
from open_r1.rewards.base import bad_gold, gold_text
from open_r1.rewards.math import is_math, lists_alternatives, same_math
from open_r1.rewards.multiple_choice import LABELLED, is_option, mcq, parse_mcq
from open_r1.rewards.parsing.answer import final_text, normalize, without_markup
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.labels import label_text
from open_r1.rewards.parsing.numbers import parse_number
from open_r1.rewards.parsing.statement import stated_answer
from open_r1.rewards.parsing.yes_no import parse_yes_no, says_only

_INTEGERS = re.compile(r"\d{1,4}(?:\s?,\s?\d{1,4}){0,30}")
_COUNTED = re.compile(
    r"(?:一?共?有|总共有?|共|是)?\s?(?P<number>[-+\d.,/%\s]{1,40})\s?[个個只隻条條张張本名位辆輛头頭匹朵棵件块塊种種次座把台间層层人]?"
)
_ARTICLE = re.compile(r"(?:an?|the) (?=\w)")


def default(completion: str, record: Record) -> float:
    """1.0 for an answer equal to gold, compared by its kind: option, yes or no, mathematics, words; else 0.0.

    A labelled option ("B. 8") is wrong for a gold number, as R1-V's counting metric cannot read it. Words are compared
    with the whole answer and with what it states ("The answer is a red car."), never with a part.

    >>> default("<answer> 3 </answer>", Record("1", (), "", (), "3")), default("31", Record("1", (), "", (), "3"))
    (1.0, 0.0)
    """
    gold, answer = gold_text(record), final_text(completion)
    if is_option(gold, record):
        return mcq(completion, record)
    if says_only(gold):
        return yes_no(completion, record)
    if is_math(gold):
        return float(not LABELLED.match(answer) and any(same_math(gold, value) for value in _values(answer)))
    return float(same_words(gold, answer) or same_words(gold, stated_words(answer)))


def parse_default(completion: str, record: Record) -> Any:
    """The letter, yes or no, number or text that `default` reads; None for an answer of another kind than gold."""
    gold, answer = gold_text(record), final_text(completion)
    if is_option(gold, record):
        return parse_mcq(completion, record)
    if says_only(gold):
        return parse_yes_no(answer)
    number = next((value for text in _values(answer) if (value := parse_number(text)) is not None), None)
    if number is not None:
        return int(number) if number.denominator == 1 else float(number)
    if parse_number(gold) is None:
        return stated_words(answer) or answer or None
    is_readable = re.search(r"\d|\\", answer) and not LABELLED.match(answer) and not lists_alternatives(gold, answer)
    return answer if is_readable else None


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts are equal but for case, spaces, sentence punctuation, and an article before them.

    False where both are empty.

    >>> same_words("Kick stand", "a kick-stand."), same_words("cat", "cats"), same_words("", "")
    (True, False, False)
    """
    if gold.strip() == answer.strip():
        return bool(gold.strip())
    words = _words(gold)
    return bool(words) and words == _words(answer)


def stated_words(answer: str) -> str:
    """What an answer states, without markup; "" where it states nothing.

    >>> [stated_words(text) for text in ("The answer is **red**, as it shines.", "\\\\boxed{red}", "red")]
    ['red', 'red', '']
    """
    return label_text(stated_answer(answer) or "")


def _words(text: str) -> str:
    """The words of a text, without an article before them."""
    return _ARTICLE.sub("", normalize(plain_characters(text)), count=1)


def yes_no(completion: str, record: Record) -> float:
    """1.0 where yes or no is the gold answer, else 0.0; true and false, 是 and 否, 对 and 错 say the same.

    Raises DataError (field `solution`) for another gold.

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
    text = without_markup(plain_characters(stated_answer(text) or text))
    inside = text.removeprefix("[").removesuffix("]").strip()
    is_list = text == f"[{text[1:-1]}]"
    if not _INTEGERS.fullmatch(inside) or ((len(inside) < len(text) or "," in inside) and not is_list):
        return None
    values = [int(part.strip()) for part in inside.split(",")]  # int() knows less white space than \s
    return values if is_list else values[0]


def _values(answer: str) -> Iterator[str]:
    """The answer, and the number of one that counts in Chinese: "有3个"."""
    yield answer
    stated = stated_answer(answer) or answer
    match = _COUNTED.fullmatch(plain_characters(stated[:80]).strip(" ."))
    if match and not answer.isascii():
        yield match["number"].strip()
