"""Reads detections from model text: all boxes with labels, or the statement that there is no object.

`open_r1.rewards.parsing.boxes` reads the boxes; this file decides whether a text without boxes states "no object".
"""

from dataclasses import replace

import orjson

from open_r1.rewards.parsing.answer import normalize
from open_r1.rewards.parsing.boxes import AnswerBox, parse_boxes

MAX_STATEMENT = 60  # most characters of a text that states "no object"
_NOTHING = {"none", "nothing", *(f"no {noun}{verb}" for noun in ("object", "objects") for verb in ("", " found"))}


def parse_detections(text: str) -> list[AnswerBox] | None:
    """All boxes of an answer in its order; [] where it states that there are none, None where it does neither.

    Numbers stay in the frame of the text. An answer states that there are
    none where it is only "None", "no objects" or an empty list `[]`, also in a fence.

    >>> parse_detections('[{"bbox_2d": [1, 2, 3, 4], "label": "caf\\\\u00e9"}]')
    [AnswerBox(xyxy=(1.0, 2.0, 3.0, 4.0), label='café')]
    >>> parse_detections("```json\\n[]\\n```"), parse_detections("None."), parse_detections("I cannot see any")
    ([], [], None)
    """
    boxes = [replace(box, label=_unescaped(box.label)) for box in parse_boxes(text)]
    return boxes if boxes or states_no_object(text) else None


def without_fence(text: str) -> str:
    """A text without the Markdown fence around all of it.

    >>> without_fence("```json\\n[]\\n```"), without_fence(" [] ")
    ('[]', '[]')
    """
    return text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()


def states_no_object(text: str) -> bool:
    """Whether a text only states that there is no object.

    >>> states_no_object("No objects found."), states_no_object("[ ]"), states_no_object("")
    (True, True, False)
    """
    inside = without_fence(text)
    if len(inside) > MAX_STATEMENT:
        return False
    return "".join(inside.split()) == "[]" or normalize(inside) in _NOTHING


def _unescaped(label: str | None) -> str | None:
    r"""A label with its JSON escapes (letters beyond ASCII) decoded; unchanged where another backslash, or half of a
    surrogate pair, is in it."""
    if label is None or "\\u" not in label:
        return label
    try:
        return orjson.loads(f'"{label}"')
    except orjson.JSONDecodeError:
        return label
