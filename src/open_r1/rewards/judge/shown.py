"""The pictures that a judge sees: of a row in its order, or of a clip's frames; bounded in number and size."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from open_r1.data.images import load_images
from open_r1.data.record import Record
from open_r1.endpoint.client import scaled_down
from open_r1.errors import data_error, shorten


@dataclass(frozen=True)
class ShownPictures:
    """Pictures as they are sent, and a digest of their pixels; `frames` of them, the last ones, are of a clip."""

    images: tuple[Image.Image, ...] = ()
    digest: str = ""
    frames: int = 0


@dataclass(frozen=True)
class PictureLimits:
    """The most pictures of a row, and the most pixels of each."""

    number: int = 16
    pixels: int = 1_000_000


def judge_pictures(images: Sequence[Image.Image], limits: PictureLimits, frames: int = 0) -> ShownPictures:
    """Pictures as they are sent, larger ones scaled down. The last `frames` are of a clip, in the order of time: where
    all are more than `limits.number`, frames are left out evenly, the first and the last kept.

    >>> clip = [Image.new("L", (8, 8), tone) for tone in range(9)]
    >>> [image.getpixel((0, 0)) for image in judge_pictures(clip, PictureLimits(3), frames=9).images]
    [0, 4, 8]
    """
    pictures = len(images) - frames
    kept = evenly(frames, max(min(frames, limits.number - pictures), 0))
    chosen = [*images[:pictures], *(images[pictures + place] for place in kept)]
    small = tuple(scaled_down(image, limits.pixels) for image in chosen)
    digest = hashlib.sha256()
    for image in small:
        digest.update(repr((image.size, image.mode)).encode() + image.tobytes())
    return ShownPictures(small, digest.hexdigest(), len(kept))


def evenly(count: int, kept: int) -> list[int]:
    """The places of `kept` of `count` frames, evenly from the first to the last.

    >>> evenly(9, 3), evenly(3, 3), evenly(9, 1), evenly(0, 0)
    ([0, 4, 8], [0, 1, 2], [4], [])
    """
    if kept == 1:
        return [count // 2]
    return [round(place * (count - 1) / (kept - 1)) for place in range(kept)]


def row_pictures(record: Record, limits: PictureLimits) -> ShownPictures:
    """The row's pictures in its order. Raises DataError as `load_images`, for more than may be shown, and for pictures
    that are no paths."""
    if not record.images:
        if field := _shown_field(record):
            expected = "paths of pictures, as JUDGE_IMAGES=true asks"
            raise data_error(record.where, field, shorten(record.extra[field]), expected, "write them as text")
        return ShownPictures()
    if len(record.images) > limits.number:
        expected = f"at most {limits.number} for the judge"
        raise data_error(record.where, "images", f"{len(record.images)}", expected, "raise JUDGE_MAX_IMAGES")
    return _pictures_of(record.folder, record.images, limits, record.where)


def _shown_field(record: Record) -> str | None:
    """The field of a saved completion that names its pictures in another form than paths; None without one."""
    return next((name for name in ("images", "image") if record.extra.get(name)), None)


@lru_cache(maxsize=64)
def _pictures_of(folder: str, paths: tuple[str, ...], limits: PictureLimits, where: str) -> ShownPictures:
    (images,) = load_images([Record("", paths, folder, (), "", where=where)])
    return judge_pictures(images, limits)
