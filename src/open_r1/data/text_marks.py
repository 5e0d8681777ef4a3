"""Finds marks of other projects in prompts: places of pictures that are no `<image>`, and unfilled ones. (torch-free)

`near_tags.NEAR_TAG` lists the places that are nearly `<image>`. Some of them are also words of HTML or mathematics
(`<img>`, `[image]`, `{image}`): those are refused only where the row has pictures that no `<image>` places.
"""

import re
from collections.abc import Iterator, Sequence

from open_r1.data.near_tags import NEAR_TAG
from open_r1.data.row_formats import CONVERT, IMAGE_TAG, Turn
from open_r1.errors import Problem

_NAMED = re.compile(r"<img>[^<>\n]{1,1000}</img>", re.I)  # Qwen-VL: the name of a picture in the text
_HTML = re.compile(r"<img\s[^<>]*\bsrc\s*=[^<>]*>", re.I)
_LATEX = re.compile(r"\\(?:operatorname|text|mathrm|mathit|textrm|DeclareMathOperator)\{\s*image\s*\}", re.I)
_MOVING = re.compile(
    r"<\|?(?:video|audio)(?:_?(?:pad|token|placeholder)|[\s_]?\d{1,3})\|?>|<\|(?:video|audio)\|>"
    r"|\A\s*<(?:video|audio)>|^<(?:video|audio)>$|<(?:video|audio)>\s*\Z",
    re.I | re.M,
)
_UNFILLED = re.compile(r"<ref-object>|<bbox>|<im_(?:start|end|patch)>")  # ms-swift's, LLaVA's
# what stands for a picture in texts of any row: a number, a bar, or a word that is no word of HTML
_PLAIN_WORDS = {"<image/>", "<image />", "<img>", "<img/>", "<img />", "<picture>", "<picture/>", "<pic>"}


def mark_problems(turns: Sequence[Turn], where: str, pictures: int) -> Iterator[Problem]:
    """The problem of each turn that holds a mark of another project; `pictures`: how many the row has."""
    for number, turn in enumerate(turns, 1):
        text = turn.text.replace(IMAGE_TAG, "")
        if "<" in text or "{" in text or "[" in text:
            open_places = pictures > 0 and not any(IMAGE_TAG in other.text for other in turns)
            if found := _mark(text, pictures, open_places):
                yield Problem(where, f"turn {number} ({turn.role})", *found)


def _mark(text: str, pictures: int, open_places: bool) -> tuple[str, str, str] | None:
    """(got, expected, remedy) of the first mark of a text without its `<image>` tags, None where it has none."""
    if found := _NAMED.search(text):
        return f"{found[0]!r}, a picture named in the text", f"{IMAGE_TAG} there, and the name under 'image'", CONVERT
    if found := _MOVING.search(text):
        return f"{found[0].strip()!r}, the place of a video or sound", "pictures alone", "remove the row"
    if found := unfilled(text):
        return found
    if open_places and (found := _HTML.search(text)):
        return _near(found[0])
    for found in NEAR_TAG.finditer(_LATEX.sub("", text)):
        if open_places or _is_place(found[0], pictures):
            return _near(found[0])
    return None


def unfilled(text: str) -> tuple[str, str, str] | None:
    """(got, expected, remedy) of a mark that another project fills from the row's `objects`, None without one."""
    found = _UNFILLED.search(text) if "<" in text else None
    if found is None or f"</{found[0][1:]}" in text:  # `<bbox>...</bbox>` encloses a box
        return None
    got = f"{found[0]!r}, which nothing fills here"
    return got, "text as the model shall read it", f"fill it in, or convert the file: {CONVERT}"


def _near(mark: str) -> tuple[str, str, str]:
    remedy = f"write {IMAGE_TAG} (pictures in the order of their tags) or another word, or convert the file: {CONVERT}"
    return f"{mark!r}, which is no place of a picture", IMAGE_TAG, remedy


def _is_place(mark: str, pictures: int) -> bool:
    """Whether a near tag is unmistakable, also where every picture of the row has its place already."""
    if mark.startswith("<"):
        return mark.lower() not in _PLAIN_WORDS and (pictures > 0 or mark.strip("<>").lower() not in ("image", "img"))
    return bool(pictures) and any(sign.isdigit() for sign in mark)
