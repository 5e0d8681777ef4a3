"""Finds pictures written into the text of a row without a picture: Markdown, HTML, encoded ones. (torch-free)"""

import re
from collections.abc import Iterator, Sequence

from open_r1.data.row_formats import IMAGE_TAG, Turn
from open_r1.errors import Problem, shorten

_ENDING = r"\.(?:png|jpe?g|webp|bmp|gif|tiff?|heic|avif|svg)"
_TARGET = rf"[^\s<>\"'()]{{0,2000}}{_ENDING}(?:[?#][^\s<>\"'()]{{0,2000}})?"
_MARKDOWN = re.compile(rf"!\[[^\[\]\n]{{0,300}}\]\(\s*<?{_TARGET}>?(?:\s+[\"'][^\n]{{0,300}}?[\"'])?\s*\)", re.I)
_HTML = re.compile(rf"<img\s(?:[^<>]{{0,500}}?\s)?src\s*=\s*[\"']?{_TARGET}[\"']?[^<>]{{0,500}}>", re.I)
_ENCODED = re.compile(r"data:image/[\w.+-]{1,20};base64,", re.I)
_ABOUT_MARKUP = re.compile(r"html|markdown|\bcss\b|\btags?\b|markup|\brender|browser|web ?page|source code", re.I)


def written_pictures(turns: Sequence[Turn], where: str) -> Iterator[Problem]:
    """The problem of each turn with a picture in its text that the model would read as letters.

    Markdown and HTML may be what a question is about: those of a text that says so are left.

    >>> [problem.got for problem in written_pictures([Turn("user", "![fig](a.png) How many?")], "a.jsonl:1")]
    ["'![fig](a.png)', a picture in the text of a row without one"]
    """
    for number, turn in enumerate(turns, 1):
        if found := _written(turn.text):
            got = f"{shorten(found, 60)}, a picture in the text of a row without one"
            remedy = f"name the picture under 'image' and write {IMAGE_TAG} there, or remove it from the text"
            yield Problem(where, f"turn {number} ({turn.role})", got, "pictures under 'image' or 'images'", remedy)


def _written(text: str) -> str | None:
    """The first picture of a text, None without one."""
    if "data:image/" in text.lower() and (found := _ENCODED.search(text)):
        return found[0]
    if "![" not in text and "<img" not in text.lower():
        return None
    found = _MARKDOWN.search(text) or _HTML.search(text)
    if found is None or _ABOUT_MARKUP.search(text[: found.start()] + " " + text[found.end() :]):
        return None
    return found[0]
