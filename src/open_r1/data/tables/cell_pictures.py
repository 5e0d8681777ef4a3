"""Reads a picture as a cell of a table holds it: bytes, {bytes, path}, base64, or the path of a file. (torch-free)"""

import base64
import binascii
import io
import re
from typing import Any

from PIL import Image

from open_r1.data.images import FORMATS
from open_r1.errors import data_error, shorten

_DATA_URI = re.compile(r"\s*data:[^,;]*(?:;[^,;]*)*;base64,", re.I)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]+://|\s*data:|\s*file:", re.I)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{64,}={0,2}\s*")
# what the base64 of a JPEG, PNG, GIF, WebP, BMP and TIFF begins with
_BASE64_BEGINS = ("/9j/", "_9j_", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
_EXPECTED = "bytes, {bytes, path}, base64, or the path of a file"


def picture_in(cell: Any, where: str, name: str) -> bytes | str:
    """The bytes of the picture in a cell, or the path of the file that it names.

    Raises DataError for null, a URL, what is no picture, and bytes that do not begin as a picture of `FORMATS`.

    >>> picture_in({"bytes": None, "path": "a.png"}, "", "image"), picture_in("b/c.jpg", "", "image")
    ('a.png', 'b/c.jpg')
    """
    if isinstance(cell, dict) and cell.keys() & {"bytes", "path"}:
        data, path = cell.get("bytes"), cell.get("path")
        if data is None and path is None:
            raise data_error(where, name, "neither bytes nor a path", _EXPECTED, "add the picture, or remove the row")
        cell = path if data is None else data if not isinstance(data, str) else f"data:;base64,{data}"
    if isinstance(cell, list) and cell and all(type(value) is int and 0 <= value < 256 for value in cell):
        cell = bytes(cell)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _checked(bytes(cell), where, name)
    if isinstance(cell, str) and cell.strip():
        return _text_picture(cell, where, name)
    if cell is None:
        remedy = f'leave it out of the list: d.map(lambda row: {{"{name}": [p for p in row["{name}"] if p]}})'
        raise data_error(where, name, "null", _EXPECTED, remedy)
    raise data_error(where, name, shorten(cell), _EXPECTED, "write the picture so, or remove the row")


def picture_format(data: bytes) -> str | None:
    """The format of `FORMATS` as which the bytes of a picture begin, in small letters, else None.

    >>> picture_format(b"GIF89a" + b"\\1\\0" * 4 + b"," + b"\\1\\0" * 9), picture_format(b"%PDF")
    ('gif', None)
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.format.lower()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return "large"  # refused with its size when it is opened
    except Exception:  # plugins raise many types for damaged headers
        return None


def _checked(data: bytes, where: str, name: str) -> bytes:
    if picture_format(data) is not None:
        return data
    got = f"{len(data)} bytes that are no picture ({shorten(data[:12])})" if data else "0 bytes"
    raise data_error(where, name, got, " or ".join(FORMATS), "store the file's bytes as they are, or remove the row")


def _text_picture(text: str, where: str, name: str) -> bytes | str:
    """The bytes of a base64 text or data URI; another text as it is: a path. Raises DataError for a URL."""
    if uri := _DATA_URI.match(text):
        return _checked(_decoded(text[uri.end() :], where, name), where, name)
    if _URL.match(text):
        remedy = "download it, and write its path below --image_folders: nothing is fetched"
        raise data_error(where, name, f"the URL {shorten(text)}", _EXPECTED, remedy)
    if text.startswith(_BASE64_BEGINS) and _BASE64.fullmatch(text):
        return _checked(_decoded(text, where, name), where, name)
    return text


def _decoded(text: str, where: str, name: str) -> bytes:
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        got = f"{shorten(text, 40)} ({error})"
        raise data_error(where, name, got, "base64 of a picture", "encode the file's bytes again") from error
