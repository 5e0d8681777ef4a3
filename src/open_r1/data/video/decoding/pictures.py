"""Makes a decoded frame a picture as a player shows it: RGB, upright, square pixels, small enough. (torch-free)"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from open_r1.data.geometry.coordinates import shown_size
from open_r1.data.images import on_white

if TYPE_CHECKING:  # the process that asks loads no FFmpeg
    import av

ONE = 1 << 16  # in a display matrix
SQUARE = Fraction(1)
ODDEST_PIXELS = 8  # a pixel's sides differ at most by this factor, else the statement is taken as an error


def fitted_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) of a frame that is shown: scaled down to `max_pixels` with even sides, or as it is; a side under
    28 px becomes 28, as that of pictures.

    >>> fitted_size(1920, 1080, 100_352), fitted_size(63, 47, 100_352), fitted_size(20, 40, 100_352)
    ((422, 236), (63, 47), (28, 56))
    """
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        width, height = (max(2, int(side * scale) // 2 * 2) for side in (width, height))
    return shown_size((width, height))


def player_size(width: int, height: int, pixel_shape: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels: stored ones may be wider or narrower than high.

    >>> player_size(720, 576, Fraction(16, 15)), player_size(720, 576, None)
    ((768, 576), (720, 576))
    """
    shape = pixel_shape or SQUARE
    if shape <= 0 or shape == SQUARE or not 1 / ODDEST_PIXELS <= shape <= ODDEST_PIXELS:
        return width, height
    return max(1, round(width * shape)), height


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Pixels (H, W, C) turned and mirrored as a display matrix (a, b, c, d) says: a pixel at (x, y) goes to
    (a x + c y, b x + d y). One that neither turns by quarters nor mirrors changes nothing."""
    a, b, c, d = matrix or (ONE, 0, 0, ONE)
    if {abs(a), abs(d)} == {ONE} and b == c == 0:
        across, down = a, d
    elif {abs(b), abs(c)} == {ONE} and a == d == 0:
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    else:
        return pixels
    return pixels[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1]


def display_matrix(frame: "av.VideoFrame") -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of a frame's display matrix, or None."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    numbers = np.frombuffer(bytes(data), np.int32)
    return int(numbers[0]), int(numbers[1]), int(numbers[3]), int(numbers[4])


def rgb_of(frame: "av.VideoFrame") -> np.ndarray:
    """(H, W, 3) uint8 of a frame of any pixel format, transparency laid on white."""
    if any(part.is_alpha for part in frame.format.components):
        return np.asarray(on_white(Image.fromarray(frame.to_ndarray(format="rgba"))))
    return frame.to_ndarray(format="rgb24")


class FrameShape:
    """Gives all frames of a video the size of the first one that is shown."""

    def __init__(self, max_pixels: int, pixel_shape: Fraction | None, refuse: Callable[[str], Exception]):
        self.max_pixels, self.pixel_shape, self.refuse = max_pixels, pixel_shape, refuse
        self.played: tuple[int, int] | None = None
        self.size = (0, 0)

    def picture(self, frame: "av.VideoFrame") -> np.ndarray:
        """(H, W, 3) uint8 of a frame. Raises what `refuse` makes, where its sides are in another proportion."""
        matrix = display_matrix(frame)
        width, height = player_size(frame.width, frame.height, self.pixel_shape)
        if matrix and matrix[0] == 0:
            width, height = height, width
        return self.fitted(np.ascontiguousarray(upright(rgb_of(frame), matrix)), (width, height))

    def fitted(self, pixels: np.ndarray, played: tuple[int, int]) -> np.ndarray:
        """Pixels (H, W, 3) of a frame that is played in the size (width, height), in the size of all."""
        if self.played is None:
            self.played, self.size = played, fitted_size(*played, self.max_pixels)
        (width, height), (first_width, first_height) = played, self.played
        if abs(width * first_height - height * first_width) > 0.02 * width * first_height:
            raise self.refuse(f"frames of {first_width}x{first_height} and of {width}x{height}")
        if pixels.shape[1::-1] == self.size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BICUBIC))
