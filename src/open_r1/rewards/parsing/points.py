"""Reads one point from model text, as GUI models write it; its numbers stay in the frame of the text. (torch-free)

Marked points (a click, a tag, a JSON key, x and y by name) are read before boxes, whose centre is the point, and these
before bare pairs of numbers. Several different marked points are no answer, and of bare ones the last counts, since a
model may correct itself, unless "or" or a comma alone stands before it: listing points must not pay.
"""

import re
from dataclasses import dataclass, field

from open_r1.data.geometry.coordinates import in_order
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.parsing.boxes import (
    bare_runs,
    joins_alternatives,
    last_box,
    plain_but_labels,
    run_numbers,
)
from open_r1.rewards.parsing.pictures import named_pictures

Point = tuple[float, float]
MAX_POINT_CHARS = 5_000  # of a longer text only the end is read

_D = r"([-+]?\d{1,9}(?:\.\d{0,30})?)"
_PX = r"(?:\s?(?:px|pixels?)\b)?"
_S = r"\s{0,80}"
_PAIR = rf"{_D}{_PX}(?:{_S},{_S}|\s{{1,80}}){_D}{_PX}"
_ALONE = r"(?!\.?\d)(?!\s{0,80},\s{0,80}[-+]?\d)(?!\s{1,80}[-+]?\d)"  # no third number follows
_CLICK = r"(?:click|tap|press|touch|hover|move_?to)"
_Q = r"[\"']?"
_GAP = r"(?:[,;\s*-]|and){1,80}"
_BY_NAME = (
    rf"{_Q}\b%s{_Q}{_S}[=:]{_S}{_Q}{_D}{_Q}{_PX}{_GAP}{_Q}%s{_Q}{_S}[=:]{_S}{_Q}{_D}(?!\.?\d)(?!{_Q}{_GAP}{_Q}%s)"
)
_SIZE = r"\w{0,20}(?:size|shape|resolution|scale)"  # names of what is no point
_MARKED = re.compile(
    # click(x, y), tap(point='<point>x y
    rf"{_CLICK}\w{{0,12}}\s?\([^()\d\[\]-]{{0,60}}[\[(]?{_S}{_PAIR}{_ALONE}(?=[\s\S])"
    # <point>x y</point>, <|box_start|>(x,y)<|box_end|>
    rf"|<\|?[^<>\d|]{{1,40}}\|?>{_S}[\[(]{{0,2}}{_S}{_PAIR}{_S}[\])]{{0,2}}{_S}</?\|?[^<>]{{1,40}}>"
    # "point_2d": [x, y], start_box='(x,y)'
    rf"|(?<!\w)(?!{_SIZE})[a-z]\w{{0,30}}{_Q}{_S}[=:]{_S}{_Q}[\[(]{{1,2}}{_S}{_PAIR}{_S}[\])]"
    rf"|{_BY_NAME % ('x', 'y', '(?:w|h|width|height)')}|{_BY_NAME % ('x1', 'y1', 'x2')}",
    re.IGNORECASE,
)
_AXIS = re.compile(r"\bx\d?[\"']?\s{0,80}[=:]", re.IGNORECASE)
_SEVERAL = re.compile(r"<points\b[^<>]{0,200}\bx2\b", re.IGNORECASE)  # Molmo's form of several points
_BARE = re.compile(rf"[\[(]{_S}{_PAIR}{_S}[\])]")


@dataclass(frozen=True)
class AnswerPoint:
    """(x, y) in the frame of the text, and the number, from 1, of the picture that the text names for it, if any.

    `names_axes`: the text says which number is the x, as for `AnswerBox`.
    """

    xy: Point
    image: int | None = None
    names_axes: bool = field(default=False, repr=False, compare=False)

    def as_written(self, space: str) -> Point:
        """The two numbers in the order of a space.

        >>> AnswerPoint((1, 2)).as_written("yx_1000"), AnswerPoint((1, 2), names_axes=True).as_written("yx_1000")
        ((1, 2), (2, 1))
        """
        return in_order(self.xy * 2, space)[:2] if self.names_axes else self.xy


def last_point(completion: str) -> AnswerPoint | None:
    """The point of a completion's answer, or the centre of its box; None for none, and for alternatives.

    >>> last_point("pyautogui.click(x=10, y=20.5)"), last_point('{"image": 2, "coordinate": [10, 20]}')
    (AnswerPoint(xy=(10.0, 20.5), image=None), AnswerPoint(xy=(10.0, 20.0), image=2))
    >>> [last_point(text).xy for text in ("<think>(1, 2)</think><point>10 20</point>", "[0, 0, 20, 40]")]
    [(10.0, 20.0), (10.0, 20.0)]
    >>> last_point("(1, 2), no: (10, 20)").xy, last_point("(1, 2) or (10, 20)"), last_point("click(1, 2) click(3, 4)")
    ((10.0, 20.0), None, None)
    """
    text = plain_but_labels(final_text(completion)[-MAX_POINT_CHARS:])
    if _SEVERAL.search(text):
        return None
    if marked := _points(text, list(_MARKED.finditer(text))):
        return marked[-1] if len({point.xy for point in marked}) == 1 else None
    if (box := last_box(text, loose=False)) is not None:
        x1, y1, x2, y2 = box.xyxy
        return AnswerPoint(((x1 + x2) / 2, (y1 + y2) / 2), box.image, box.names_axes)
    return _last_bare(text)


def _last_bare(text: str) -> AnswerPoint | None:
    """The last pair of numbers in brackets, or the only run of numbers of a text, if it has two."""
    pairs = list(_BARE.finditer(text))
    points = _points(text, pairs)
    if len(points) > 1 and points[-1].xy != points[-2].xy:
        gap = text[pairs[-2].end() : pairs[-1].start()]
        if joins_alternatives(gap) or not gap.strip(" ,;&\r\n\t"):
            return None
    if points:
        return points[-1]
    runs = bare_runs(text)
    if len(runs) != 1 or len(numbers := run_numbers(runs[0])) != 2:
        return None
    return AnswerPoint((numbers[0], numbers[1]), named_pictures(text, [runs[0].span()])[0])


def _points(text: str, matches: list[re.Match[str]]) -> list[AnswerPoint]:
    images = named_pictures(text, [match.span() for match in matches])
    named = [bool(_AXIS.search(match[0])) for match in matches]
    return [AnswerPoint(_point(match), *facts) for match, *facts in zip(matches, images, named, strict=True)]


def _point(match: re.Match[str]) -> Point:
    # the notation that matched has filled exactly two of the groups
    x, y = (float(digits) for digits in match.groups() if digits is not None)
    return x, y
