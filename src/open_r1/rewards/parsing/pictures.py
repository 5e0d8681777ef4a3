"""Reads which picture of several a text names for a place: `"image": 2`, "in the second image", 图2. (torch-free)"""

import re
from collections.abc import Sequence

_NEAR = 400  # characters before a place in which its picture is named
_AFTER = 60  # and behind it, on its line

_ORDINALS = {
    word: number
    for words in ("first second third fourth fifth sixth seventh eighth ninth tenth", "一 二 三 四 五 六 七 八 九 十")
    for number, word in enumerate(words.split(), start=1)
}
_NOUN = r"(?:image|picture|photo|screenshot|frame|img)"
_MENTION = re.compile(
    rf"\b{_NOUN}s?[\s_#-]{{0,3}}(?:number|no\.?|index)?[\"']?\s{{0,3}}[:=]?\s{{0,3}}[\"']?#?"
    r"(?P<n>\d{1,2})(?![\d.,]?\d|\s?[x*%]|px)"
    rf"|\b(?P<word>{'|'.join(word for word in _ORDINALS if word.isascii())})\s(?:\w{{1,12}}\s)?{_NOUN}\b"
    rf"|\b(?P<nth>\d{{1,2}})(?:st|nd|rd|th)\s{_NOUN}\b"
    r"|图(?:片|像|中)?\s?(?P<z>\d{1,2}|[一二三四五六七八九十])(?![\d.]?\d|张|个)"
    r"|第(?P<zth>\d{1,2}|[一二三四五六七八九十])(?:张|幅)",
    re.IGNORECASE,
)


def named_pictures(text: str, spans: Sequence[tuple[int, int]]) -> list[int | None]:
    """`named_picture` of each place of a text; `spans` are (start, end), in order."""
    if not _MENTION.search(text):
        return [None] * len(spans)
    ends = [0, *(end for _, end in spans)]
    return [named_picture(text, since, start, end) for since, (start, end) in zip(ends, spans, strict=False)]


def named_picture(text: str, since: int, start: int, end: int) -> int | None:
    """The number, from 1, of the picture that a text names for the place at [start, end); None where it names none.

    Its own key and those of its JSON object come first, then the last mention since the place before, which ends at
    `since`, then a mention behind it on its line.

    >>> text = "image 1: [1, 2, 3, 4], the second image: [5, 6, 7, 8] (图３)".replace("３", "3")
    >>> named_picture(text, 0, 9, 21), named_picture(text, 21, 41, 53), named_picture("[1, 2] in image 2", 0, 0, 6)
    (1, 2, 2)
    """
    if own := _mentions(text[start:end]):
        return own[0]
    opened = text.rfind("{", max(since, start - _NEAR), start)
    if opened >= 0 and (inside := _mentions(text[opened:start]) or _mentions(text[end:].partition("}")[0][:_NEAR])):
        return inside[-1]
    if before := _mentions(text[max(since, start - _NEAR) : start]):
        return before[-1]
    behind = re.split(r"[\n\[{]|\((?=\s?\d)|[.;] ", text[end : end + _AFTER])[0]
    after = [] if behind.rstrip().endswith(":") else _mentions(behind)
    return after[0] if after else None


def _mentions(text: str) -> list[int]:
    return [number for match in _MENTION.finditer(text) if (number := _number(match))]


def _number(match: re.Match[str]) -> int:
    said = next(value for value in match.groups() if value)
    return int(said) if said.isdigit() else _ORDINALS[said.lower()]
