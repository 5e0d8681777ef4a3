"""The videos of a row as film strips for a page that has `film.js`: small frames with their times. (torch-free)"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup
from PIL import Image

from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.strips import evenly
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.report.templates import PAGES

STRIP_VIDEOS = 4  # of a row
STRIP_FRAMES = 32  # of a row, shared out to its videos
STRIP_SIDE = 224  # px of a frame's longer side on the page


@dataclass(frozen=True)
class FilmStrip:
    """A video on a page: `cells` are (data URI, seconds) of its frames in order, of `sampled` ones."""

    name: str
    cells: tuple[tuple[str, float], ...]
    sampled: int
    span: float


def film_strips(record: Record, sampling: FrameSampling) -> list[FilmStrip]:
    """The film strips of a row's first videos. Raises DataError for files that cannot be read."""
    shown = record.videos[:STRIP_VIDEOS]
    if not shown:
        return []
    (videos,) = load_videos([record], sampling)
    most = max(2, STRIP_FRAMES // len(shown))
    return [film_strip(f"video {number}", video, most) for number, video in enumerate(videos[: len(shown)], 1)]


def film_strip(name: str, video: VideoFrames, most: int = STRIP_FRAMES) -> FilmStrip:
    """A video as at most `most` of its frames, the first and the last among them."""
    count = len(video.seconds)
    chosen = evenly(count, most)
    cells = tuple((frame_uri(video.pixels[at]), video.seconds[at]) for at in chosen)
    return FilmStrip(name, cells, count, video.span)


def frame_uri(pixels: np.ndarray) -> str:
    """A frame (H, W, 3) as the data URI of a small picture."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((STRIP_SIDE, STRIP_SIDE))
    picture.save(file, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def script_of(cards: Sequence[dict]) -> Markup:
    """The script of a page with these cards: `film.js` where one has a film strip, else nothing."""
    return film_script() if any(card["films"] for card in cards) else Markup("")


@cache
def film_script() -> Markup:
    """The text of `film.js`."""
    return Markup(PAGES.loader.get_source(PAGES, "film.js")[0])  # nosec B704 # a file of this package
