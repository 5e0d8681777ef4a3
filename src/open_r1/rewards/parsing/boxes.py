"""Reads boxes from model text in every family's notation; the numbers stay in the model's frame.

Rewards and evaluations use the LAST box of an answer (`last_box`), since a model may correct itself; of two boxes as
alternatives ("[...] or [...]") neither.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from open_r1.data.geometry.coordinates import in_order
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.parsing.box_patterns import BOX, BOX_NUMBERS, CORNER, DECIMAL, EDGE_NAMES, NAMED_EDGE, NUMBER_RUN
from open_r1.rewards.parsing.characters import plain_characters
from open_r1.rewards.parsing.pictures import named_pictures

MAX_BOX_CHARS = 20_000  # of a longer text only the end is read
_NEAR = 400  # characters before and after a box in which its JSON object must begin and end

_OR = re.compile(r"\bor\b(?!,? rather)|或|(?<!<)/", re.IGNORECASE)
_JSON_LABEL = re.compile(r"[\"']label[\"']\s{0,80}:\s{0,80}(?:\"([^\"]{0,200})\"|'([^']{0,200})')")
_LABELS = re.compile(r"(\"label\"\s{0,80}:\s{0,80}\"[^\"]{0,200}\")")
_AXIS = re.compile(r"\bx\d?\b", re.IGNORECASE)
_SAME_LIST = re.compile(r"\]?[\s,;]{1,20}\[?")  # between two boxes of one list
_LOC_LABEL = re.compile(r"\s{0,80}([^<;\n]{1,200})")


@dataclass(frozen=True)
class AnswerBox:
    """(x1, y1, x2, y2) in the frame of the text, as written: not clipped, not reordered; its label, if any, and the
    number, from 1, of the picture that the text names for it, if any.

    `names_axes`: the text says which number is an x, so that no space of y first changes that (`as_written`).
    """

    xyxy: tuple[float, float, float, float]
    label: str | None = None
    image: int | None = field(default=None, repr=False)
    names_axes: bool = field(default=False, repr=False, compare=False)

    def as_written(self, space: str) -> tuple[float, float, float, float]:
        """The four numbers in the order of a space.

        >>> AnswerBox((1, 2, 3, 4), names_axes=True).as_written("yx_1000")
        (2, 1, 4, 3)
        """
        return in_order(self.xyxy, space) if self.names_axes else self.xyxy


def parse_boxes(text: str, loose: bool = True) -> list[AnswerBox]:
    """All boxes of a text in order. Numbers are finite by construction: NaN, Infinity and 1e999 are no coordinates.

    It reads JSON objects with `bbox_2d`, `bbox`, `box` or another key (also in fences, lists, single quotes, or cut
    off later on); `[x1, y1, x2, y2]` and `(x1, y1, x2, y2)`; two corners `(x1,y1),(x2,y2)`, also in `<box>` or
    `<|box_start|>`, or with words between them, then in any order; the four corners of a rectangle; the label in
    `<ref>`, `<|ref|>` or `<|object_ref_start|>` before any of them, or a list of them; `x1=.., y1=.., x2=.., y2=..`
    and other names of the edges, or x, y, width, height; `box_2d`, which Gemini writes [y1, x1, y2, x2] in 0..1000;
    and PaliGemma's `<locY1><locX1><locY2><locX2> label`, in 0..1023 (1024ths of the side), exactly four of them.
    Characters of any width. Without `loose`, two points are no box unless a tag or key says "box".

    >>> parse_boxes('```json\\n[{"bbox_2d": [1, 2, 30, 40.5], "label": "cat"}]\\n```')
    [AnswerBox(xyxy=(1.0, 2.0, 30.0, 40.5), label='cat')]
    >>> parse_boxes("<box>(1,2),(3,4)</box>")[0].xyxy, parse_boxes("<loc0002><loc0001><loc0004><loc0003> dog")
    ((1.0, 2.0, 3.0, 4.0), [AnswerBox(xyxy=(1.0, 2.0, 3.0, 4.0), label='dog')])
    >>> parse_boxes("Bottom right: (30, 40)\\nTop left: (1, 2)"), parse_boxes("【１，２，３，４】")[0].xyxy
    ([AnswerBox(xyxy=(1.0, 2.0, 30.0, 40.0), label=None)], (1.0, 2.0, 3.0, 4.0))
    """
    text = plain_but_labels(text[-MAX_BOX_CHARS:])
    matches = [match for match in BOX.finditer(text) if loose or _says_box(match, text)]
    images = named_pictures(text, [match.span() for match in matches])
    refs = _refs(matches, text)
    placed = zip(matches, refs, images, strict=True)
    return [box for match, ref, image in placed for box in _boxes_of(match, text, ref, image)]


def _refs(matches: list[re.Match[str]], text: str) -> list[str | None]:
    """The label in a tag before each match, which is also that of the others in its list."""
    refs: list[str | None] = []
    for i, match in enumerate(matches):
        follows = i > 0 and _SAME_LIST.fullmatch(text, matches[i - 1].end(), match.start())
        refs.append(match["ref"] or (refs[-1] if follows else None))
    return refs


def stated_boxes(text: str, loose: bool = True) -> list[AnswerBox]:
    """`parse_boxes`, or where it finds none, each run of exactly four bare numbers, or two runs of two, the corners.

    >>> [box.xyxy for box in stated_boxes("The box is 30,40,150,120.")], stated_boxes("1, 2, 3, 4, 5")
    ([(30.0, 40.0, 150.0, 120.0)], [])
    >>> stated_boxes("Top left: 30, 40\\nBottom right: 150, 120")[0].xyxy
    (30.0, 40.0, 150.0, 120.0)
    """
    plain = plain_but_labels(text[-MAX_BOX_CHARS:])
    return parse_boxes(plain, loose) or _bare_boxes(plain, loose)


def last_box(completion: str, loose: bool = True) -> AnswerBox | None:
    """The box of a completion's answer: the last one of its final text (`open_r1.rewards.parsing.answer.final_text`).

    None also where it is one of two alternatives, which is no answer. `loose` as in `parse_boxes`.

    >>> last_box("<think>[0,0,1,1]</think><answer>[1,2,3,4] or rather [5,6,7,8]</answer>")
    AnswerBox(xyxy=(5.0, 6.0, 7.0, 8.0), label=None)
    >>> last_box("[1,2,3,4] or [5,6,7,8]"), last_box("5 6 7 8").xyxy
    (None, (5.0, 6.0, 7.0, 8.0))
    """
    text = plain_but_labels(final_text(completion)[-MAX_BOX_CHARS:])
    boxes = stated_boxes(text, loose)
    return boxes[-1] if boxes and not _is_alternative(text, boxes) else None


def plain_but_labels(text: str) -> str:
    """`plain_characters` of a text, but for its JSON labels, in which a CJK quote would become a JSON quote."""
    parts = _LABELS.split(text) if not text.isascii() else [text]
    plain = "".join(part if i % 2 else plain_characters(part) for i, part in enumerate(parts))
    return plain.replace(r"\left", "").replace(r"\right", "")


def _says_box(match: re.Match[str], text: str) -> bool:
    """Whether a match is more than two points: four numbers, or points behind a word with "box" in it."""
    start = match.start("corners") if match["corners"] else 0
    return not match["corners"] or "box" in text[max(start - 16, 0) : start].lower()


def _bare_boxes(text: str, loose: bool) -> list[AnswerBox]:
    matches = bare_runs(text)
    images = named_pictures(text, [run.span() for run in matches])
    runs = [(run_numbers(run), image) for run, image in zip(matches, images, strict=True)]
    fours = [(run, image) for run, image in runs if len(run) == 4]
    if loose and not fours and [len(run) for run, _ in runs] == [2, 2]:
        fours = [(runs[0][0] + runs[1][0], runs[0][1])]
    return [AnswerBox(_four(run), image=image) for run, image in fours]


def bare_runs(text: str) -> list[re.Match[str]]:
    """The runs of two to nine numbers, split by commas or spaces, that stand in no brackets.

    >>> [run_numbers(run) for run in bare_runs("In [1, 2] of 9: 30, 40px and 5 6 7")]
    [(30.0, 40.0), (5.0, 6.0, 7.0)]
    """
    return [run for run in NUMBER_RUN.finditer(text) if not run[1]]


def run_numbers(run: re.Match[str]) -> tuple[float, ...]:
    """The numbers of a run."""
    return tuple(map(float, re.findall(DECIMAL, run[2])))


def _is_alternative(text: str, boxes: list[AnswerBox]) -> bool:
    """Whether "or" stands right before the last of several different boxes."""
    matches = list(BOX.finditer(text)) or bare_runs(text)
    if min(len(boxes), len(matches)) < 2 or boxes[-1].xyxy == boxes[-2].xyxy:
        return False
    gap = text[matches[-2].end() : matches[-1].start()]
    return len(gap) <= 40 and joins_alternatives(gap)


def joins_alternatives(gap: str) -> bool:
    """Whether the text between two places makes them alternatives.

    >>> joins_alternatives(" or "), joins_alternatives(", or rather ")
    (True, False)
    """
    return _OR.search(gap) is not None


def _boxes_of(match: re.Match[str], text: str, ref: str | None, image: int | None) -> Iterator[AnswerBox]:
    if match["loc"]:
        yield from _located(match, text, image)
        return
    label = _label(text, match) if match["key"] or match["named"] else ref
    for xyxy in _corner_boxes(match["corners"]) if match["corners"] else _plain_box(match):
        yield AnswerBox(xyxy, label, image, _names_axes(match))


def _names_axes(match: re.Match[str]) -> bool:
    """Whether a match says which of its numbers is an x: by names, or by Gemini's key of y first."""
    return bool(match["named"] or match["key"] == "box_2d" or _AXIS.search(match["corners"] or ""))


def _plain_box(match: re.Match[str]) -> Iterator[tuple[float, float, float, float]]:
    """The box of four numbers, or of four named ones."""
    if match["named"]:
        yield from _named_box(match["named"])
        return
    # the notation that matched has filled exactly four of these groups
    x1, y1, x2, y2 = _four(tuple(digits for digits in match.group(*BOX_NUMBERS) if digits is not None))
    yield (y1, x1, y2, x2) if match["key"] == "box_2d" else (x1, y1, x2, y2)


def _four(digits: Sequence[str | float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, digits)
    return x1, y1, x2, y2


def _corner_boxes(text: str) -> Iterator[tuple[float, float, float, float]]:
    """The boxes of two points, of four corners of a rectangle, or of twice two points."""
    found = list(CORNER.finditer(text))
    points = [(float(point[1] or point[3]), float(point[2] or point[4])) for point in found]
    gap = text[found[0].end() : found[1].start()]
    if _OR.search(gap):
        return
    edges = [sorted(set(side)) for side in zip(*points, strict=True)]
    if len(points) == 4 and len(set(points)) == 4 and [len(side) for side in edges] == [2, 2]:
        yield edges[0][0], edges[1][0], edges[0][1], edges[1][1]
        return
    for (x1, y1), (x2, y2) in zip(points[::2], points[1::2], strict=True):
        if gap.strip(" ,\t\r\n"):  # words say which corner is which
            x1, x2, y1, y2 = *sorted((x1, x2)), *sorted((y1, y2))
        yield x1, y1, x2, y2


def _named_box(text: str) -> Iterator[tuple[float, float, float, float]]:
    values = {match[1].lower(): float(match[2]) for match in NAMED_EDGE.finditer(text)}
    for names in EDGE_NAMES:
        sides = [[values[name] for name in edge.split() if name in values] for edge in names]
        if all(len(side) == 1 for side in sides):
            (a,), (b,), (c,), (d,) = sides
            yield (a, b, c, d) if names is EDGE_NAMES[0] else (a, b, a + c, b + d)
            return


def _located(match: re.Match[str], text: str, image: int | None) -> Iterator[AnswerBox]:
    tokens = [float(digits) for digits in re.findall(r"\d{4}", match["loc"])]
    if len(tokens) == 4:
        y1, x1, y2, x2 = tokens
        label = _LOC_LABEL.match(text, match.end())
        yield AnswerBox((x1, y1, x2, y2), label[1].strip() or None if label else None, image, names_axes=True)


def _label(text: str, match: re.Match[str]) -> str | None:
    """The label of the JSON object around a box, between the nearest braces; None where it has none or was cut."""
    start = text.rfind("{", max(match.start() - _NEAR, 0), match.start())
    before = text[start : match.start()] if start >= 0 and "}" not in text[start : match.start()] else ""
    end = text.find("}", match.end(), match.end() + _NEAR)
    after = text[match.end() : end] if end >= 0 else ""
    label = _JSON_LABEL.search(before) or ("{" not in after and _JSON_LABEL.search(after))
    return (label[1] if label[1] is not None else label[2]) if label else None
