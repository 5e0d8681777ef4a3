"""Detections in model text: every box with its label, or the plain statement that there is no object.

Boxes are read by `open_r1.rewards.parsing.boxes`; what is decided here is when an answer without boxes is an answer.
"""

from dataclasses import replace

import orjson

from open_r1.rewards.parsing.answer import normalize
from open_r1.rewards.parsing.boxes import AnswerBox, parse_boxes

MAX_STATEMENT = 60  # characters of a text that says that there is nothing
_NOTHING = {"none", "nothing", *(f"no {noun}{verb}" for noun in ("object", "objects") for verb in ("", " found"))}


def parse_detections(text: str) -> list[AnswerBox] | None:
    """All boxes of an answer in its order; [] where it says that there are none, None where it says neither.

    Numbers stay in the frame of the text. "None", "no objects" and an empty list `[]`, also in a fence, say "none"
    where they are the whole answer.

    >>> parse_detections('[{"bbox_2d": [1, 2, 3, 4], "label": "caf\\\\u00e9"}]')
    [AnswerBox(xyxy=(1.0, 2.0, 3.0, 4.0), label='café')]
    >>> parse_detections("```json\\n[]\\n```"), parse_detections("None."), parse_detections("I cannot see any")
    ([], [], None)
    """
    boxes = [replace(box, label=_unescaped(box.label)) for box in parse_boxes(text)]
    return boxes if boxes or says_nothing(text) else None


def unfenced(text: str) -> str:
    """A text without the Markdown fence around all of it.

    >>> unfenced("```json\\n[]\\n```"), unfenced(" [] ")
    ('[]', '[]')
    """
    return text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()


def says_nothing(text: str) -> bool:
    """Whether a text says, and says nothing else, that there is no object.

    >>> says_nothing("No objects found."), says_nothing("[ ]"), says_nothing("")
    (True, True, False)
    """
    inside = unfenced(text)
    if len(inside) > MAX_STATEMENT:
        return False
    return "".join(inside.split()) == "[]" or normalize(inside) in _NOTHING


def _unescaped(label: str | None) -> str | None:
    r"""JSON writers escape letters beyond ASCII; a label with another backslash in it, or with half of a surrogate
    pair, which nothing could write into a file, stands as it is."""
    if label is None or "\\u" not in label:
        return label
    try:
        return orjson.loads(f'"{label}"')
    except orjson.JSONDecodeError:
        return label
