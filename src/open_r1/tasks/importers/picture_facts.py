"""The size of a picture as a person sees it, and objects brought to it from the frame that their source states.

The frame of this project is the upright picture (`open_r1.data.images`). A source whose stated size is that of the
stored pixels, before EXIF turns them, has its objects in those pixels: they are turned with the picture. (torch-free)
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from open_r1.data.geometry.masks import decode_rle, encode_rle, read_segmentation
from open_r1.data.images import FORMATS, exif_of
from open_r1.tasks.importers.items import AnnotatedObject, Corner, SizeWh

ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class PictureFacts:
    """The upright size of a picture, (width, height) in pixels, and the EXIF orientation of its stored pixels."""

    wh: SizeWh
    orientation: int = 1

    @property
    def stored_wh(self) -> SizeWh:
        return self.wh[::-1] if self.orientation >= 5 else self.wh


def picture_facts(picture: Path | bytes) -> PictureFacts | None:
    """The facts of a picture file or of its bytes, from its header; None for what is no picture.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (3, 2)).save(file, "PNG")
    >>> picture_facts(file.getvalue()), picture_facts(b"GIF?")
    (PictureFacts(wh=(3, 2), orientation=1), None)
    """
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as image:
            orientation = exif_of(image).get(ORIENTATION, 1)
            orientation = orientation if orientation in TURNED else 1
            return PictureFacts(image.size[::-1] if orientation >= 5 else image.size, orientation)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


# EXIF orientation -> (x, y) of stored pixels, their width and height -> (x, y) of the upright picture.
TURNED: dict[int, Callable[[float, float, int, int], Corner]] = {
    1: lambda x, y, w, h: (x, y),
    2: lambda x, y, w, h: (w - x, y),
    3: lambda x, y, w, h: (w - x, h - y),
    4: lambda x, y, w, h: (x, h - y),
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}
_TURNED_MASK: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda mask: np.rot90(mask, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


def turned(one: AnnotatedObject, facts: PictureFacts) -> AnnotatedObject:
    """An object of the stored pixels in the frame of the upright picture.

    >>> turned(AnnotatedObject("cat", (0, 0, 10, 20)), PictureFacts((100, 300), 6)).box
    (80, 0, 100, 10)
    """
    move, (width, height) = TURNED[facts.orientation], facts.stored_wh
    rle = one.rle
    if rle is not None and facts.orientation in _TURNED_MASK:
        mask = decode_rle(read_segmentation(rle, (height, width)))
        rle = encode_rle(_TURNED_MASK[facts.orientation](mask))
    return replace(_moved(one, lambda x, y: move(x, y, width, height)), rle=rle)


def scaled(one: AnnotatedObject, factor: tuple[float, float]) -> AnnotatedObject:
    """An object whose picture is stored in another size than its source states; a run-length mask is then left out."""
    return replace(_moved(one, lambda x, y: (x * factor[0], y * factor[1])), rle=None)


def _moved(one: AnnotatedObject, move: Callable[[float, float], Corner]) -> AnnotatedObject:
    box = None
    if one.box is not None:
        (a, b), (c, d) = move(*one.box[:2]), move(*one.box[2:])
        box = (min(a, c), min(b, d), max(a, c), max(b, d))
    polygons = tuple(tuple(move(x, y) for x, y in polygon) for polygon in one.polygons)
    return replace(one, box=box, polygons=polygons, points=tuple(move(x, y) for x, y in one.points))
