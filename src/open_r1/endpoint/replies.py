"""Parses the replies of an endpoint: JSON objects, and reasoning in front of an answer. (torch-free)

Takes time linear in the text, as all parsers of `open_r1.rewards.parsing.answer`.
"""

import json
import re
from typing import Any

import orjson

_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
# "\frac", "\theta", "\rho", "\beta", "\neq" behind a single backslash: JSON reads the first letter as a control code
_LOST_BACKSLASH = re.compile(r"[\b\f\r\t](?=[a-zA-Z])|\n(?=(?:eq|abla|eg|otin|parallel)\b)")


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object of a reply that holds nothing else, except one code fence; raises ValueError naming the defect.

    No key may occur twice, and the object can be written again: no NaN, no number beyond a
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
        value = json.loads(body, object_pairs_hook=_distinct)  # orjson accepts equal keys
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


def has_lost_backslash(text: str) -> bool:
    """Whether LaTeX in a decoded JSON text lost a backslash that was not doubled in the JSON.

    >>> has_lost_backslash(json.loads(r'"\\frac12"')), has_lost_backslash(json.loads(r'"\\\\frac12\\nThus"'))
    (True, False)
    """
    return _LOST_BACKSLASH.search(text) is not None


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, rest): the text up to the last `</think>`, without its tag, and what follows; both stripped.

    >>> split_reasoning("<think>1+1</think> 2"), split_reasoning("1+1</think> 2"), split_reasoning("2")
    (('1+1', '2'), ('1+1', '2'), ('', '2'))
    """
    before, closed, after = text.rpartition("</think>")
    return before.strip().removeprefix("<think>").strip() if closed else "", after.strip()
