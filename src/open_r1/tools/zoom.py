"""`zoom`: a part of a picture, cut out and enlarged. (torch-free)

The name and arguments are those of Qwen's cookbook (QwenLM/Qwen3-VL, cookbooks/think_with_images.ipynb,
`image_zoom_in_tool`) and of DeepEyes (arXiv 2505.14362), but for `image`, which counts from 1 as rows do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from open_r1.data.geometry.coordinates import MAX_ASPECT, MIN_SIDE, frame_wh, rounded, to_original
from open_r1.data.record import Record
from open_r1.errors import shorten
from open_r1.rewards.pictures import box_space, coordinate_frame

ENLARGED = 512 * 28 * 28  # pixels: the area up to which a crop is enlarged


@dataclass(frozen=True)
class ToolFrame:
    """How the model writes boxes: in `space`, a key of `coordinates.SPACES`; `resizing` holds the processor's
    `min_pixels`, `max_pixels` and `factor`, for "resized"."""

    space: str = "original"
    resizing: dict[str, int] = field(default_factory=dict)

    def size(self, image: Image.Image) -> tuple[float, float]:
        """(width, height) of a picture in the units of the space."""
        return frame_wh(self.space, image.size, **self.resizing)

    def to_pixels(self, box: Sequence[float], image: Image.Image) -> tuple[int, int, int, int]:
        """A box as the model writes it, as (x1, y1, x2, y2) in whole pixels of a picture, at least one each way.

        Raises ValueError, whose sentence is for the model, for no four numbers and for a box that is empty or outside.
        """
        (width, height), got = self.size(image), rounded(box, self.space)
        order = "y1, x1, y2, x2" if self.space == "yx_1000" else "x1, y1, x2, y2"
        expected = (
            f"[{order}] with x1 < x2 and y1 < y2 within the picture, which is {width:g} wide and {height:g} high"
        )
        if len(box) != 4:
            raise ValueError(f"got a box of {len(box)} numbers, expected {expected}")
        x1, y1, x2, y2 = to_original(box, self.space, image.size, **self.resizing)
        if not (0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height):
            raise ValueError(f"got box {shorten(got)}, expected {expected}")
        left, top = min(int(x1), image.width - 1), min(int(y1), image.height - 1)
        return left, top, max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)


def tool_frame(record: Record) -> ToolFrame:
    """The frame of a record's boxes, as its rewards read them. Raises DataError as `coordinate_frame`."""
    found = coordinate_frame(record, (1.0, 1.0))
    return ToolFrame(box_space(record), {k: v for k, v in found.items() if k not in ("space", "image_wh")})


def zoom(
    images: Sequence[Image.Image], frame: ToolFrame, bbox_2d: list[float], label: str = "", image: int = 1
) -> list[str | Image.Image]:
    """Zooms in on a part of a picture: returns it cut out and enlarged.

    Args:
        bbox_2d: The box of the part, in the coordinates of the picture.
        label: What is there.
        image: The number of the picture, from 1: those of the question, then those of tools, in order.
    """
    if not images:
        raise ValueError("there is no picture to zoom into")
    if not 1 <= image <= len(images):
        raise ValueError(f"got picture {image}, expected a number from 1 to {len(images)}")
    picture = images[image - 1]
    left, top, right, bottom = frame.to_pixels(bbox_2d, picture)
    if max(right - left, bottom - top) > MAX_ASPECT * min(right - left, bottom - top):
        raise ValueError(f"got a box of {right - left}x{bottom - top} pixels, expected sides within 1:{MAX_ASPECT}")
    return [enlarged(picture.crop((left, top, right, bottom)), picture.size)]


def enlarged(crop: Image.Image, room: tuple[int, int]) -> Image.Image:
    """A picture enlarged until it fills (width, height) pixels, or has the area `ENLARGED`; its aspect is
    kept, each side is 28 at least, and it is never made smaller.

    >>> enlarged(Image.new("RGB", (56, 28)), (112, 112)).size
    (112, 56)
    """
    filling = min(room[0] / crop.width, room[1] / crop.height, math.sqrt(ENLARGED / (crop.width * crop.height)))
    scale = max(filling, MIN_SIDE / min(crop.size))
    if scale <= 1:
        return crop
    return crop.resize((round(crop.width * scale), round(crop.height * scale)), Image.Resampling.BICUBIC)
