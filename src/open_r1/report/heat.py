"""Attention as data and as colours: red where a token looked least, green where most. (torch-free)"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

LOW, HIGH = (140, 0, 20), (60, 235, 90)  # RGB; lightness rises too, for those who do not see red and green apart
POWER = 0.4  # r1_vlm's: lifts what is small beside the largest


@dataclass(frozen=True)
class Attention:
    """Where the prediction of each of C completion tokens looked: softmax weights in [0, 1] of one layer.

    Row t is of the query that predicts token t, which stands one place before it: what the token was chosen from.
    `images[k][t]` (rows, columns) lies over picture k; `prompt[t]` (T,) over the prompt's other tokens `asked`,
    special ones included; `said[t]` (C,) over the completion, zero from token t on. Together they are 1 but for
    `rest[t]`: image tokens that end a row or show padding.
    """

    tokens: list[str]
    asked: list[str]
    images: list[np.ndarray]
    prompt: np.ndarray
    said: np.ndarray
    layer: int
    layers: int
    head: int | None  # None: the mean of all

    @property
    def on_images(self) -> np.ndarray:
        """(C, pictures): the share of each picture."""
        return np.stack([image.sum(axis=(1, 2)) for image in self.images], axis=1)

    @property
    def rest(self) -> np.ndarray:
        """(C,): what lies on image tokens without a place in their picture."""
        return 1 - self.on_images.sum(axis=1) - self.prompt.sum(axis=1) - self.said.sum(axis=1)

    @property
    def source(self) -> str:
        """Which layer and head, counted from 0."""
        heads = "mean of its heads" if self.head is None else f"head {self.head}"
        return f"layer {self.layer} of 0 to {self.layers - 1}, {heads}"


def levels(weights: np.ndarray, power: float = POWER) -> np.ndarray:
    """Weights of the last axis as levels in [0, 1]: least 0, most 1, to a power; zeros where all are equal.

    >>> levels(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]), power=0.5)
    array([[0. , 0.5, 1. ],
           [0. , 0. , 0. ]])
    """
    low, high = weights.min(axis=-1, keepdims=True), weights.max(axis=-1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return ((weights - low) / span) ** power


def heat(image: Image.Image, weights: np.ndarray, power: float = POWER) -> Image.Image:
    """A picture under its heat map (rows, columns), each cell one colour: a cell is one token, and nothing finer is
    known."""
    level = levels(weights.reshape(1, -1), power).reshape(*weights.shape, 1)
    colours = np.asarray(LOW) + level * (np.asarray(HIGH) - np.asarray(LOW))
    cover = Image.fromarray(colours.round().astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("RGB"), cover, 0.5)
