"""Reads boxes from model text in every family's notation; the numbers stay in the model's frame.

Rewards and evaluations use the LAST box of an answer (`last_box`), since a model may correct itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from open_r1.rewards.parsing.answer import final_text

MAX_BOX_CHARS = 20_000  # of a longer text only the end is read
_NEAR = 400  # characters before and after a box in which its JSON object must begin and end

_N = r"([-+]?\d{1,9}(?:\.\d{0,30})?)"
_S = r"\s{0,80}"
_FOUR = _S + (_S + "," + _S).join([_N] * 4) + _S
_TWO = _S + _N + _S + "," + _S + _N + _S
_NAMED = r"[\"']?" + r"[,;\s]{1,80}[\"']?".join(rf"{name}[\"']?\s?[=:]\s?{_N}" for name in ("x1", "y1", "x2", "y2"))
_BOX = re.compile(
    rf"(?:<\|(?:object_)?ref(?:_start)?\|>(?P<ref>[^<]{{1,200}})<\|(?:/ref|object_ref_end)\|><[^>]{{1,20}}>\[?)?(?:"
    rf"(?:[\"'](?P<key>bbox_2d|bbox|box_2d|box)[\"']{_S}:{_S})?(?:\[{_FOUR}\]|\({_FOUR}\))"
    rf"|[\[(]{_TWO}[\])]{_S},?{_S}[\[(]{_TWO}[\])]"
    rf"|(?P<loc>(?:<loc\d{{4}}>)+)"
    rf"|{_NAMED})"
)
_NUMBERS = [i + 1 for i in range(_BOX.groups) if i + 1 not in _BOX.groupindex.values()]
_JSON_LABEL = re.compile(r"[\"']label[\"']\s{0,80}:\s{0,80}(?:\"([^\"]{0,200})\"|'([^']{0,200})')")
_LOC_LABEL = re.compile(r"\s{0,80}([^<;\n]{1,200})")


@dataclass(frozen=True)
class AnswerBox:
    """(x1, y1, x2, y2) in the frame of the text, as written: not clipped, not reordered; and its label, if any."""

    xyxy: tuple[float, float, float, float]
    label: str | None = None


def parse_boxes(text: str) -> list[AnswerBox]:
    """All boxes of a text in order. Numbers are finite by construction: NaN, Infinity and 1e999 are no coordinates.

    It reads JSON objects with `bbox_2d`, `bbox` or `box` (also in fences, lists, single quotes, or cut off later on);
    `[x1, y1, x2, y2]` and `(x1, y1, x2, y2)`; `(x1,y1),(x2,y2)`, bare or in `<box>` or `<|box_start|>`; the
    label in `<|ref|>` or `<|object_ref_start|>` before any of them;
    `x1=.., y1=.., x2=.., y2=..`; `box_2d`, which Gemini writes [y1, x1, y2, x2] in 0..1000; and PaliGemma's
    `<locY1><locX1><locY2><locX2> label`, in 0..1023 (1024ths of the side), exactly four of them.

    >>> parse_boxes('```json\\n[{"bbox_2d": [1, 2, 30, 40.5], "label": "cat"}]\\n```')
    [AnswerBox(xyxy=(1.0, 2.0, 30.0, 40.5), label='cat')]
    >>> parse_boxes("<box>(1,2),(3,4)</box>")[0].xyxy, parse_boxes("<loc0002><loc0001><loc0004><loc0003> dog")
    ((1.0, 2.0, 3.0, 4.0), [AnswerBox(xyxy=(1.0, 2.0, 3.0, 4.0), label='dog')])
    """
    return list(_boxes(text[-MAX_BOX_CHARS:]))


def last_box(completion: str) -> AnswerBox | None:
    """The box of a completion's answer: the last one of its final text (`open_r1.rewards.parsing.answer.final_text`).

    >>> last_box("<think>[0,0,1,1]</think><answer>[1,2,3,4] or rather [5,6,7,8]</answer>")
    AnswerBox(xyxy=(5.0, 6.0, 7.0, 8.0), label=None)
    """
    boxes = parse_boxes(final_text(completion))
    return boxes[-1] if boxes else None


def _boxes(text: str) -> Iterator[AnswerBox]:
    for match in _BOX.finditer(text):
        if match["loc"]:
            yield from _located(match, text)
            continue
        # the notation that matched has filled exactly four of these groups
        numbers = [float(digits) for digits in match.group(*_NUMBERS) if digits is not None]
        if match["key"] == "box_2d":
            numbers = [numbers[1], numbers[0], numbers[3], numbers[2]]
        x1, y1, x2, y2 = numbers
        yield AnswerBox((x1, y1, x2, y2), _label(text, match) if match["key"] else match["ref"])


def _located(match: re.Match[str], text: str) -> Iterator[AnswerBox]:
    tokens = [float(digits) for digits in re.findall(r"\d{4}", match["loc"])]
    if len(tokens) == 4:
        y1, x1, y2, x2 = tokens
        label = _LOC_LABEL.match(text, match.end())
        yield AnswerBox((x1, y1, x2, y2), label[1].strip() or None if label else None)


def _label(text: str, match: re.Match[str]) -> str | None:
    """The label of the JSON object around a box, between the nearest braces; None where it has none or was cut."""
    start = text.rfind("{", max(match.start() - _NEAR, 0), match.start())
    before = text[start : match.start()] if start >= 0 and "}" not in text[start : match.start()] else ""
    end = text.find("}", match.end(), match.end() + _NEAR)
    after = text[match.end() : end] if end >= 0 else ""
    label = _JSON_LABEL.search(before) or ("{" not in after and _JSON_LABEL.search(after))
    return (label[1] if label[1] is not None else label[2]) if label else None
