"""Texts that other projects write where a picture stands, next to this project's `<image>`. (torch-free)

Some of them are also code, HTML or mathematics (`Vec<Image>`, `{image}.png`, `[image] of f`); `marks_picture` tells
by what stands beside a text whether it is a place.
"""

import re

_WORD = r"(?:images?|img|pictures?|pic|photo|screenshot)"
_NUMBER = r"[\s_:#-]?(?:id\s?=\s?[\"']?)?(?P<{0}>\d{{1,3}})[\"']?"
NEAR_TAG = re.compile(
    rf"<\|vision_start\|>\s?<\|image_pad\|>\s?<\|vision_end\|>"  # Qwen2-VL
    rf"|\\?<\|?\s?{_WORD}(?:{_NUMBER.format('angle')})?\s?/?\|?\\?>"  # <IMAGE>, <image 1>, <image/>, <|image_1|>
    rf"|<\|?(?:image_?pad|image_?token|image_?placeholder|imagehere|img_context|start_of_image)\|?>"
    rf"|(?:&lt;|\uff1c)\s?{_WORD}(?:{_NUMBER.format('escaped')})?\s?/?(?:&gt;|\uff1e)"  # &lt;image&gt;, full width
    rf"|\{{\{{?\s?{_WORD}(?:\[(?P<index>\d{{1,3}})\]|{_NUMBER.format('brace')})?\s?\}}?\}}"  # {image_1}, {images[0]}
    rf"|\[{_WORD}(?:{_NUMBER.format('square')})?\]"  # [IMG], [image 1]
    rf"|%{_WORD}%|\${_WORD}\$|__{_WORD}__|!\[\]\({_WORD}\)",
    re.IGNORECASE,
)
NEAR_VIDEO = re.compile(
    r"\\?<\|?\s?(?:videos?|vid|clip|movie)[\s_:#-]?(?:\d{1,3})?\s?/?\|?\\?>|&lt;video&gt;"
    r"|\{\{?\s?videos?(?:[\s_]?\d{1,3}|\[\d{1,3}\])?\s?\}?\}|\[(?:video|vid)(?:[\s_]?\d{1,3})?\]",
    re.IGNORECASE,
)
_WEAK = "%", "$", "__", "!["  # places only at an end of the text or alone on a line
_CODE_BEFORE = re.compile(r"[A-Za-z0-9_]\Z|::\Z")
_WORD_BEFORE = re.compile(r"\b(?:the|an?|set)\s\Z", re.I)  # "the [picture]", "the set {image}"
_BRACE_BEFORE = re.compile(r"[A-Za-z0-9_}$'\"`^\\]\Z")
_BRACE_AFTER = re.compile(r"['\"`]|\.[A-Za-z]{2,4}\b|\{")


def tag_number(found: re.Match[str]) -> int | None:
    """The number that a near tag states, counted from 1; None for one without.

    >>> [tag_number(found) for found in NEAR_TAG.finditer("<image> <IMG_2> {images[0]}, [image 3], <image id=1>")]
    [None, 2, 1, 3, 1]
    """
    if found["index"]:
        return int(found["index"]) + 1
    stated = found["angle"] or found["escaped"] or found["brace"] or found["square"]
    return int(stated) if stated else None


def marks_picture(found: re.Match[str]) -> bool:
    """Whether a near tag stands where a picture does, and not within code, HTML or mathematics.

    >>> [marks_picture(found) for found in NEAR_TAG.finditer("<IMG> Vec<Image> f'{image}.png' {image}")]
    [True, False, False, True]
    """
    mark, before, after = found[0], found.string[: found.start()], found.string[found.end() :]
    if mark.startswith(_WEAK):
        return is_alone(found) or not before.strip() or not after.strip()
    if mark.startswith(("{", "[")) and tag_number(found) is None and _WORD_BEFORE.search(before[-8:]):
        return False
    if mark.startswith("{"):
        return not (_BRACE_BEFORE.search(before[-1:]) or _BRACE_AFTER.match(after))
    if tag_number(found) is not None or mark.startswith("<|"):
        return True
    if mark.startswith("["):
        named = before.strip(" \n[") and after.startswith(" of ")
        return not (named or _CODE_BEFORE.search(before[-2:]) or after.startswith("("))
    return not _CODE_BEFORE.search(before[-2:])


def is_alone(found: re.Match[str]) -> bool:
    """Whether a match is all of its line."""
    line = found.string[found.string.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
    return line.strip().removeprefix("!") == found[0].removeprefix("!")
