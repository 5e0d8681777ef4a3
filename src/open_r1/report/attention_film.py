"""Write `Attention` as GIF or MP4: pictures under heat maps, below them the completion. (torch-free)"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from open_r1.errors import UsageError
from open_r1.report.heat import HIGH, Attention, heat

FRAME_WIDTH, PICTURES = 960, 360  # pixels of a frame: its width, the height of its pictures
TEXT_LINES, LINE = 3, 28  # lines of text below them, and pixels of each
HEIGHT = PICTURES + TEXT_LINES * LINE + 16
SECONDS = 0.4  # of a token


def frames(attention: Attention, pictures: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """One RGB image per token, all of one size with even sides; a picture for each of the attention's maps."""
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 18)
    words = [token.replace("\n", "↵ ") for token in attention.tokens]
    places = flow([font.getlength(word) for word in words], FRAME_WIDTH - 20)
    boxes, maps = side_by_side([picture.size for picture in pictures]), [one.levels() for one in attention.maps]
    for step in range(len(words)):
        frame = Image.new("RGB", (FRAME_WIDTH, HEIGHT), "black")
        for picture, level, (x, width, height) in zip(pictures, maps, boxes, strict=True):
            resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            frame.paste(heat(resized, level[step]), (x, (PICTURES - height) // 2))
        _write(ImageDraw.Draw(frame), words, places, step, font)
        yield frame


def _write(
    draw: ImageDraw.ImageDraw, words: list[str], places: list[tuple[float, int]], step: int, font: ImageFont.ImageFont
) -> None:
    """Write the lines around the current token: text so far in white, the token in green."""
    first = max(0, places[step][1] - TEXT_LINES + 2)
    for number, (word, (x, line)) in enumerate(zip(words, places, strict=True)):
        if first <= line < first + TEXT_LINES:
            colour = HIGH if number == step else "white" if number < step else (110, 110, 110)
            draw.text((10 + x, PICTURES + 8 + (line - first) * LINE), word, colour, font)


def flow(widths: Sequence[float], room: float) -> list[tuple[float, int]]:
    """(x, line) of words written one after another in lines of `room` pixels.

    >>> flow([40, 50, 30], 100)
    [(0, 0), (40, 0), (0, 1)]
    """
    places, x, line = [], 0, 0
    for width in widths:
        if x and x + width > room:
            x, line = 0, line + 1
        places.append((x, line))
        x += width
    return places


def side_by_side(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(x, width, height) in a frame of pictures of these (width, height), as large as equal columns allow.

    >>> side_by_side([(100, 100), (200, 100)])
    [(60, 360, 360), (480, 480, 240)]
    """
    room = FRAME_WIDTH // len(sizes)
    scales = [min(room / width, PICTURES / height) for width, height in sizes]
    fitted = [
        (max(1, int(width * scale)), max(1, int(height * scale)))
        for (width, height), scale in zip(sizes, scales, strict=True)
    ]
    return [(number * room + (room - width) // 2, width, height) for number, (width, height) in enumerate(fitted)]


def write_gif(path: Path, images: Iterator[Image.Image]) -> None:
    """Write frames as an endless GIF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    next(images).save(path, save_all=True, append_images=images, duration=int(1000 * SECONDS), loop=0)


def require_ffmpeg() -> str:
    """The path of ffmpeg. Raises UsageError where it is not installed."""
    if (path := shutil.which("ffmpeg")) is None:
        raise UsageError(
            "--mp4: got no ffmpeg on PATH, expected one; install it (apt-get install ffmpeg), or use --gif"
        )
    return path


def write_mp4(path: Path, images: Iterator[Image.Image]) -> None:
    """Write frames as H.264 by ffmpeg. Raises UsageError where it is missing or fails."""
    ffmpeg, first = require_ffmpeg(), next(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "{}x{}".format(*first.size), "-r", str(1 / SECONDS), "-i", "-"]
    command = [ffmpeg, "-loglevel", "error", "-y", *raw, "-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        with suppress(BrokenPipeError):  # it ended early; its stderr has the reason
            for image in chain([first], images):
                encoder.stdin.write(image.tobytes())
        message = encoder.communicate()[1].decode(errors="replace").strip()
    if encoder.returncode:
        raise UsageError(
            f"--mp4: got status {encoder.returncode} from ffmpeg ({message[-300:]}), expected 0; use --gif"
        )
