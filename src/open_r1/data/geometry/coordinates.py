"""Coordinate frames of the model families, and boxes to and from pixels of the original image. (torch-free)

Boxes are (x1, y1, x2, y2). Three spaces:
- "original": pixels of the image as displayed (upright, before any scaling);
- "resized": pixels of the image that the processor makes of it (`smart_resize`), for Qwen2.5-VL;
- "relative_1000": 0..1000 over width and height, whatever the size (Qwen2-VL, Qwen3-VL, InternVL).
"""

import math
from collections.abc import Sequence

MIN_SIDE = 28  # px; smaller sides are scaled up by `open_r1.data.images.open_image`
MIN_PIXELS = 56 * 56
DEFAULT_MAX_PIXELS = 16384 * 28 * 28
MAX_ASPECT = 200  # Qwen's processors refuse more

# Model type (config.model_type) or a name users type -> space.
COORDINATES: dict[str, str] = {
    "original": "original",
    "qwen2_5_vl": "resized",
    "qwen2_vl": "relative_1000",
    "qwen3_vl": "relative_1000",
    "qwen3_vl_moe": "relative_1000",
    "internvl": "relative_1000",
    "internvl_chat": "relative_1000",
}
Box = tuple[float, float, float, float]


def smart_resize(
    height: int, width: int, factor: int = 28, min_pixels: int = MIN_PIXELS, max_pixels: int = DEFAULT_MAX_PIXELS
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
    family: str,
    image_wh: tuple[int, int],
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Box:
    """A box in the numbers of `family` as pixels of the original image, without rounding or clipping.

    Raises ValueError for an unknown family.

    >>> to_original((250, 0, 500, 1000), "qwen3_vl", (640, 425))
    (160.0, 0.0, 320.0, 425.0)
    """
    x_scale, y_scale = _scale(family, image_wh, min_pixels, max_pixels)
    x1, y1, x2, y2 = box
    return x1 / x_scale, y1 / y_scale, x2 / x_scale, y2 / y_scale


def from_original(
    box: Sequence[float],
    family: str,
    image_wh: tuple[int, int],
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Box:
    """A box in pixels of the original image in the numbers of `family`, unrounded; the inverse of `to_original`.

    >>> from_original((160, 0, 320, 425), "qwen2_5_vl", (640, 425))
    (161.0, 0.0, 322.0, 420.0)
    """
    x_scale, y_scale = _scale(family, image_wh, min_pixels, max_pixels)
    x1, y1, x2, y2 = box
    return x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale


def space_of(family: str) -> str:
    """The space of a family; case, dots and dashes of the name do not matter. Raises ValueError for an unknown one.

    >>> space_of("qwen2_5_vl"), space_of("Qwen2.5-VL"), space_of("original")
    ('resized', 'resized', 'original')
    """
    key = str(family).lower().replace(".", "_").replace("-", "_")
    if key not in COORDINATES:
        raise ValueError(f"model family: got {family!r}, expected one of {', '.join(COORDINATES)}; add it there")
    return COORDINATES[key]


def _scale(family: str, image_wh: tuple[int, int], min_pixels: int, max_pixels: int) -> tuple[float, float]:
    """(x, y) units of the family's space that one pixel of the original image takes."""
    space, (width, height) = space_of(family), image_wh
    if space == "original":
        return 1.0, 1.0
    if space == "relative_1000":
        return 1000 / width, 1000 / height
    shown_width, shown_height = shown_size(image_wh)
    resized_height, resized_width = smart_resize(shown_height, shown_width, 28, min_pixels, max_pixels)
    return resized_width / width, resized_height / height
