"""Reads the value of a field as pictures: names, bytes, base64, data URIs, objects that hold them. (torch-free)"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from open_r1.tasks.importers.sources import Unusable

_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,")
_BASE64_STARTS = ("/9j/", "iVBOR", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")  # JPEG, PNG, GIF, WebP, BMP, TIFF
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{100,}={0,2}\s*")
SourcePicture = str | bytes


def pictures_in(value: Any) -> tuple[SourcePicture, ...]:
    """The pictures of a field: a path, bytes, base64, a data URI, `{"bytes", "path"}`, `{"url"}`, or a list of them.

    Raises Unusable for a value that is none.

    >>> pictures_in([{"bytes": b"x", "path": None}, "a.png"]), pictures_in({"path": "b.png"}), pictures_in(None)
    ((b'x', 'a.png'), ('b.png',), ())
    """
    if value is None or value == "":
        return ()
    if isinstance(value, (list, tuple)):
        if any(item is None for item in value):
            raise Unusable("a list of pictures with an empty place")
        return tuple(picture for item in value for picture in pictures_in(item))
    if isinstance(value, bytes):
        return (value,)
    if isinstance(value, str):
        return (inside_text(value),)
    if isinstance(value, Mapping):
        if not any(value.values()):
            raise Unusable("a picture without bytes and without a path")
        names = ("bytes", "path", "image", "url", "file_name", "base64")
        found = next((value[name] for name in names if value.get(name)), None)
        if found is not None:
            return pictures_in(found)
    raise Unusable(f"a picture of type {type(value).__name__}")


def inside_text(text: str) -> SourcePicture:
    """The bytes that a text holds as base64 or as a data URI, else the text, a name."""
    start = _DATA_URI.match(text)
    if start is None and not (text.lstrip().startswith(_BASE64_STARTS) and _BASE64.fullmatch(text)):
        return text
    try:
        return base64.b64decode(text[start.end() if start else 0 :])
    except binascii.Error as error:
        raise Unusable("a picture in broken base64") from error
