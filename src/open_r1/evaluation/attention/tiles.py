"""Grids of image tokens over a picture, and what is said about tokens drawn over it. (torch-free)

Coordinates are fractions of the picture's width and height, (0, 0) its upper left corner.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TileBox = tuple[float, float, float, float]  # left, top, right, bottom
WHOLE: TileBox = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Tile:
    """A grid of image tokens over a part of a picture.

    `at` (N,) are the tokens' places in the prompt, row by row. `box` is what the grid covers; it goes beyond the
    picture where that was padded. `spread` (N, rows x columns), where tokens are not cells themselves, is the share
    that each token has of each cell.
    """

    at: np.ndarray
    rows: int
    columns: int
    box: TileBox = WHOLE
    spread: np.ndarray | None = None


def draw_over(values: np.ndarray, tiles: Sequence[Tile]) -> np.ndarray:
    """`values` (C, P) of a prompt's tokens -> (C, rows, columns) over the picture, on the grid of the finest tile.

    A token's value is divided among the cells it covers, so sums stay, but for what lies on padding.

    >>> tiles = [Tile(np.array([0]), 1, 1), Tile(np.array([1, 2]), 2, 1, (0.0, 0.0, 0.5, 1.0))]
    >>> draw_over(np.array([[0.4, 0.1, 0.5]]), tiles)
    array([[[0.2, 0.1],
            [0.6, 0.1]]])
    """
    rows = max(round(tile.rows / (tile.box[3] - tile.box[1])) for tile in tiles)
    columns = max(round(tile.columns / (tile.box[2] - tile.box[0])) for tile in tiles)
    return np.sum([_drawn(values[:, tile.at], tile, rows, columns) for tile in tiles], axis=0)


def _drawn(values: np.ndarray, tile: Tile, rows: int, columns: int) -> np.ndarray:
    cells = values if tile.spread is None else values @ tile.spread
    left, top, right, bottom = tile.box
    down, across = overlap_shares(tile.rows, top, bottom, rows), overlap_shares(tile.columns, left, right, columns)
    return down.astype(values.dtype) @ cells.reshape(-1, tile.rows, tile.columns) @ across.T.astype(values.dtype)


def overlap_shares(cells: int, low: float, high: float, onto: int) -> np.ndarray:
    """(onto, cells): the share of each of `cells` equal parts of [low, high] in each of `onto` equal parts of [0, 1].

    >>> overlap_shares(3, 0.0, 1.0, 2)
    array([[1. , 0.5, 0. ],
           [0. , 0.5, 1. ]])
    """
    mine, theirs = np.linspace(low, high, cells + 1), np.linspace(0, 1, onto + 1)[:, None]
    common = np.minimum(mine[1:], theirs[1:]) - np.maximum(mine[:-1], theirs[:-1])
    return common.clip(min=0) / ((high - low) / cells)
