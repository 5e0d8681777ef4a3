"""Spaces of box coordinates, and boxes to and from pixels of the original image. (torch-free)

- "original": pixels of the image as displayed (upright, before any scaling);
- "resized": pixels of the image that the processor makes of it (`smart_resize`), as Qwen2.5-VL's;
- "relative_1000", "relative_999", "relative_1": 0 to that number over width and height, whatever the size;
- "yx_1000": [y1, x1, y2, x2] in 0 to 1000, as Gemini and Gemma write them.

All but the last write (x1, y1, x2, y2). `conventions` says which of them a model family was trained with.
"""

import math
from collections.abc import Sequence

from open_r1.data.geometry.conventions import convention_of, published_form
from open_r1.errors import UsageError

MIN_SIDE = 28  # px; smaller sides are scaled up by `open_r1.data.images.open_image`
MIN_PIXELS = 56 * 56
DEFAULT_MAX_PIXELS = 16384 * 28 * 28
FACTOR = 28  # px of a side of an image token: patch size times merge size, of Qwen2-VL and Qwen2.5-VL
MAX_ASPECT = 200  # Qwen's processors refuse more

RELATIVE = {"relative_1000": 1000, "relative_999": 999, "relative_1": 1, "yx_1000": 1000}  # units over a side
SPACES = ("original", "resized", *RELATIVE)
Y_FIRST = frozenset({"yx_1000"})
FRACTION_DIGITS = 3  # of a coordinate in a space of 0 to 1
Box = tuple[float, float, float, float]


def smart_resize(
    height: int, width: int, factor: int = FACTOR, min_pixels: int = MIN_PIXELS, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, int]:
    """(height, width) after Qwen's processor: multiples of `factor`, area within the limits, aspect about kept.

    Source: transformers, models/qwen2_vl/image_processing_qwen2_vl.py. Raises ValueError over an aspect ratio of 200.

    >>> smart_resize(425, 640), smart_resize(425, 640, max_pixels=100_000)
    ((420, 644), (252, 364))
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"image size: got {width}x{height}, expected sides within 1:{MAX_ASPECT}")
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        h = max(factor, math.floor(height / beta / factor) * factor)
        w = max(factor, math.floor(width / beta / factor) * factor)
    elif h * w < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        h, w = math.ceil(height * beta / factor) * factor, math.ceil(width * beta / factor) * factor
    return h, w


def shown_size(image_wh: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that the processor gets: a side under 28 px becomes 28, the other follows.

    >>> shown_size((14, 20)), shown_size((640, 425))
    ((28, 40), (640, 425))
    """
    smallest = min(image_wh)
    if smallest >= MIN_SIDE:
        return image_wh
    width, height = (max(MIN_SIDE, round(side * MIN_SIDE / smallest)) for side in image_wh)
    return width, height


def to_original(
    box: Sequence[float],
    space: str,
    image_wh: tuple[float, float],
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    factor: int = FACTOR,
) -> Box:
    """A box as `space` writes it, a space or a family of one, as (x1, y1, x2, y2) in pixels of the original image,
    without rounding or clipping.

    `min_pixels`, `max_pixels` and `factor` are those of the processor, for "resized" alone. Raises UsageError as
    `space_of`.

    >>> to_original((250, 0, 500, 1000), "qwen3_vl", (640, 425))
    (160.0, 0.0, 320.0, 425.0)
    >>> to_original((0, 250, 1000, 500), "gemma4", (640, 425))
    (160.0, 0.0, 320.0, 425.0)
    """
    (width, height), (right, bottom) = image_wh, frame_wh(space, image_wh, min_pixels, max_pixels, factor)
    x1, y1, x2, y2 = in_order(box, space)
    return x1 * width / right, y1 * height / bottom, x2 * width / right, y2 * height / bottom


def from_original(
    box: Sequence[float],
    space: str,
    image_wh: tuple[float, float],
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    factor: int = FACTOR,
) -> Box:
    """A box in pixels of the original image as `space` writes it, unrounded; the inverse of `to_original`.

    >>> from_original((160, 0, 320, 425), "qwen2_5_vl", (640, 425))
    (161.0, 0.0, 322.0, 420.0)
    >>> from_original((160, 0, 320, 425), "yx_1000", (640, 425))
    (0.0, 250.0, 1000.0, 500.0)
    """
    (width, height), (right, bottom) = image_wh, frame_wh(space, image_wh, min_pixels, max_pixels, factor)
    x1, y1, x2, y2 = box
    return in_order((x1 * right / width, y1 * bottom / height, x2 * right / width, y2 * bottom / height), space)


def frame_wh(
    space: str,
    image_wh: tuple[float, float],
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    factor: int = FACTOR,
) -> tuple[float, float]:
    """(width, height) of an original image in the units of a space. Raises UsageError as `space_of`.

    >>> frame_wh("relative_1", (640, 425)), frame_wh("resized", (640, 425)), frame_wh("resized", (640, 425), factor=32)
    ((1, 1), (644, 420), (640, 416))
    """
    space = space_of(space)
    if space == "original":
        return image_wh
    if space in RELATIVE:
        return RELATIVE[space], RELATIVE[space]
    width, height = shown_size(image_wh)
    resized_height, resized_width = smart_resize(height, width, factor, min_pixels, max_pixels)
    return resized_width, resized_height


def in_order(box: Sequence[float], space: str) -> Box:
    """(x1, y1, x2, y2) of a box in the order of a space, and back.

    >>> in_order((1, 2, 3, 4), "yx_1000"), in_order((1, 2, 3, 4), "relative_1000")
    ((2, 1, 4, 3), (1, 2, 3, 4))
    """
    a, b, c, d = box
    return (b, a, d, c) if space_of(space) in Y_FIRST else (a, b, c, d)


def rounded(numbers: Sequence[float], space: str) -> list[float]:
    """Coordinates as a model writes them in a space: whole, or with `FRACTION_DIGITS` digits where they are 0 to 1.

    >>> rounded((160.4, 0.0), "original"), rounded((0.25, 1.0), "relative_1")
    ([160, 0], [0.25, 1.0])
    """
    is_fraction = RELATIVE.get(space_of(space)) == 1
    return [round(number, FRACTION_DIGITS) if is_fraction else round(number) for number in numbers]


def space_of(name: str) -> str:
    """The space of a name: itself, or of a model family; case, dots and dashes do not matter.

    Raises UsageError, which says what is published, for a family without one.

    >>> space_of("qwen2_5_vl"), space_of("Qwen2.5-VL"), space_of("original")
    ('resized', 'resized', 'original')
    """
    if name in SPACES:
        return name
    key = family_key(name)
    space = convention_of(key).space
    if space is None:
        raise UsageError(
            f"box space: got model family {name!r}, expected one of {', '.join(SPACES)}: {published_form(key)}; "
            "set --box_space, or the row's box_space"
        )
    return space


def family_key(name: str) -> str:
    """A family's name as `config.model_type` writes it.

    >>> family_key("Qwen2.5-VL")
    'qwen2_5_vl'
    """
    return str(name).lower().replace(".", "_").replace("-", "_")
