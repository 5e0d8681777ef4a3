"""Attention weights of a completion, and their heat map: red is least attention, green most. (torch-free)"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

LOW, HIGH = (140, 0, 20), (60, 235, 90)  # RGB; lightness rises too, for red-green colour blindness
POWER = 0.4  # r1_vlm's: makes small weights visible beside the largest


@dataclass(frozen=True)
class Attention:
    """Attention weights in [0, 1] of one layer, of the predictions of C completion tokens.

    Row t is of the query that predicts token t, one place before it. `images[k][t]` (rows, columns) are the weights on
    picture k; `prompt[t]` (T,) on the prompt's other tokens `prompt_tokens`, special ones too; `completion[t]` (C,) on
    the completion, zero from token t on. They sum to 1 with `rest[t]`: image tokens that end a row or are padding.

    With tools the completion is what the model sampled; what tools wrote is among the prompt's tokens, their pictures
    among the pictures. `order` (T + C,): the indices of `prompt_tokens` and, behind them, `tokens`, as they came.
    """

    tokens: list[str]
    prompt_tokens: list[str]
    images: list[np.ndarray]
    prompt: np.ndarray
    completion: np.ndarray
    layer: int
    layers: int
    head: int | None  # None: the mean of all
    order: Sequence[int]

    @property
    def on_images(self) -> np.ndarray:
        """(C, pictures): the share of attention on each picture."""
        return np.stack([image.sum(axis=(1, 2)) for image in self.images], axis=1)

    @property
    def rest(self) -> np.ndarray:
        """(C,): the share on image tokens without a place in their picture."""
        return 1 - self.on_images.sum(axis=1) - self.prompt.sum(axis=1) - self.completion.sum(axis=1)

    @property
    def source(self) -> str:
        """The layer and head in words, counted from 0."""
        heads = "mean of its heads" if self.head is None else f"head {self.head}"
        return f"layer {self.layer} of 0 to {self.layers - 1}, {heads}"


def levels(weights: np.ndarray, power: float = POWER) -> np.ndarray:
    """Weights scaled along the last axis to [0, 1], to a power; zeros where all are equal.

    >>> levels(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]), power=0.5)
    array([[0. , 0.5, 1. ],
           [0. , 0. , 0. ]])
    """
    low, high = weights.min(axis=-1, keepdims=True), weights.max(axis=-1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return ((weights - low) / span) ** power


def heat(image: Image.Image, weights: np.ndarray, power: float = POWER) -> Image.Image:
    """A picture under its heat map (rows, columns); a cell is one token and has one colour."""
    level = levels(weights.reshape(1, -1), power).reshape(*weights.shape, 1)
    colours = np.asarray(LOW) + level * (np.asarray(HIGH) - np.asarray(LOW))
    cover = Image.fromarray(colours.round().astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("RGB"), cover, 0.5)
