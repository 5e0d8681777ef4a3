"""Image files that break decoders: damaged files of each format, and small files whose header claims a huge size.

`VALID` and `BOMBS` map a name to its bytes; `damaged(i)` is file i of an endless sequence, the same each time.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from open_r1.data.geometry.coordinates import MAX_ASPECT, MIN_SIDE
from open_r1.data.images import open_image, original_size
from open_r1.errors import DataError

W, H = 96, 64
_MB = 1 << 20


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A gradient with noise, which compresses neither well nor badly."""
    rng = np.random.default_rng(seed)
    grey = np.linspace(0, 200, W)[None, :, None] + rng.integers(0, 40, (H, W, 4))
    rgba = Image.fromarray(grey.astype(np.uint8), "RGBA")
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def wide(dtype: type) -> Image.Image:
    """Grey levels of 16 bits, or of 32 as numbers."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 60_000, (H, W)).astype(dtype))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str, number: int = 5, **options: object) -> bytes:
    rest = [picture(seed=seed) for seed in range(1, number)]
    return saved(picture(), kind, save_all=True, append_images=rest, **options)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def interlaced() -> bytes:
    """Adam7, which Pillow reads and does not write."""
    levels_HW = np.asarray(picture("L"))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in levels_HW[y::dy, x::dx]]
    return png(W, H, chunk(b"IDAT", zlib.compress(b"".join(lines))), color=0, interlaced=1)


VALID: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(picture(), "PNG"),
    "png alpha": lambda: saved(picture("RGBA"), "PNG"),
    "png palette": lambda: saved(picture("P"), "PNG", transparency=3),
    "png 16 bit": lambda: saved(wide(np.uint16), "PNG"),
    "png interlaced": interlaced,
    "jpeg": lambda: saved(
        picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "jpeg progressive": lambda: saved(picture(), "JPEG", progressive=True),
    "jpeg cmyk": lambda: saved(picture("CMYK"), "JPEG"),
    "webp": lambda: saved(picture(), "WEBP"),
    "webp lossless": lambda: saved(picture("RGBA"), "WEBP", lossless=True),
    "webp animated": lambda: frames("WEBP"),
    "gif animated": lambda: frames("GIF"),
    "tiff": lambda: saved(picture(), "TIFF"),
    "tiff lzw": lambda: saved(picture(), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: saved(picture("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff packbits": lambda: saved(picture("L"), "TIFF", compression="packbits"),
    "tiff jpeg": lambda: saved(picture(), "TIFF", compression="jpeg"),
    "tiff fax": lambda: saved(picture("1"), "TIFF", compression="group4"),
    "tiff 16 bit": lambda: saved(wide(np.uint16), "TIFF"),
    "tiff float": lambda: saved(wide(np.float32), "TIFF", compression="tiff_lzw"),
    "tiff frames": lambda: frames("TIFF"),
    "bmp": lambda: saved(picture(), "BMP"),
    "bmp palette": lambda: saved(picture("P"), "BMP"),
}


@cache
def valid(name: str) -> bytes:
    return VALID[name]()


def damaged(index: int) -> tuple[str, bytes]:
    """(its kind, its bytes) of file `index`: a valid file after one to four changes."""
    rng = random.Random(index)
    name = list(VALID)[index % len(VALID)]
    data = valid(name)
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_DAMAGES)(data, rng)
    return name, _with_checksums(data) if name.startswith("png") and rng.random() < 0.7 else data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _extreme(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    values = [
        b"\0\0",
        b"\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\0",
        b"\xff\x7f",
        b"\0\0\x1f\x40",
    ]
    value = rng.choice(values)
    return data[:at] + value + data[at + len(value) :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(1, len(data))]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.randbytes(rng.randint(1, 20)) + data[at:]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randint(1, 20) :] or data


def _copy(data: bytes, rng: random.Random) -> bytes:
    start, at = _place(data, rng), _place(data, rng)
    return data[:at] + data[start : start + rng.randint(1, 200)] + data[at:]


def _place(data: bytes, rng: random.Random) -> int:
    """A random offset; half of them are in the header, which TIFF has at its end."""
    near = min(len(data), 120)
    return rng.choice([rng.randrange(len(data)), rng.randrange(near), len(data) - 1 - rng.randrange(near)])


_DAMAGES = (_flip, _flip, _extreme, _extreme, _truncate, _insert, _remove, _copy)


def _with_checksums(data: bytes) -> bytes:
    """A PNG with corrected checksums, so that the damage reaches the decoder."""
    return data[:8] + b"".join(_chunks(data))


def _chunks(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        whole = len(body) == length
        yield chunk(name, body) if whole else data[at:]
        at = at + 12 + length if whole else len(data)


def _tiff(width: int, height: int, entries: int = 0, directories: int = 1, loop: bool = False) -> bytes:
    """A TIFF of so many directories, each with its tags and `entries` more."""
    pixels = b"\0" * 64
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 64)]
    tags += [(49_000 + k, k) for k in range(entries)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    size, at = 2 + len(fields) + 4, 8 + len(pixels)
    parts = [b"II*\0", struct.pack("<I", at), pixels]
    for number in range(directories):
        following = at if loop else at + (number + 1) * size
        last = number + 1 == directories and not loop
        parts += [struct.pack("<H", len(tags)), fields, struct.pack("<I", 0 if last else following)]
    return b"".join(parts)


def _gif(width: int, height: int, number: int) -> bytes:
    """So many frames of one size."""
    pixels = saved(Image.new("P", (64, 64)), "GIF")
    pixels = pixels[pixels.index(b"\x2c\0\0\0\0") + 10 : -1]
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + pixels
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + (b"\x21\xf9\x04\0\0\0\0\0" + image) * number + b"\x3b"


def _webp(width: int, height: int) -> bytes:
    """An extended header of up to 16,777,216 a side, and pixels of another size."""
    inside = saved(picture(), "WEBP")[12:]
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + inside
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _jpeg(width: int, height: int, scans: int = 0) -> bytes:
    """A JPEG of another size than its pixels have; or a progressive one with its last scan many times over."""
    data = saved(picture("L"), "JPEG", progressive=bool(scans))
    at = data.index(b"\xff\xc2" if scans else b"\xff\xc0")
    data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def _zeros(width: int, height: int, depth: int, color: int, channels: int) -> bytes:
    """A valid PNG of zeros, a thousandth of its pixels' size."""
    line = b"\0" * (1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return png(width, height, chunk(b"IDAT", packed), depth=depth, color=color)


@cache
def _text() -> bytes:
    return zlib.compress(b"a" * (100 * _MB), 1)


_PIXELS = chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * 3 * 64) * 64))

BOMBS: dict[str, Callable[[], bytes]] = {
    "png of 2**31 - 1 a side": lambda: png(2**31 - 1, 2**31 - 1, _PIXELS),
    "png of 81 million pixels": lambda: _zeros(9000, 9000, 8, 0, 1),
    "png of 63 million pixels, 16 bit": lambda: _zeros(7950, 7950, 16, 0, 1),
    "png of 63 million pixels, alpha": lambda: _zeros(7950, 7950, 8, 6, 4),
    "png header alone of 63 million pixels": lambda: png(7950, 7950, _PIXELS),
    "png with 100 MB of text": lambda: png(64, 64, chunk(b"zTXt", b"Comment\0\0" + _text()), _PIXELS),
    "png with a profile of 100 MB": lambda: png(64, 64, chunk(b"iCCP", b"icc\0\0" + _text()), _PIXELS),
    "png with a text of 100 MB in Unicode": lambda: png(64, 64, chunk(b"iTXt", b"a\0\1\0\0\0" + _text()), _PIXELS),
    "png of 60 MB of tiny parts": lambda: png(64, 64, chunk(b"tEXt", b"k\0v") * (4 * _MB), _PIXELS),
    "jpeg of 60 MB of tiny parts": lambda: valid("jpeg")[:2] + b"\xff\xfe\0\2" * (15 * _MB) + valid("jpeg")[2:],
    "gif of 60 MB of tiny parts": lambda: _gif(64, 64, 0)[:-1] + b"\x21\xfe\1x\0" * (12 * _MB) + _gif(64, 64, 1)[19:],
    "gif of 65535 a side": lambda: _gif(65_535, 65_535, 1),
    "gif of 20,000 frames": lambda: _gif(64, 64, 20_000),
    "gif of 100 frames of 63 million pixels": lambda: _gif(7950, 7950, 100),
    "webp of 2**24 a side": lambda: _webp(1 << 24, 1 << 24),
    "webp of 16383 a side": lambda: _webp(16_383, 16_383),
    "tiff of 2**32 - 1 a side": lambda: _tiff(2**32 - 1, 2**32 - 1),
    "tiff of 63 million pixels in 64 bytes": lambda: _tiff(7950, 7950),
    "tiff of 20,000 directories": lambda: _tiff(64, 1, directories=20_000),
    "tiff of 16,000 tags": lambda: _tiff(64, 1, entries=16_000),
    "tiff whose directory follows itself": lambda: _tiff(64, 1, loop=True),
    "bmp of 2**31 - 1 a side": lambda: (
        b"BM" + struct.pack("<IIIIii", 70, 0, 54, 40, 2**31 - 1, 2**31 - 1) + b"\1\0\x18\0" + b"\0" * 36
    ),
    "jpeg of 65535 a side": lambda: _jpeg(65_535, 65_535),
    "jpeg of 63 million pixels without them": lambda: _jpeg(7950, 7950),
    "jpeg of 2,000 scans of 63 million pixels": lambda: _jpeg(7950, 7950, 2000),
}


def open_outcome(folder: Path, data: bytes) -> str:
    """Opens an image file: "loads" for a picture within limits, else the error's text, which must name the row."""
    (folder / "a").write_bytes(data)
    for reader in (original_size, open_image):
        try:
            image = reader(str(folder), "a", where="rows.jsonl:17")
        except DataError as error:
            assert str(error).startswith("rows.jsonl:17: image: got 'a', "), error
            return str(error)
    assert image.mode == "RGB" and min(image.size) >= MIN_SIDE
    assert max(image.size) <= MAX_ASPECT * min(image.size)
    image.getpixel((image.width - 1, image.height - 1))
    return "loads"
