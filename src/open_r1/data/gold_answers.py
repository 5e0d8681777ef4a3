"""Reads the gold answer of a row, under any of its names, and refuses a row that has two. (torch-free)"""

import json
import re
from collections.abc import Iterator, Sequence

import orjson

from open_r1.errors import Problem, data_error, shorten

CONVERT = "python -m open_r1.convert FILE --out DIR"
ANSWER_NAMES = ("solution", "answer", "response", "output", "completion", "ground_truth", "target")
_WRAPPED = re.compile(r"<answer>(.*?)</answer>\Z")


def solution_text(value: object, name: str, where: str) -> str:
    """The gold answer as text; numbers and JSON values are written out. Raises DataError for null, blank, true, false.

    >>> solution_text(7, "solution", ""), solution_text(0.5, "solution", ""), solution_text([1, 2], "solution", "")
    ('7', '0.5', '[1,2]')
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, (list, dict)):
        return orjson.dumps(value).decode()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) < 2**63:
            return repr(value)
        # orjson turns integers beyond 64 bits into floats and would silently lose digits.
        raise data_error(where, name, repr(value), "a number below 2**63", 'write it as text, in "quotes"')
    remedy = "write the answer as text, or remove the row"
    raise data_error(where, name, shown_json(value), "a non-empty answer (text, number, list or object)", remedy)


def only_answer(answer: object, name: str, where: str) -> object:
    """The answer; of a list of one text, that text. Raises DataError for several, of a field that is not ours."""
    if isinstance(answer, list) and len(answer) == 1 and _is_answer_turn(answer[0]):  # TRL's conversational form
        return answer[0]["content"]
    if name == ANSWER_NAMES[0] or not isinstance(answer, list) or not answer or not all(map(is_text, answer)):
        return answer
    if len(answer) == 1:
        return answer[0]
    remedy = f"write one, or convert the file: {CONVERT}"
    raise data_error(where, name, f"{len(answer)} texts, {shorten(answer)}", "one answer", remedy)


def _is_answer_turn(value: object) -> bool:
    return isinstance(value, dict) and value.get("role") == "assistant" and is_text(value.get("content"))


def gold_problems(row: dict, fields: Sequence[str], where: str) -> Iterator[Problem]:
    """The problem of each gold answer beside the one that a row was read with, the last of `fields`, unless equal.

    >>> [str(p) for p in gold_problems({"solution": "so 3", "answer": 3}, ("problem", "", "solution"), "a.jsonl:1")]
    ["a.jsonl:1: answer: got 3, and 'so 3' in 'solution', expected one gold answer; say which one it is: \
--fields solution=answer, or --fields solution=solution"]
    """
    taken = fields[-1]
    if taken not in ANSWER_NAMES:
        return
    gold = _texts(row[taken])
    for name in ANSWER_NAMES:
        other = row.get(name)
        if name == taken or other is None or other in ("", [], {}) or gold & _texts(other):
            continue
        got = f"{shorten(other, 60)}, and {shorten(row[taken], 60)} in {taken!r}"
        remedy = f"say which one it is: --fields solution={name}, or --fields solution={taken}"
        yield Problem(where, name, got, "one gold answer", remedy)


def _texts(value: object) -> set[str]:
    """What an answer may be written as, without blanks: itself, what <answer> encloses, each text of a list."""
    texts = [value, *filter(is_text, value)] if isinstance(value, list) else [value]
    if isinstance(value, list) and len(value) == 1 and _is_answer_turn(value[0]):
        texts.append(value[0]["content"])
    plain = {"".join((text if isinstance(text, str) else json.dumps(text)).split()) for text in texts}
    return plain | {found[1] for text in plain if (found := _WRAPPED.search(text))}


def is_text(value: object) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def shown_json(value: object) -> str:
    """A JSON value as its file spells it, shortened."""
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value)) or shorten(value)
