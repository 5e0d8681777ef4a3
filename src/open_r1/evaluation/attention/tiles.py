"""Grids of image tokens over a picture, and the projection of token values onto it. (torch-free)

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

    `at` (N,): the tokens' indices in the prompt, row by row. `box`: the area that the grid covers, beyond the picture
    where that was padded. `spread` (N, rows x columns): each token's share in each cell, where tokens are not cells.
    """

    at: np.ndarray
    rows: int
    columns: int
    box: TileBox = WHOLE
    spread: np.ndarray | None = None


def project_onto_picture(values: np.ndarray, tiles: Sequence[Tile]) -> np.ndarray:
    """`values` (C, P) of a prompt's tokens -> (C, rows, columns) over the picture, on the grid of the finest tile.

    A token's value is divided among the cells that it covers, so sums stay the same, except on padding.

    >>> tiles = [Tile(np.array([0]), 1, 1), Tile(np.array([1, 2]), 2, 1, (0.0, 0.0, 0.5, 1.0))]
    >>> project_onto_picture(np.array([[0.4, 0.1, 0.5]]), tiles)
    array([[[0.2, 0.1],
            [0.6, 0.1]]])
    """
    rows = max(round(tile.rows / (tile.box[3] - tile.box[1])) for tile in tiles)
    columns = max(round(tile.columns / (tile.box[2] - tile.box[0])) for tile in tiles)
    return np.sum([_on_grid(values[:, tile.at], tile, rows, columns) for tile in tiles], axis=0)


def _on_grid(values: np.ndarray, tile: Tile, rows: int, columns: int) -> np.ndarray:
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
    edges, onto_edges = np.linspace(low, high, cells + 1), np.linspace(0, 1, onto + 1)[:, None]
    common = np.minimum(edges[1:], onto_edges[1:]) - np.maximum(edges[:-1], onto_edges[:-1])
    return common.clip(min=0) / ((high - low) / cells)
