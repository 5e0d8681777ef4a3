"""Reading the replies of an endpoint: JSON objects, and reasoning in front of an answer. (torch-free)

Linear in the text, as everything in `open_r1.rewards.parsing.answer`.
"""

import json
import re
from typing import Any

import orjson

_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
# "\frac", "\theta", "\rho", "\beta", "\neq" behind a single backslash: JSON reads the first letter as a control code
_EATEN = re.compile(r"[\b\f\r\t](?=[a-zA-Z])|\n(?=(?:eq|abla|eg|otin|parallel)\b)")


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that a reply is, alone or in one code fence; raises ValueError saying what is wrong.

    Nothing may stand around it, no key may occur twice, and it can be written again: no NaN, no number beyond a
    float's range, no half of a surrogate pair, no deep nesting.

    >>> parse_object('```json\\n{"a": 1}\\n```')
    {'a': 1}
    >>> parse_object('Sure: {"a": 1}')
    Traceback (most recent call last):
    ValueError: it is no JSON object alone (unexpected character, expected a JSON value at character 1)
    """
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    body = fenced[1] if fenced else text
    try:
        orjson.dumps(orjson.loads(body))
        value = json.loads(body, object_pairs_hook=_distinct)  # orjson keeps the last of equal keys
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is no JSON object alone ({error.msg} at character {error.pos + 1})") from error
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice in it")
    return dict(pairs)


def has_eaten_backslash(text: str) -> bool:
    """A decoded JSON text in which LaTeX lost a backslash, since it was not doubled in the JSON.

    >>> has_eaten_backslash(json.loads(r'"\\frac12"')), has_eaten_backslash(json.loads(r'"\\\\frac12\\nThus"'))
    (True, False)
    """
    return _EATEN.search(text) is not None


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, what follows): the text up to the last `</think>`, without its tag, and the rest; both stripped.

    >>> split_reasoning("<think>1+1</think> 2"), split_reasoning("1+1</think> 2"), split_reasoning("2")
    (('1+1', '2'), ('1+1', '2'), ('', '2'))
    """
    before, closed, after = text.rpartition("</think>")
    return before.strip().removeprefix("<think>").strip() if closed else "", after.strip()
