"""Attention weights of a completion, and their heat map: red is least attention, green most. (torch-free)"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from open_r1.data.video.types import VideoFrames

LOW, HIGH = (140, 0, 20), (60, 235, 90)  # RGB; lightness rises too, for red-green colour blindness
POWER = 0.4  # r1_vlm's: makes small weights visible beside the largest


@dataclass(frozen=True)
class HeatMap:
    """The weights (C, rows, columns) of C tokens on a picture, or on one step of a video's frames.

    `among` (C, N): the weights that it is coloured by: its own, or those of all steps of its video.
    """

    weights: np.ndarray
    among: np.ndarray

    def levels(self) -> np.ndarray:
        """(C, rows, columns) in [0, 1]: the place of each weight between the least and the largest of `among`."""
        count = len(self.weights)
        return levels(self.weights.reshape(count, -1), among=self.among).reshape(self.weights.shape)


@dataclass(frozen=True)
class Attention:
    """Attention weights in [0, 1] of one layer, of the predictions of C completion tokens.

    Row t is of the query that predicts token t, one place before it. `images[k][t]` (rows, columns) are the weights on
    picture k, `videos[k][t]` (steps, rows, columns) those on video k, a step of which shows one frame or several;
    `prompt[t]` (T,) on the prompt's other tokens `prompt_tokens`, special ones too; `completion[t]` (C,) on the
    completion, zero from token t on. They sum to 1 with `rest[t]`: image tokens that end a row or are padding.

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
    videos: list[np.ndarray] = field(default_factory=list)

    @property
    def maps(self) -> list[HeatMap]:
        """The heat maps of the pictures, then those of each video's steps."""
        pictures = [HeatMap(image, image.reshape(len(image), -1)) for image in self.images]
        films = [(video, video.reshape(len(video), -1)) for video in self.videos]
        return pictures + [HeatMap(video[:, step], all_) for video, all_ in films for step in range(video.shape[1])]

    @property
    def on_images(self) -> np.ndarray:
        """(C, maps): the share of attention on each picture, then on each step of the videos."""
        return np.stack([one.weights.sum(axis=(1, 2)) for one in self.maps], axis=1)

    @property
    def rest(self) -> np.ndarray:
        """(C,): the share on image tokens without a place in their picture."""
        return 1 - self.on_images.sum(axis=1) - self.prompt.sum(axis=1) - self.completion.sum(axis=1)

    @property
    def source(self) -> str:
        """The layer and head in words, counted from 0."""
        heads = "mean of its heads" if self.head is None else f"head {self.head}"
        return f"layer {self.layer} of 0 to {self.layers - 1}, {heads}"


def levels(weights: np.ndarray, power: float = POWER, among: np.ndarray | None = None) -> np.ndarray:
    """Weights scaled along the last axis to [0, 1], to a power; zeros where all are equal.

    `among`: the weights whose least and largest are 0 and 1, by default `weights` themselves.

    >>> levels(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]]), power=0.5)
    array([[0. , 0.5, 1. ],
           [0. , 0. , 0. ]])
    """
    among = weights if among is None else among
    low, high = among.min(axis=-1, keepdims=True), among.max(axis=-1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return ((weights - low) / span) ** power


def heat(image: Image.Image, level: np.ndarray) -> Image.Image:
    """A picture under its heat map: `level` (rows, columns) in [0, 1]; a cell is one token and has one colour."""
    level = level[..., None]
    colours = np.asarray(LOW) + level * (np.asarray(HIGH) - np.asarray(LOW))
    cover = Image.fromarray(colours.round().astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return Image.blend(image.convert("RGB"), cover, 0.5)


def step_frames(frames: int, steps: int) -> list[range]:
    """The numbers of the frames that each of a video's steps of tokens shows.

    >>> step_frames(4, 2), step_frames(3, 3), step_frames(5, 3)[-1]
    ([range(0, 2), range(2, 4)], [range(0, 1), range(1, 2), range(2, 3)], range(4, 5))
    """
    each = -(-frames // steps)
    return [range(each * step, min(frames, each * (step + 1))) for step in range(steps)]


def mapped_pictures(
    attention: Attention, pictures: Sequence[Image.Image], videos: Sequence[VideoFrames]
) -> Iterator[Image.Image]:
    """The picture of each of the attention's maps: the pictures, then the first frame of each step of the videos."""
    yield from pictures
    for video, weights in zip(videos, attention.videos, strict=True):
        for frames in step_frames(len(video.pixels), weights.shape[1]):
            yield Image.fromarray(video.pixels[frames[0]])
