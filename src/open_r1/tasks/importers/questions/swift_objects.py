"""Fills ms-swift's `<ref-object>` and `<bbox>` from the row's `objects`. (torch-free)

In answers they become Qwen-VL's marks, which `grounding` then reads; in questions the name, and the box in brackets.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from open_r1.tasks.importers.items import Turns
from open_r1.tasks.importers.questions.options import list_value
from open_r1.tasks.importers.sources import Unusable

FRAMES = {"real": "pixels", "norm1": "fractions", "norm1000": "per_mille"}
_PLACE = re.compile(r"<ref-object>|<bbox>")


def fill_objects(turns: Turns, objects: Any) -> tuple[Turns, str]:
    """(the turns with their objects, how these write boxes: a name of READINGS).

    `objects` is {"ref": [...], "bbox": [...], "bbox_type": "real"}, or a list of {"caption", "bbox", "bbox_type"}.
    Raises Unusable where places and objects do not agree.

    >>> fill_objects([("human", "Find the <ref-object>"), ("gpt", "<bbox>")], {"ref": ["cat"], "bbox": [[1, 2, 3, 4]]})
    ([('human', 'Find the cat'), ('gpt', '<ref>cat</ref><box>[[1, 2, 3, 4]]</box>')], 'pixels')
    """
    objects = list_value(objects)
    if not any(_PLACE.search(text) for _, text in turns):
        return turns, ""
    names, boxes, kind = _columns(objects)
    if kind not in FRAMES:
        raise Unusable(f"objects with the bbox_type {kind}")
    labels = names if len(names) == len(boxes) else names * len(boxes) if len(names) == 1 else [""] * len(boxes)
    rest_of_names, rest_of_boxes = iter(names), iter(zip(boxes, labels, strict=True))
    filled = [(role, _filled(text, role == "gpt", rest_of_names, rest_of_boxes)) for role, text in turns]
    if next(rest_of_boxes, None) is not None:
        raise Unusable("more boxes in objects than places for them")
    return filled, FRAMES[kind]


def _columns(objects: Any) -> tuple[list[str], list[Any], str]:
    """(names, boxes, bbox_type) of either form of `objects`."""
    if isinstance(objects, list):
        rows = [row for row in objects if isinstance(row, Mapping)]
        names = [str(row.get("caption") or row.get("ref") or "") for row in rows]
        return names, [row.get("bbox") for row in rows], str(next(iter(rows), {}).get("bbox_type") or "real")
    if isinstance(objects, Mapping):
        names, boxes = objects.get("ref") or [], objects.get("bbox") or []
        if not isinstance(names, list) or not isinstance(boxes, list):
            raise Unusable("objects whose ref or bbox is no list")
        return list(map(str, names)), boxes, str(objects.get("bbox_type") or "real")
    raise Unusable("places for objects, and no objects")


def _filled(text: str, is_answer: bool, names: Iterator[str], boxes: Iterator[tuple[Any, str]]) -> str:
    """The text with its objects; a box of an answer that has no name of its own gets its label."""
    has_names = "<ref-object>" in text

    def value(found: re.Match[str]) -> str:
        try:
            if found[0] == "<ref-object>":
                name = next(names)
                return f"<ref>{name}</ref>" if is_answer else name
            box, label = next(boxes)
        except StopIteration:
            raise Unusable("fewer objects than places for them") from None
        if not isinstance(box, list) or len(box) != 4 or any(type(side) not in (int, float) for side in box):
            raise Unusable("an object whose bbox is not four numbers")
        named = f"<ref>{label}</ref>" if label and not has_names else ""
        return f"{named}<box>[{box}]</box>" if is_answer else str(box)

    return _PLACE.sub(value, text)
