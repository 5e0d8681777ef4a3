"""Reads detections from model text: all boxes with labels, or the statement that there is no object.

`open_r1.rewards.parsing.boxes` reads the boxes; `absence` whether a text without boxes states that there are none.
"""

from dataclasses import replace

import orjson

from open_r1.rewards.parsing.absence import states_no_object
from open_r1.rewards.parsing.boxes import AnswerBox, parse_boxes


def parse_detections(text: str) -> list[AnswerBox] | None:
    """All boxes of an answer in its order; [] where it states that there are none, None where it does neither.

    Numbers stay in the frame of the text. An answer states that there are none by an empty list `[]` at its end, also
    in a fence, or by sentences that only deny: "None", "There are no cats in the image.", "图中没有猫".

    >>> parse_detections('[{"bbox_2d": [1, 2, 3, 4], "label": "caf\\\\u00e9"}]')
    [AnswerBox(xyxy=(1.0, 2.0, 3.0, 4.0), label='café')]
    >>> parse_detections("```json\\n[]\\n```"), parse_detections("None."), parse_detections("I cannot see any")
    ([], [], None)
    """
    boxes = parse_boxes(text)
    if "\\u" in text:
        boxes = [replace(box, label=_unescaped(box.label)) for box in boxes]
    return boxes if boxes or states_no_object(text) else None


def _unescaped(label: str | None) -> str | None:
    r"""A label with its JSON escapes (letters beyond ASCII) decoded; unchanged where another backslash, or half of a
    surrogate pair, is in it."""
    if label is None or "\\u" not in label:
        return label
    try:
        return orjson.loads(f'"{label}"')
    except orjson.JSONDecodeError:
        return label
