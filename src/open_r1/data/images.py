"""Opens image files as RGB pictures within limits: safe paths, EXIF, alpha, 16 bit, small sides. (torch-free)

Every picture of a row is opened here; processors get the picture and never a path.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps

from open_r1.data.geometry.coordinates import (
    MAX_ASPECT,
    shown_size,
)
from open_r1.data.opened_files import opened_all
from open_r1.data.paths import ImageFolder
from open_r1.data.picture_kinds import KIND_BYTES, unread_kind
from open_r1.data.record import Record
from open_r1.errors import DataError, data_error, shorten

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS_DECODED = 64_000_000  # 192 MB as RGB; Pillow itself refuses from 179 million
MAX_SCANS = 100  # of a JPEG, as in libtiff; encoders write about ten, and each goes over all pixels
MAX_READS = 100_000  # of a file: a PNG of 64 MB has about 30,000
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
_STRIP_ROWS = 256  # rows converted at once
_PNG_EXIF = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")  # chunks that may hold an orientation
_T = TypeVar("T")


def open_image(
    folder: str,
    relative_path: str,
    *,
    where: str = "",
    field: str = "image",
    max_file_bytes: int = MAX_FILE_BYTES,
    max_pixels_decoded: int = MAX_PIXELS_DECODED,
) -> Image.Image:
    """Opens a picture as a person sees it: decoded, upright, RGB; the first frame of an animation.

    Transparency is laid on white. 16 bits a channel are scaled to 8, not clipped. CMYK and other modes are converted.
    A side under 28 px is scaled up to 28 with its aspect ratio (Qwen's patches need it); nothing is ever scaled down.

    Raises DataError (`field` of the row) for a path that leaves `folder`, and for files that are missing, no regular
    file, empty, no image, truncated, or over the limits of bytes, pixels, aspect ratio (200) and JPEG scans (100).
    """

    return _with_image(folder, relative_path, where, max_file_bytes, max_pixels_decoded, as_shown, field)


def as_shown(image: Image.Image) -> Image.Image:
    """A picture of any mode as processors get it: decoded, RGB, upright, a side under 28 px scaled up to 28."""
    image.load()
    upright = as_rgb(image)
    ImageOps.exif_transpose(upright, in_place=True)  # without in_place it copies upright pictures too
    size = shown_size(upright.size)
    return upright if size == upright.size else upright.resize(size, Image.Resampling.BICUBIC)


def original_size(
    folder: str,
    relative_path: str,
    *,
    where: str = "",
    field: str = "image",
    max_file_bytes: int = MAX_FILE_BYTES,
    max_pixels_decoded: int = MAX_PIXELS_DECODED,
) -> tuple[int, int]:
    """(width, height) of an upright image in pixels, before small sides are scaled up; decodes no pixel.

    Raises DataError as `open_image` does, except for files that turn out to be truncated.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        return (height, width) if exif_of(image).get(_ORIENTATION) in (5, 6, 7, 8) else (width, height)

    return _with_image(folder, relative_path, where, max_file_bytes, max_pixels_decoded, size, field)


def size_fields(record: Record) -> dict[str, Any]:
    """Fields for rewards: the original size (w, h) in pixels of the record's image, as `image_wh` that of the image
    `box_image`, or of the first, and as `image_sizes` those of several. Raises DataError as `original_size`."""
    sizes = [original_size(record.folder, path, where=record.where) for path in record.images]
    chosen = record.extra.get("box_image")
    index = chosen - 1 if type(chosen) is int and 1 <= chosen <= len(sizes) else 0
    several = {"image_sizes": sizes} if len(sizes) > 1 else {}
    return {"image_wh": sizes[index], **several} if sizes else {}


def with_sizes(record: Record) -> Record | None:
    """The record with `size_fields`; None where an image cannot be read."""
    try:
        return record.with_extra(**size_fields(record))
    except DataError:
        return None


def load_images(records: Sequence[Record], *, workers: int = 4) -> list[list[Image.Image]]:
    """The images of each record; a file named twice is opened once and its picture shared, so do not draw on it.

    Raises DataError with the problems of all files.
    """
    places = {(record.folder, path): record.where for record in reversed(records) for path in record.images}
    loaded = opened_all(places, lambda place: open_image(*place, where=places[place]), workers)
    return [[loaded[record.folder, path] for path in record.images] for record in records]


def _with_image(
    folder: str,
    relative: str,
    where: str,
    max_bytes: int,
    max_pixels: int,
    use: Callable[[Image.Image], _T],
    field: str = "image",
) -> _T:
    """`use(image)` on the opened, undecoded image after every check that needs no pixels."""

    def refuse(got: str, expected: str, remedy: str) -> DataError:
        return data_error(where or folder, field, f"{shorten(relative)}, {got}", expected, remedy)

    path = ImageFolder(folder).resolve(relative, where or folder, field)
    with os.fdopen(open_regular(path, refuse), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise refuse("an empty file (0 bytes)", "an image", "copy the file again, or remove the row")
        if size > max_bytes:
            raise refuse(f"{size} bytes", f"at most {max_bytes}", "save the image smaller")
        try:
            with Image.open(_LimitedFile(file), formats=FORMATS) as image:
                _check_shape(image.size, max_pixels, refuse)
                _check_scans(image, os.pread(file.fileno(), size, 0), refuse)
                return use(image)
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise refuse(str(error), f"at most {max_pixels} pixels", "save the image smaller") from error
        except Image.UnidentifiedImageError as error:
            got, remedy = unread_kind(os.pread(file.fileno(), KIND_BYTES, 0))
            raise refuse(got, " or ".join(FORMATS), remedy) from error
        # Decoders raise many types for a damaged file (OSError, SyntaxError, struct.error, ...).
        except Exception as error:
            got = f"a damaged image ({type(error).__name__}: {error})"
            raise refuse(got, "an image that decodes to its end", "copy the file again, or remove the row") from error


class _LimitedFile:
    """A file that allows MAX_READS reads: an image with millions of tiny parts would take minutes."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._reads_left = MAX_READS

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError(f"over {MAX_READS} parts")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_regular(path: str, refuse: Callable[[str, str, str], Exception]) -> int:
    """A descriptor of a regular file: no link is followed, and a pipe does not block."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        reason = "a link put there meanwhile" if error.errno == errno.ELOOP else error.strerror
        raise refuse(reason, "a readable file", "correct its permissions") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise refuse("no regular file", "a regular file", "name the file itself")
    return handle


def _check_shape(size: tuple[int, int], max_pixels: int, refuse: Callable[[str, str, str], DataError]) -> None:
    width, height = size
    if width * height > max_pixels:
        raise refuse(f"{width}x{height} pixels", f"at most {max_pixels} pixels", "save the image smaller")
    if max(size) > MAX_ASPECT * min(size):
        raise refuse(f"{width}x{height} pixels", f"sides within 1:{MAX_ASPECT}", "crop the image, or remove the row")


def _check_scans(image: Image.Image, content: bytes, refuse: Callable[[str, str, str], DataError]) -> None:
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans > MAX_SCANS:
        raise refuse(f"a JPEG of {scans} scans", f"at most {MAX_SCANS}", "save the image anew, or remove the row")


def exif_of(image: Image.Image) -> Image.Exif:
    """EXIF of an opened image. For a PNG, Pillow decodes all pixels first; here only if it has such chunks."""
    if image.format == "PNG" and "exif" not in image.info:
        image.fp.seek(0)
        content = image.fp.read()
        if not any(name in content for name in _PNG_EXIF):
            return Image.Exif()
        image.fp.seek(0)
        with Image.open(image.fp, formats=("PNG",)) as again:
            return again.getexif()
    return image.getexif()


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB pixels of an image of any mode, with its EXIF (orientation)."""
    exif = image.getexif()
    if image.mode.startswith(("I", "F")):
        converted = Image.fromarray(_to_8_bit(np.asarray(image), image.mode)).convert("RGB")
    elif image.has_transparency_data:
        converted = on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    else:
        converted = image.convert("RGB")
    converted.info = {}
    converted.getexif().update(exif)
    return converted


def on_white(layer: Image.Image) -> Image.Image:
    """An RGBA picture laid on white, as RGB; strip by strip, since all at once would take three times its memory."""
    paper = Image.new("RGB", layer.size)
    for top in range(0, layer.height, _STRIP_ROWS):
        strip = layer.crop((0, top, layer.width, min(top + _STRIP_ROWS, layer.height)))
        paper.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return paper


def _to_8_bit(values_HW: np.ndarray, mode: str) -> np.ndarray:
    """Grey levels of 16-bit and float images as uint8.

    Modes I;16 use the range 0..65535. I and F carry no range: the smallest of 0..1 (F only), 0..255 and 0..65535 that
    holds all values is taken, and ValueError raised where none does.

    >>> _to_8_bit(np.array([[0, 257, 65535]], np.uint16), "I;16")
    array([[  0,   1, 255]], dtype=uint8)
    """
    low, high = float(values_HW.min()), float(values_HW.max())
    ranges = (65535,) if mode.startswith("I;16") else (1, 255, 65535) if mode == "F" else (255, 65535)
    top = next((top for top in ranges if high <= top), None)
    if top is None or not low >= 0:
        raise ValueError(f"grey levels from {low:g} to {high:g} in mode {mode}, outside 0..65535")
    levels_HW = np.empty(values_HW.shape, np.uint8)
    for y in range(0, len(values_HW), _STRIP_ROWS):  # strip by strip: floats take eight times the memory
        levels_HW[y : y + _STRIP_ROWS] = np.round(values_HW[y : y + _STRIP_ROWS].astype(np.float64) * (255 / top))
    return levels_HW
