r"""Pictures and videos under Gaussian noise, as NoisyRollout samples some completions from, annealed over a run.

NoisyRollout (Liu et al., NeurIPS 2025, arXiv:2504.13055). A picture x with values in [0, 1] becomes

    x_t = sqrt(a_t) x + sqrt(1 - a_t) e,    e ~ N(0, 1) for each channel of each pixel, x_t cut to [0, 1],
    a_t = product over s = 0 ... t of 1 - b_s,    b_s = 1e-5 + (5e-3 - 1e-5) sigmoid(-6 + 12 s / 999),

and at step k = 1 ... K of a run the noise is that of

    t = floor(T (1 - sigmoid(30 (k / K - 2 / 3)))).

Source: the authors' code, github.com/NUS-TRAIL/NoisyRollout, `verl/utils/image_aug.py`; T = 500, the slope 30 and the
middle, step 40 of 60, are those of their script for Geometry3K (`qwen2_5_vl_7b_geo3k_noisyrollout.sh`, with 2,101 rows
in batches of 512 for 15 epochs). As in theirs, values are cut down to whole numbers of 255, and at t = 0 a trace of
noise, half a percent, is left.

Ours: a generator of a seed draws the noise; and pixels of noise are no smaller than the processor leaves them, where
theirs brings a picture to the processor's largest area first: noise of pixels that a processor averages would vanish.
Each frame of a video is a picture under noise of its own draw.
"""

import math
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image

from open_r1.config.vision_flags import NOISE_STEPS
from open_r1.data.video.types import VideoFrames

SLOPE, MIDDLE = 30.0, 2 / 3  # of the sigmoid, over the share of a run


def annealed(first: int, step: int, steps: int) -> int:
    """The noise step in [0, first] at `step`, 1 to `steps`, of a run.

    >>> [annealed(500, step, 60) for step in (1, 30, 40, 50, 60)]
    [499, 496, 250, 3, 0]
    """
    return int(first / (1 + math.exp(SLOPE * (step / steps - MIDDLE))))


@cache
def signal_kept(noise_step: int) -> float:
    """sqrt(a_t): what is left of a picture at a noise step in [0, NOISE_STEPS).

    >>> [round(signal_kept(step), 3) for step in (0, 250, 500, 999)]
    [1.0, 0.989, 0.863, 0.285]
    """
    rates = 1e-5 + (5e-3 - 1e-5) / (1 + np.exp(-np.linspace(-6, 6, NOISE_STEPS)[: noise_step + 1]))
    return math.sqrt(np.prod(1 - rates))


def noisy_picture(picture: Image.Image, noise_step: int, pixels: float, rng: np.random.Generator) -> Image.Image:
    """An RGB picture under noise, of the same size; `pixels` is the area that a processor leaves of it, at most."""
    values = np.asarray(picture.convert("RGB"), np.float32) / 255
    kept = signal_kept(noise_step)
    noisy = kept * values + math.sqrt(1 - kept**2) * noise_of(*picture.size, pixels, rng)
    return Image.fromarray((noisy.clip(0, 1) * 255).astype(np.uint8))


def noisy_video(video: VideoFrames, noise_step: int, pixels: float, rng: np.random.Generator) -> VideoFrames:
    """A video each of whose frames is under noise; `pixels` is the area that a processor leaves of a frame."""
    frames = (noisy_picture(picture, noise_step, pixels, rng) for picture in video.pictures())
    return replace(video, pixels=np.stack(list(map(np.asarray, frames))))


def noise_of(width: int, height: int, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 3) noise, equal within blocks where the picture has more than `pixels` pixels.

    >>> noise = noise_of(4, 2, 2, np.random.default_rng(0))
    >>> noise.shape, bool((noise[:, :2] == noise[0, 0]).all()), bool(noise[0, 0, 0] == noise[0, 2, 0])
    ((2, 4, 3), True, False)
    """
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    noise = rng.standard_normal((rows, columns, 3), dtype=np.float32)
    return noise[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
