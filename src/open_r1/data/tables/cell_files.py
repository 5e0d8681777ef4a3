"""Reads a picture or a video as a cell of a table holds it: bytes, {bytes, path}, base64, or a path. (torch-free)"""

import base64
import binascii
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from open_r1.data.images import FORMATS
from open_r1.data.video.decoding.kinds import PROBED_BYTES, no_video, video_ending
from open_r1.errors import data_error, shorten

_DATA_URI = re.compile(r"\s*data:[^,;]*(?:;[^,;]*)*;base64,", re.I)
_URL = re.compile(r"\s*[a-z][a-z0-9+.-]+://|\s*data:|\s*file:", re.I)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{64,}={0,2}\s*")
# what the base64 of a JPEG, PNG, GIF, WebP or AVI, BMP and TIFF begins with, and of MP4 and Matroska
_PICTURE_BEGINS = ("/9j/", "_9j_", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
_VIDEO_BEGINS = ("AAAA", "GkXf")
_EXPECTED = "bytes, {bytes, path}, base64, or the path of a file"


@dataclass(frozen=True)
class CellKind:
    """What a cell may hold: its `name`, the `forms` that it may have, the `ending_of` its bytes, None for those of
    nothing, and what the `base64` of it `begins` with."""

    name: str
    forms: str
    ending_of: Callable[[bytes], str | None]
    begins: tuple[str, ...]


def file_in(cell: Any, where: str, name: str, kind: CellKind) -> bytes | str:
    """The bytes of the file in a cell, or the path of the file that it names.

    Raises DataError for null, a URL, and for bytes that do not begin as the kind.

    >>> file_in({"bytes": None, "path": "a.mp4"}, "", "video", VIDEO_CELL)
    'a.mp4'
    """
    if isinstance(cell, dict) and cell.keys() & {"bytes", "path"}:
        data, path = cell.get("bytes"), cell.get("path")
        if data is None and path is None:
            remedy = f"add the {kind.name}, or remove the row"
            raise data_error(where, name, "neither bytes nor a path", _EXPECTED, remedy)
        cell = path if data is None else data if not isinstance(data, str) else f"data:;base64,{data}"
    if isinstance(cell, list) and cell and all(type(value) is int and 0 <= value < 256 for value in cell):
        cell = bytes(cell)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _checked(bytes(cell), where, name, kind)
    if isinstance(cell, str) and cell.strip():
        return _in_text(cell, where, name, kind)
    if cell is None:
        remedy = f'leave it out of the list: d.map(lambda row: {{"{name}": [p for p in row["{name}"] if p]}})'
        raise data_error(where, name, "null", _EXPECTED, remedy)
    raise data_error(where, name, shorten(cell), _EXPECTED, f"write the {kind.name} so, or remove the row")


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


def moving_format(data: bytes) -> str | None:
    """The ending of a file that begins with the bytes of a video, or of the picture of a frame; else None."""
    return video_ending(data[:PROBED_BYTES]) or picture_format(data)


PICTURE_CELL = CellKind("picture", " or ".join(FORMATS), picture_format, _PICTURE_BEGINS)
VIDEO_CELL = CellKind(
    "video", "MP4, WebM, AVI or another container of videos", moving_format, (*_PICTURE_BEGINS, *_VIDEO_BEGINS)
)


def _checked(data: bytes, where: str, name: str, kind: CellKind) -> bytes:
    if kind.ending_of(data) is not None:
        return data
    got = f"{len(data)} bytes that are no {kind.name} ({shorten(data[:12])})" if data else "0 bytes"
    remedy = "store the file's bytes as they are, or remove the row"
    if kind is VIDEO_CELL and (other := no_video(data[:PROBED_BYTES])):
        got, remedy = f"{len(data)} bytes, {other[0]}", other[1]
    raise data_error(where, name, got, kind.forms, remedy)


def _in_text(text: str, where: str, name: str, kind: CellKind) -> bytes | str:
    """The bytes of a base64 text or data URI; another text as it is: a path. Raises DataError for a URL."""
    if uri := _DATA_URI.match(text):
        return _checked(_decoded(text[uri.end() :], where, name, kind), where, name, kind)
    if _URL.match(text):
        remedy = "download it, and write its path below --image_folders: nothing is fetched"
        raise data_error(where, name, f"the URL {shorten(text)}", _EXPECTED, remedy)
    if text.startswith(kind.begins) and _BASE64.fullmatch(text):
        return _checked(_decoded(text, where, name, kind), where, name, kind)
    return text


def _decoded(text: str, where: str, name: str, kind: CellKind) -> bytes:
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        got = f"{shorten(text, 40)} ({error})"
        raise data_error(where, name, got, f"base64 of a {kind.name}", "encode the file's bytes again") from error
