"""Every kind of image a person has becomes an RGB picture, or a problem that says why not; and coordinate spaces."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.repository import SHARED as DATA
from PIL import Image

from open_r1.data.geometry.coordinates import SPACES, from_original, smart_resize, to_original
from open_r1.data.images import load_images, open_image, original_size
from open_r1.data.record import Record
from open_r1.errors import DataError, UsageError

W, H = 60, 40
RED = (255, 0, 0)


def ramp16(dtype: type = np.uint16) -> np.ndarray:
    """16-bit levels 0 .. 65535 from left to right; clipping to 8 bits would turn all but the first column white."""
    return np.tile(np.linspace(0, 65535, W).astype(dtype), (H, 1))


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (W, H), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, W // 2, H))  # left half: entry 0, black or transparent
    return image


def saved(path: Path, image: Image.Image, **options: object) -> None:
    image.save(path, **options)


KINDS: dict[str, tuple[str, Callable[[Path], object], tuple, tuple]] = {
    # name: file, writer, expected pixel at the left edge, expected pixel at the right edge
    "rgb": ("a.png", lambda p: saved(p, Image.new("RGB", (W, H), RED)), RED, RED),
    "grey": ("a.png", lambda p: saved(p, Image.new("L", (W, H), 77)), (77,) * 3, (77,) * 3),
    "one bit": ("a.png", lambda p: saved(p, Image.new("1", (W, H), 1)), (255,) * 3, (255,) * 3),
    "cmyk": (
        "a.jpg",
        lambda p: saved(p, Image.new("CMYK", (W, H), (0, 255, 255, 0)), quality=100),
        (254, 0, 0),
        (254, 0, 0),
    ),
    "palette": ("a.png", lambda p: saved(p, palette(False)), (0, 0, 0), RED),
    "palette alpha": ("a.png", lambda p: saved(p, palette(True), transparency=0), (255,) * 3, RED),
    "alpha": ("a.png", lambda p: saved(p, Image.new("RGBA", (W, H), (0, 0, 0, 0))), (255,) * 3, (255,) * 3),
    "half alpha": ("a.png", lambda p: saved(p, Image.new("RGBA", (W, H), (0, 0, 0, 128))), (127,) * 3, (127,) * 3),
    "grey alpha": ("a.png", lambda p: saved(p, Image.new("LA", (W, H), (0, 0))), (255,) * 3, (255,) * 3),
    "webp alpha": (
        "a.webp",
        lambda p: saved(p, Image.new("RGBA", (W, H), (0, 0, 0, 0)), lossless=True),
        (255,) * 3,
        (255,) * 3,
    ),
    "16-bit png": ("a.png", lambda p: saved(p, Image.fromarray(ramp16())), (0,) * 3, (255,) * 3),
    "16-bit tiff": ("a.tif", lambda p: saved(p, Image.fromarray(ramp16())), (0,) * 3, (255,) * 3),
    "32-bit tiff": ("a.tif", lambda p: saved(p, Image.fromarray(ramp16(np.int32))), (0,) * 3, (255,) * 3),
    "float tiff": ("a.tif", lambda p: saved(p, Image.fromarray(ramp16(np.float32) / 65535)), (0,) * 3, (255,) * 3),
    "bmp": ("a.bmp", lambda p: saved(p, Image.new("RGB", (W, H), RED)), RED, RED),
    "animated gif": (
        "a.gif",
        lambda p: saved(
            p, Image.new("RGB", (W, H), RED), save_all=True, append_images=[Image.new("RGB", (W, H), "blue")]
        ),
        RED,
        RED,
    ),
    "animated webp": (
        "a.webp",
        lambda p: saved(
            p,
            Image.new("RGB", (W, H), RED),
            save_all=True,
            append_images=[Image.new("RGB", (W, H), "blue")],
            lossless=True,
        ),
        RED,
        RED,
    ),
    "wrong suffix": ("a.jpg", lambda p: saved(p, Image.new("RGB", (W, H), RED), format="PNG"), RED, RED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(tmp_path: Path, kind: str) -> None:
    name, save, left, right = KINDS[kind]
    save(tmp_path / name)
    image = open_image(str(tmp_path), name)
    assert (image.mode, image.size, original_size(str(tmp_path), name)) == ("RGB", (W, H), (W, H))
    for x, expected in ((1, left), (W - 1, right)):
        tolerance = 5 if "16" in kind or "32" in kind or "float" in kind else 2  # one column of the ramp is 4.3 levels
        assert np.abs(np.subtract(image.getpixel((x, 5)), expected)).max() <= tolerance


def test_16_bit_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(ramp16()).save(tmp_path / "a.png")
    levels = np.asarray(open_image(str(tmp_path), "a.png"))[0, :, 0]
    assert np.abs(levels - np.linspace(0, 255, W)).max() <= 1


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">3H", 0x8000, 0xFFFF, 0) * W  # filter byte, then 16-bit RGB
    header = struct.pack(">IIBBBBB", W, H, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * H)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert open_image(str(tmp_path), "a.png").getpixel((3, 3)) == (128, 255, 0)


def test_a_tall_transparent_picture_is_laid_on_white_as_a_whole_one_would_be(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 40, 4), np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    whole = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    assert open_image(str(tmp_path), "a.png").tobytes() == whole.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_exif_rotation(tmp_path: Path, orientation: int, mode: str) -> None:
    upright = Image.new("RGB", (W, H), "black")
    upright.paste("white", (0, 0, 20, 10))  # marks the upper left corner
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF value -> Image.Transpose that a camera "did"
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert(mode).save(tmp_path / "a.png", exif=exif)
    image = open_image(str(tmp_path), "a.png")
    assert image.size == original_size(str(tmp_path), "a.png") == (W, H)
    assert np.array_equal(np.asarray(image), np.asarray(upright))


def test_exif_behind_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (W, H)).save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    tail = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:start] + data[end:tail] + data[start:end] + data[tail:])
    assert original_size(str(tmp_path), "a.png") == open_image(str(tmp_path), "a.png").size == (H, W)


def test_size_needs_no_pixels(tmp_path: Path) -> None:
    for name, content in (("a.png", png(Image.fromarray(NOISE))[:-900]), ("a.jpg", jpeg()[:-400])):
        (tmp_path / name).write_bytes(content)
        assert original_size(str(tmp_path), name) == (W, H)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((14, 20), (28, 40)), ((27, 27), (28, 28)), ((1, 1), (28, 28)), ((200, 7), (800, 28)), ((28, 28), (28, 28))],
)
def test_small_images_are_scaled_up_alone(tmp_path: Path, size: tuple, shown: tuple) -> None:
    Image.new("RGB", size, RED).save(tmp_path / "small.png")
    Image.new("RGB", (W, H), RED).save(tmp_path / "large.png")
    record = Record("1", ("small.png", "large.png"), str(tmp_path), (), "A")
    assert [image.size for image in load_images([record])[0]] == [shown, (W, H)]
    assert original_size(str(tmp_path), "small.png") == size


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


BOMB = png(Image.new("1", (9000, 9000)))  # 81 Mpx in 11 kB
HUGE = png(Image.new("1", (20000, 10000)))  # over Pillow's own limit
NOISE = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
BAD = [
    (b"", "an empty file (0 bytes), expected an image; copy the file again, or remove the row"),
    (
        b"I am text, not an image",
        "no image, expected JPEG or PNG or WEBP or BMP or GIF or TIFF; save it in one of these",
    ),
    (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "no image, expected JPEG or PNG",
    ),  # Pillow would start ghostscript
    (jpeg()[:-400], "a damaged image (OSError: image file is truncated"),
    (
        png(Image.fromarray(NOISE))[:-900],
        "expected an image that decodes to its end; copy the file again, or remove the row",
    ),
    (png(Image.fromarray(NOISE))[:20], "expected "),
    (BOMB, "9000x9000 pixels, expected at most 64000000 pixels; save the image smaller"),
    (HUGE, "expected at most 64000000 pixels; save the image smaller"),
    (
        png(Image.new("1", (2010, 10))),
        "2010x10 pixels, expected sides within 1:200; crop the image, or remove the row",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_image(str(tmp_path), "a.png", where="t.jsonl:9")
    assert str(caught.value).startswith("t.jsonl:9: image: got 'a.png', ")
    assert message in str(caught.value)


def test_limits_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(NOISE)))
    with pytest.raises(DataError, match=r"bytes, expected at most 100; save the image smaller"):
        open_image(str(tmp_path), "a.png", max_file_bytes=100)
    with pytest.raises(DataError, match=r"60x40 pixels, expected at most 2399 pixels"):
        original_size(str(tmp_path), "a.png", max_pixels_decoded=2399)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret.png", "without '..', drive, URL, NUL or half a character; copy the image"),
        ("/etc/passwd", "without '..', drive, URL, NUL or half a character"),
        ("http://x/a.png", "without '..', drive, URL, NUL or half a character"),
        ("a\0.png", "without '..', drive, URL, NUL or half a character"),
        ("out.png", "a link that leads outside, expected a file inside"),
        ("outdir/secret.png", "a link that leads outside, expected a file inside"),
        ("loop.png", "symbolic links"),
        ("gone.png", "expected an existing file under"),
        ("pipe.png", "a pipe, socket or device, expected a regular file; name an image file"),
        ("in", "a folder, expected a regular file"),
        ("in/", "a folder, expected a regular file"),
        ("in/.", "a folder, expected a regular file"),
        (".", "a folder, expected a regular file"),
        ("in/./../../secret.png", "without '..', drive, URL, NUL or half a character"),
        ("in\\..\\..\\secret.png", "without '..', drive, URL, NUL or half a character"),
        ("in/loopdir/secret.png", "symbolic links"),
        ("\uff0e\uff0e/secret.png", "expected an existing file under"),  # dots to a person, and to NFKC
        ("%2e%2e/secret.png", "expected an existing file under"),
        ("DATA:image/png;base64,AAAA", "without '..', drive, URL, NUL or half a character"),
        ("FILE:/etc/passwd", "without '..', drive, URL, NUL or half a character"),
        ("~/secret.png", "expected an existing file under"),
        ("$HOME/secret.png", "expected an existing file under"),
        ("\ud800.png", "drive, URL, NUL or half a character"),
        ("a" * 300 + ".png", "File name too long"),
    ],
)
def test_paths(tmp_path: Path, path: str, message: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(png(Image.new("L", (W, H))))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "outdir").symlink_to(tmp_path)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "in" / "loopdir").symlink_to(root / "in" / "loopdir")
    os.mkfifo(root / "pipe.png")
    for image in (open_image, original_size):
        with pytest.raises(DataError) as caught:
            image(str(root), path, where="t.jsonl:9")
        assert str(caught.value).startswith("t.jsonl:9: image: got ") and message in str(caught.value)


def test_links_that_stay_inside_and_a_linked_root_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").write_bytes(png(Image.new("L", (W, H))))
    (tmp_path / "real" / "b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_image(str(tmp_path / "link"), "b.png").size == (W, H)


def test_load_images_opens_each_file_once_and_reports_all_bad_ones(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (W, H), RED).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"")
    root = str(tmp_path)
    rows = [
        Record(str(i), images, root, (), "A", where=f"t.jsonl:{i}")
        for i, images in enumerate([("a.png",), ("b.png", "a.png"), ()])
    ]
    first, second, third = load_images(rows)
    assert len(first) == 1 and second[1] is first[0] and second[0] is not first[0] and third == []
    bad = [Record("9", ("c.png", "d.png"), root, (), "A", where=f"t.jsonl:{line}") for line in (9, 10)]
    with pytest.raises(DataError) as caught:
        load_images([*rows, *bad])
    assert sorted(problem.where for problem in caught.value.problems) == ["t.jsonl:9", "t.jsonl:9"]


def test_damage_anywhere_is_a_problem_or_a_picture(tmp_path: Path) -> None:
    rng = random.Random(0)
    for original in (jpeg(), png(Image.fromarray(NOISE))):
        for _ in range(60):
            damaged = bytearray(original)
            for _ in range(4):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            (tmp_path / "a.png").write_bytes(damaged)
            try:
                assert open_image(str(tmp_path), "a.png").mode == "RGB"
            except DataError as error:
                assert len(error.problems) == 1


@pytest.mark.parametrize(
    ("height_width", "limits", "resized"),
    [  # as transformers 5.17 computes them; the slow test below compares many more
        ((425, 640), {}, (420, 644)),
        ((425, 640), {"max_pixels": 100_000}, (252, 364)),
        ((40, 28), {}, (84, 56)),
        ((28, 5600), {}, (28, 5600)),
        ((3000, 4000), {"max_pixels": 1_003_520}, (840, 1148)),
    ],
)
def test_smart_resize(height_width: tuple, limits: dict, resized: tuple) -> None:
    assert smart_resize(*height_width, 28, **limits) == resized
    with pytest.raises(ValueError, match="image size: got 6000x28, expected sides within 1:200"):
        smart_resize(28, 6000)


@pytest.mark.slow  # importing transformers takes seconds
def test_smart_resize_equals_transformers() -> None:
    theirs = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    rng = random.Random(1)
    for _ in range(2000):
        height, width = rng.randint(28, 4000), rng.randint(28, 4000)
        limits = {
            "min_pixels": rng.choice([3136, 200_000]),
            "max_pixels": rng.choice([300_000, 1_003_520, 12_845_056]),
        }
        if max(height, width) <= 200 * min(height, width):
            assert smart_resize(height, width, 28, **limits) == theirs(height, width, 28, **limits)


@pytest.mark.parametrize("family", SPACES)
def test_coordinates_go_there_and_back(family: str) -> None:
    rng = random.Random(family)
    for _ in range(500):
        size = rng.randint(20, 3000), rng.randint(20, 3000)
        limits = rng.choice([3136, 100_352]), rng.choice([200_704, 1_003_520, 12_845_056])
        box = tuple(rng.uniform(0, side) for side in size * 2)
        there = from_original(box, family, size, *limits)
        assert np.abs(np.subtract(to_original(there, family, size, *limits), box)).max() < 1e-6
        # The whole image is the whole image in every space.
        assert to_original(
            from_original((0, 0, *size), family, size, *limits), family, size, *limits
        ) == pytest.approx((0, 0, *size))


@pytest.mark.parametrize(
    ("family", "size", "limits", "corner"),
    [
        ("original", (640, 425), {}, (640, 425)),
        ("qwen2_5_vl", (640, 425), {}, (644, 420)),
        ("qwen2_5_vl", (640, 425), {"max_pixels": 100_000}, (364, 252)),
        ("qwen2_5_vl", (14, 20), {}, (56, 84)),  # shown as 28x40, under 3136 px: 28 * 1.67 -> 56, 40 * 1.67 -> 84
        ("qwen3_vl", (640, 425), {"max_pixels": 100_000}, (1000, 1000)),
    ],
)
def test_far_corner_in_each_space(family: str, size: tuple, limits: dict, corner: tuple) -> None:
    assert from_original((0, 0, *size), family, size, **limits) == pytest.approx((0, 0, *corner))


def test_unknown_family_is_not_guessed() -> None:
    with pytest.raises(UsageError, match=r"got model family 'gpt', expected one of original, resized, .*--box_space"):
        to_original((0, 0, 1, 1), "gpt", (640, 480))


def test_real_photos() -> None:
    photos = sorted((DATA / "coco" / "images").glob("*.jpg"))
    if not photos:
        pytest.skip("../shared/data/coco is absent")
    for photo in photos:
        size = original_size(str(photo.parent), photo.name)
        assert open_image(str(photo.parent), photo.name).size == size


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\n<html><body>Sign in</body></html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC or AVIF picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\x1aE\xdf\xa3" + b"\0" * 40, "a video"),
        (b'<?xml version="1.0"?><svg width="9" height="9"/>', "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'{"error": "not found"}', "JSON"),
        (b"plain text", "no image"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=named):
        open_image(str(tmp_path), "a.png")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("iVBORw0KGgo" + "A" * 40, "a picture as base64.*open_r1.convert"),
        ("iVBORw0KGgo" + "A" * 4000, "a picture as base64.*open_r1.convert"),
        ("/9j/4AAQSkZJRg" + "A" * 40, "a picture as base64.*open_r1.convert"),
        ('["a.png", "b.png"]', "a list written as text"),
        ("['a.png']", "a list written as text"),
        ("a.png,b.png", "2 paths in one text"),
        ("a.png; b.jpg", "2 paths in one text"),
        ("s3://b/a.png", "nothing is fetched"),
        ("https://x.org/a.png", "nothing is fetched"),
    ],
)
def test_what_is_no_path_is_named(value: str, named: str, tmp_path: Path) -> None:
    Image.new("RGB", (W, H)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=named):
        open_image(str(tmp_path), value)
