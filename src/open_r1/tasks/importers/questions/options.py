"""The options of a multiple-choice row and the letter of its gold, from the forms that question files have."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from open_r1.rewards.parsing.option_texts import LETTERS
from open_r1.tasks.importers.sources import Unusable

OPTION_FIELDS = ("options", "choices", "multiple_choices")
INDEX_FIELDS = ("correct_choice_idx", "correct_option_idx", "answer_index", "answer_idx")  # counted from 0
_LABEL = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:,]\s*")
_LETTER = re.compile(r"\s*[(\[]?([A-Z])[)\]]?[.:]?\s*")


def list_value(value: Any) -> Any:
    """A list that is written as text, in JSON or in Python's form, as the list; any other value as it is.

    >>> list_value("['one', 'two']"), list_value('["a"]'), list_value("[1, 2"), list_value("one")
    (['one', 'two'], ['a'], '[1, 2', 'one')
    """
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def options_of_row(row: Mapping[str, Any]) -> list[Any]:
    """The options in their order: a list, a list as text, an object by letter, or columns A, B, ...; [] without any.

    >>> options_of_row({"options": "['one', 'two']"}), options_of_row({"A": "red", "B": "blue", "C": None})
    (['one', 'two'], ['red', 'blue'])
    """
    value = list_value(next((row[name] for name in OPTION_FIELDS if row.get(name)), None))
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        value = value["text"]  # ARC's form: {"text": [...], "label": [...]}
    elif isinstance(value, Mapping):
        value = [value[key] for key in sorted(value)]
    elif value is None and "A" in row and "B" in row:
        value = [row[letter] for letter in LETTERS if row.get(letter) not in (None, "", "nan")]
    if not isinstance(value, list) or len(value) < 2:
        return []
    if len(value) > len(LETTERS):
        raise Unusable(f"over {len(LETTERS)} options")
    if any(isinstance(option, (Mapping, list, bytes)) or option is None for option in value):
        raise Unusable("an option that is no text")
    return value


def option_texts(options: Sequence[Any]) -> list[str]:
    """The texts of options, without their letters where each has its own.

    >>> option_texts(["(A) red", "B. blue"]), option_texts(["E. coli", 3])
    (['red', 'blue'], ['E. coli', '3'])
    """
    texts = [str(option).strip() for option in options]
    labels = [_LABEL.match(text) for text in texts]
    if all(found and found[1].upper() == letter for found, letter in zip(labels, LETTERS, strict=False)):
        return [_LABEL.sub("", text, count=1) or text for text in texts]
    return texts


def with_options(question: str, texts: Sequence[str]) -> str:
    """The question with its options as lettered lines, where it does not show them already."""
    marks = [re.search(rf"(?:^|\W)\(?{letter}[).:]", question) for letter in LETTERS[: len(texts)]]
    if all(marks):
        return question
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    return "\n".join([question.rstrip(), *lines])


def counted_from(rows: Iterable[tuple[Sequence[Any], Any]]) -> int:
    """The number of the first option in a source whose answers are numbers of options: 0, or 1.

    It is 1 where an answer is as large as the number of its options and none is 0.
    """
    numbers = [
        (number, len(options)) for options, answer in rows if (number := _as_number(options, answer)) is not None
    ]
    has_zero = any(number == 0 for number, _ in numbers)
    return int(not has_zero and any(number == count for number, count in numbers))


def _as_number(options: Sequence[Any], answer: Any) -> int | None:
    """The answer as the number of an option; None for a letter, and for a value that is an option itself."""
    if isinstance(answer, bool) or answer in options or str(answer).strip() in option_texts(options):
        return None
    if isinstance(answer, int):
        return answer
    return int(answer) if isinstance(answer, str) and re.fullmatch(r"\s*\d{1,2}\s*", answer) else None


def gold_letter(options: Sequence[Any], answer: Any, first: int = 0) -> str:
    """The letter of the gold option, or "A, C" for several: `answer` is a letter, an option's text or its number.

    Raises Unusable for an answer that is no option, or the text of two.

    >>> [gold_letter(["red", "blue"], answer) for answer in ("B", "(B)", "Blue", 1, "1", "B. blue", ["A", "B"])]
    ['B', 'B', 'B', 'B', 'B', 'B', 'A, B']
    """
    answer = list_value(answer)
    if isinstance(answer, list):
        return ", ".join(sorted({gold_letter(options, one, first) for one in answer}))
    said, letters = str(answer).strip(), LETTERS[: len(options)]
    texts = [text.casefold() for text in option_texts(options)]
    if texts.count(said.casefold()) == 1 and said not in letters:
        return letters[texts.index(said.casefold())]
    number = _as_number(options, answer)
    if number is not None and 0 <= number - first < len(options):
        return letters[number - first]
    found = _LETTER.fullmatch(said) or _LABEL.match(said)
    letter = said.upper() if len(said) == 1 else found[1] if found else ""
    if letter and letter in letters:
        return letter
    raise Unusable("an answer that is none of the options")
