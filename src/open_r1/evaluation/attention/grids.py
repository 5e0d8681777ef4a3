"""The grid of image tokens of a family that `layout.LAYOUTS` does not describe, where its fields leave no doubt.

A grid is known where the processor gives sizes that have as many cells as there are tokens, or where each picture is
one square of tokens. Else a picture is one cell: its sum of attention is right, and where on it is not said.
"""

import logging
from collections.abc import Sequence
from math import isqrt

import numpy as np
import torch
from transformers import ProcessorMixin

from open_r1.evaluation.attention.tiles import WHOLE, Tile, TileBox

logger = logging.getLogger(__name__)

PictureSize = tuple[int, int]  # (width, height) of a picture in pixels
Fields = dict[str, torch.Tensor]  # a processor's output for one conversation


def grids_of(
    fields: Fields, at: np.ndarray, shapes: Sequence[PictureSize], processor: ProcessorMixin | None
) -> list[list[Tile]] | None:
    """The tiles of each picture, whose tokens stand at the indices `at` of the prompt; None where they are unknown."""
    for sizes in map(_sizes, fields.values()):
        if sizes is not None and len(sizes) == len(shapes) and (tiles := _by_sizes(sizes, at)):
            return tiles
    return _squares(fields, at, shapes, processor)


def one_cell_each(family: str, at: np.ndarray, shapes: Sequence[PictureSize]) -> list[list[Tile]]:
    """Tiles of one cell: all image tokens of a picture together, or of all pictures where theirs cannot be told."""
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    parts = runs if len(runs) == len(shapes) else np.array_split(at, len(shapes))
    whose = (
        "each picture is one cell" if len(runs) == len(shapes) else "pictures are of one cell, cut by equal numbers"
    )
    logger.warning("the grid of image tokens of %s is unknown: %s", family, whose)
    return [[Tile(part, 1, 1, spread=np.ones((len(part), 1), np.float32))] for part in parts]


def _sizes(values: torch.Tensor) -> np.ndarray | None:
    """(pictures, 2) rows and columns that a field of whole numbers holds: as sizes, or as places (x, y) of patches."""
    if values.is_floating_point() or values.dtype == torch.bool:
        return None
    if values.ndim == 3 and values.shape[-1] == 2:  # -1 is padding
        return values.amax(dim=1).flip(-1).add(1).cpu().numpy()
    return values[:, -2:].cpu().numpy() if values.ndim == 2 and values.shape[1] in (2, 3) else None


def _by_sizes(sizes: np.ndarray, at: np.ndarray) -> list[list[Tile]] | None:
    """Grids of k x k merged cells of these sizes, where that makes as many cells as there are tokens."""
    merge = isqrt(int(sizes.prod(1).sum()) // len(at)) if len(at) else 0
    grids = sizes // merge if merge else sizes
    if not merge or (sizes % merge).any() or grids.prod(1).sum() != len(at):
        return None
    parts = np.split(at, np.cumsum(grids.prod(1))[:-1])
    return [[Tile(part, int(rows), int(columns))] for part, (rows, columns) in zip(parts, grids, strict=True)]


def _squares(
    fields: Fields, at: np.ndarray, shapes: Sequence[PictureSize], processor: ProcessorMixin | None
) -> list[list[Tile]] | None:
    """Square grids, where each picture is one square of pixels."""
    pixels, tokens = fields["pixel_values"], len(at) // len(shapes)
    side = isqrt(tokens)
    square = pixels.ndim == 4 and len(pixels) == len(shapes) and pixels.shape[-1] == pixels.shape[-2]
    if not square or side * side * len(shapes) != len(at):
        return None
    images = getattr(processor, "image_processor", None)
    parts = np.split(at, len(shapes))
    return [[Tile(part, side, side, _seen(images, shape))] for part, shape in zip(parts, shapes, strict=True)]


def _seen(images: object, shape: PictureSize) -> TileBox:
    """The box of the square that an image processor makes of a picture: around it, cut from it, or all of it."""
    if getattr(images, "do_center_crop", None):
        return square_around(shape, min(shape))
    return square_around(shape, max(shape)) if getattr(images, "do_pad", None) else WHOLE


def square_around(shape: PictureSize, side: int) -> TileBox:
    """The box of a square of `side` pixels around the middle of a picture.

    >>> square_around((200, 100), 200), square_around((200, 100), 100)
    ((0.0, -0.5, 1.0, 1.5), (0.25, 0.0, 0.75, 1.0))
    """
    wide, high = (side / length / 2 for length in shape)
    return 0.5 - wide, 0.5 - high, 0.5 + wide, 0.5 + high
