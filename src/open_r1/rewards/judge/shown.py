"""The pictures that a judge sees: those of a row in its order, then the frames of its videos; bounded in number and
size."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from open_r1.data.images import load_images
from open_r1.data.media_keys import media_problems
from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.strips import evenly
from open_r1.data.video.types import FrameSampling, Video, VideoFrames
from open_r1.endpoint.client import scaled_down
from open_r1.errors import DataError, Problem, data_error, shorten

FEWEST_FRAMES = 2  # of a video


@dataclass(frozen=True)
class ShownPictures:
    """Pictures as they are sent, and a digest of their pixels; the last ones are frames of videos at the times
    `frames`."""

    images: tuple[Image.Image, ...] = ()
    digest: str = ""
    frames: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureLimits:
    """The most pictures and frames of a row, and the most pixels of each."""

    number: int = 16
    pixels: int = 1_000_000


def row_pictures(record: Record, limits: PictureLimits) -> ShownPictures:
    """The row's pictures and frames. Raises DataError as `load_images` and `load_videos`, for more pictures than may
    be shown, and for what the row holds of pictures and videos and does not name as paths."""
    if unread := list(_unread_media(record)):
        raise DataError(unread)
    if not record.images and not record.videos:
        return ShownPictures()
    if (needed := len(record.images) + FEWEST_FRAMES * len(record.videos)) > limits.number:
        got = f"{len(record.images)} pictures and {len(record.videos)} videos"
        raise data_error(record.where, "images", got, f"at most {limits.number}", f"JUDGE_MAX_IMAGES={needed} or more")
    return _loaded(record.folder, record.images, record.videos, limits, record.where)


def _unread_media(record: Record) -> Iterator[Problem]:
    """The fields of pictures and videos that the record has none of, as saved completions may have them."""
    media = (("pictures", ("images", "image"), record.images), ("videos", ("videos", "video"), record.videos))
    for kind, names, read in media:
        for name in names if not read else ():
            if (value := record.extra.get(name)) not in (None, []):
                expected = f"paths of {kind}, as JUDGE_IMAGES=true asks"
                yield Problem(record.where, name, shorten(value), expected, "write them as text")
                return
    if not record.images and not record.videos:
        yield from media_problems(record.extra, record.where, ())


def judge_pictures(
    images: Sequence[Image.Image], clips: Sequence[VideoFrames], limits: PictureLimits
) -> ShownPictures:
    """Pictures, then frames of clips, as they are sent: larger ones scaled down, and of a clip with more frames than
    its share of `limits.number` some left out evenly, the first and the last kept."""
    share = (limits.number - len(images)) // max(len(clips), 1)
    kept = [(clip, evenly(len(clip.seconds), share)) for clip in clips]
    frames = [Image.fromarray(clip.pixels[place]) for clip, places in kept for place in places]
    small = tuple(scaled_down(image, limits.pixels) for image in (*images, *frames))
    digest = hashlib.sha256()
    for image in small:
        digest.update(repr((image.size, image.mode)).encode() + image.tobytes())
    times = [
        f"{f'video {number} ' if len(clips) > 1 else ''}{clip.seconds[place]:.1f} s"
        for number, (clip, places) in enumerate(kept, 1)
        for place in places
    ]
    digest.update(repr(times).encode())
    return ShownPictures(small, digest.hexdigest(), tuple(times))


@lru_cache(maxsize=64)
def _loaded(
    folder: str, images: tuple[str, ...], videos: tuple[Video, ...], limits: PictureLimits, where: str
) -> ShownPictures:
    record = Record("", images, folder, (), "", where=where, videos=videos)
    sampling = FrameSampling(max_frames=limits.number - len(images), max_pixels=limits.pixels)
    (pictures,), (clips,) = load_images([record]), load_videos([record], sampling) if videos else [[]]
    return judge_pictures(pictures, clips, limits)
