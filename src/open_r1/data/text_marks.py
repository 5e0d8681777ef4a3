"""Finds marks of other projects in prompts: places that are no `<image>` or `<video>`, and unfilled ones. (torch-free)

`near_tags.NEAR_TAG` lists the places that are nearly `<image>`. Some of them are also words of HTML or mathematics
(`<img>`, `[image]`, `{image}`): those are refused where the row has pictures that no `<image>` places, and in a row
without a picture where they open or end the text, or are all of a line.
"""

import re
from collections.abc import Iterator, Sequence

from open_r1.data.gold_answers import CONVERT
from open_r1.data.near_tags import NEAR_TAG, NEAR_VIDEO, is_alone, marks_picture, tag_number
from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG, Turn
from open_r1.errors import Problem

_NAMED = re.compile(r"<img>[^<>\n]{1,1000}</img>", re.I)  # Qwen-VL: the name of a picture in the text
_HTML = re.compile(r"<img\s[^<>]*\bsrc\s*=[^<>]*>", re.I)
_SIGN = re.compile(r"[<{\[%$&_\uff1c]")  # what a mark has
_WRAPPED = re.compile(r"(?<!\w)<<\s?image\s?>>")
_ABOUT_CODE = re.compile(
    r"html|svg|xml|jsx|\btags?\b|element|markup|code|function|variable|template|docker|python|java|c\+\+|\bset\b", re.I
)
_MOVING = re.compile(
    r"<\|vision_start\|>\s?<\|video_pad\|>\s?<\|vision_end\|>"
    r"|<\|?(?:video|audio)(?:_?(?:pad|token|placeholder)|[\s_]?\d{1,3})\|?>|<\|(?:video|audio)\|>"
    r"|\A\s*<(?:video|audio|vid)>|^<(?:video|audio|vid)>$|<(?:video|audio|vid)>\s*\Z",
    re.I | re.M,
)
_UNFILLED = re.compile(r"<ref-object>|<bbox>|<im_(?:start|end|patch)>")  # ms-swift's, LLaVA's
_SURE = re.compile(r"<\||<\|?(?:image_?(?:pad|token|placeholder)|imagehere|img_context|start_of_image)", re.I)


def mark_problems(turns: Sequence[Turn], where: str, pictures: int, videos: int = 0) -> Iterator[Problem]:
    """The problem of each turn that holds a mark of another project; `pictures` and `videos`: how many the row has."""
    for number, turn in enumerate(turns, 1):
        text = turn.text.replace(IMAGE_TAG, "")
        text = text.replace(VIDEO_TAG, "") if videos else text
        if _SIGN.search(text):
            open_places = pictures > 0 and not any(IMAGE_TAG in other.text for other in turns)
            untagged = videos > 0 and not any(VIDEO_TAG in other.text for other in turns)
            found = _wrapped(turn.text, pictures) or _moving(text, videos, untagged)
            if found := found or _mark(text, pictures, open_places):
                yield Problem(where, f"turn {number} ({turn.role})", *found)


def _wrapped(text: str, pictures: int) -> tuple[str, str, str] | None:
    found = _WRAPPED.search(text) if pictures and "<<" in text else None
    return _near(found[0]) if found else None


def _mark(text: str, pictures: int, open_places: bool) -> tuple[str, str, str] | None:
    """(got, expected, remedy) of the first mark of a text without its `<image>` tags, None where it has none."""
    if found := _NAMED.search(text):
        return f"{found[0]!r}, a picture named in the text", f"{IMAGE_TAG} there, and the name under 'image'", CONVERT
    if found := unfilled(text):
        return found
    if open_places and (found := _HTML.search(text)):
        return _near(found[0])
    for found in filter(marks_picture, NEAR_TAG.finditer(text)):
        if open_places or _is_sure(found, pictures) or (not pictures and _is_lone(found)):
            return _near(found[0]) if pictures else _without_picture(found[0])
    return None


def _moving(text: str, videos: int, untagged: bool) -> tuple[str, str, str] | None:
    """(got, expected, remedy) of the first mark of a video or sound in a text without its `<video>` tags; `untagged`:
    the row has videos that no tag places, so that what is nearly one is no text."""
    found = _MOVING.search(text) or (NEAR_VIDEO.search(text) if untagged else None)
    if found is None:
        return None
    mark = found[0].strip()
    if "audio" in mark.lower():
        return f"{mark!r}, the place of a sound", "pictures and videos", "remove the row: it is about what is heard"
    if videos:
        remedy = f"write {VIDEO_TAG} (videos in the order of their tags), or convert the file: {CONVERT}"
        return f"{mark!r}, which is no place of a video", VIDEO_TAG, remedy
    remedy = "name the video under 'video' or 'videos', or remove the mark"
    return f"{mark!r}, the place of a video, in a row without one", "the place of a file of the row", remedy


def unfilled(text: str) -> tuple[str, str, str] | None:
    """(got, expected, remedy) of a mark that another project fills from the row's `objects`, None without one."""
    found = _UNFILLED.search(text) if "<" in text else None
    if found is None or f"</{found[0][1:]}" in text:  # `<bbox>...</bbox>` encloses a box
        return None
    got = f"{found[0]!r}, which nothing fills here"
    return got, "text as the model shall read it", f"fill it in, or convert the file: {CONVERT}"


def _near(mark: str) -> tuple[str, str, str]:
    remedy = (
        f"write {IMAGE_TAG} (pictures in the order of their tags; where each has its tag, other marks are text), or "
        f"convert the file: {CONVERT}"
    )
    return f"{mark!r}, which is no place of a picture", IMAGE_TAG, remedy


def _without_picture(mark: str) -> tuple[str, str, str]:
    got = f"{mark!r}, which is no place of a picture, in a row without one"
    return got, IMAGE_TAG, f"name the picture under 'image', or remove the mark; to convert the file: {CONVERT}"


def _is_sure(found: re.Match[str], pictures: int) -> bool:
    """Whether a place is unmistakable anywhere: by a number, a bar, or a word that nothing else has."""
    numbered = tag_number(found) is not None
    return _SURE.match(found[0]) is not None or (numbered and (pictures > 0 or found[0].startswith("<")))


def _is_lone(found: re.Match[str]) -> bool:
    """Whether a place opens its text, or is all of a line; a tag also where it ends a text that is not about code."""
    text, before = found.string, found.string[: found.start()].strip(" \n[!")
    if before and not text[found.end() :].strip() and not is_alone(found):
        doubled = found[0].startswith(("{{", "<", "\\<", "&", "\uff1c")) or found[0][1:-1].isupper()
        return doubled and not _ABOUT_CODE.search(text)
    return (is_alone(found) or not before) and not _ABOUT_CODE.search(text)
