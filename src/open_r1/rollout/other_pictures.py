"""Other pictures for a row, in the sizes of its own, so that its tokens stay: blank ones, or those of another row.

A blank picture has the colour that the processor's normalization takes to zero. Another row is one with other files
and another answer, so that what is right with its pictures was not seen on them.
"""

import random
from collections.abc import Sequence

from PIL import Image
from transformers import ProcessorMixin

from open_r1.data.record import Record

Rgb = tuple[int, int, int]  # red, green, blue in [0, 255]

PLAIN_GREY: Rgb = (128, 128, 128)
DONOR_TRIES = 64  # rows that are drawn for one with other pictures


def mean_color(processor: ProcessorMixin) -> Rgb:
    """The colour that the processor's normalization takes to zero; grey where it has none."""
    images = getattr(processor, "image_processor", None)
    mean = getattr(images, "image_mean", None) if getattr(images, "do_normalize", False) else None
    return tuple(round(255 * value) for value in mean) if mean is not None and len(mean) == 3 else PLAIN_GREY


def blank_pictures(pictures: Sequence[Image.Image], color: Rgb) -> list[Image.Image]:
    """Pictures of one colour, of the same sizes."""
    return [Image.new("RGB", picture.size, color) for picture in pictures]


def fitted_pictures(pictures: Sequence[Image.Image], like: Sequence[Image.Image]) -> list[Image.Image]:
    """As many pictures as `like` in the sizes of those, in turn where there are fewer; one of its size stays as is."""
    pairs = ((pictures[number % len(pictures)], other.size) for number, other in enumerate(like))
    return [one if one.size == size else one.resize(size, Image.Resampling.BICUBIC) for one, size in pairs]


def donor_of(record: Record, rows: Sequence[Record], seed: int) -> Record | None:
    """A row whose pictures and videos stand in for this record's; None for a text-only record, or where none is found.

    It is drawn by (seed, name of the record's file, its line) among all `rows`, so that it depends neither on which
    rows are looked at nor on where files lie, and no random state is used up.

    >>> a, b = (Record(name, (f"{name}.png",), "", (), name) for name in "ab")
    >>> donor_of(b, [a, b], 0).id, donor_of(a, [a, a], 0)
    ('a', None)
    """
    draw = random.Random(f"{seed}/donor/{record.name_and_line}")
    for _ in range(DONOR_TRIES if record.images or record.videos else 0):
        donor = rows[draw.randrange(len(rows))]
        if is_donor(donor, record):
            return donor
    return None


def is_donor(other: Record, own: Record) -> bool:
    """Whether a row has pictures and videos where the record has some, none of the record's, and another answer than
    the record's, where that has one."""
    has_kinds = bool(other.images) >= bool(own.images) and bool(other.videos) >= bool(own.videos)
    is_other = has_kinds and not files_of(other) & files_of(own)
    return is_other and (not own.solution or other.solution != own.solution)


def files_of(record: Record) -> set[tuple[str, str]]:
    """(folder, path) of each file of a row's pictures and videos."""
    return {(record.folder, path) for paths in (record.images, *(v.paths for v in record.videos)) for path in paths}
