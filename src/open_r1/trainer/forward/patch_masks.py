"""Prompts and turns of tools whose pictures and videos have a share of their patches black, on a processor's tensors.

A field of pixels is one of floating-point numbers: either patches (..., D), each a vector, or pictures (..., C, H, W),
which are cut into squares of PATCH pixels here. What is black in a field's units is seen on a black picture, so no
family's name, mean or layout is needed. Tokens, positions and sizes stay as they are.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from transformers import ProcessorMixin

from open_r1.rollout.device_copies import to_device
from open_r1.rollout.processing import is_of_pixels
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.vision_features import Shown
from open_r1.trainer.forward.dummy_image import dummy_image, dummy_video

PATCH = 14  # pixels of a square's side, as in PAPO and VPPO

Colors = Mapping[str, torch.Tensor]  # field of pixels -> a color in its units: (D,) of a patch, (C, 1, 1) of a pixel
BLACK = (0, 0, 0)


def pixels_of_color(processor: ProcessorMixin, fields: PromptFields, color: tuple[int, int, int] = BLACK) -> Colors:
    """What the processor makes of a picture, and of a video, of one RGB color; both are square, so that nothing pads
    them."""
    images = dummy_image(processor, fields, color) | dummy_video(processor, fields, color)
    return {name: one_pixel(value) for name, value in images.items() if is_of_pixels(value)}


def one_pixel(value: torch.Tensor) -> torch.Tensor:
    """The first patch (D,) of a field, or its first pixel (C, 1, 1)."""
    if value.ndim < 4:
        return value.reshape(-1, value.shape[-1])[0]
    return value.reshape(-1, *value.shape[-3:])[0, :, :1, :1]


def mask_patches(prompt: Shown, black: Colors, share: float, seed: list[int]) -> Shown:
    """The prompt, or turns of tools, with each patch of its pictures black with probability `share`, drawn by a
    generator of `seed`.

    It has no precomputed features: they are of the pictures as they were.
    """
    rng, images = np.random.default_rng(seed), dict(prompt.images)
    for name in sorted(black.keys() & images.keys()):
        value = images[name]
        drawn = to_device(torch.from_numpy(drawn_mask(tuple(value.shape), share, rng)), value.device)
        images[name] = torch.where(drawn, black[name].to(value), value)
    return replace(prompt, images=images, features=None)


def drawn_mask(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> np.ndarray:
    """Bool, True where a patch is black: (..., 1) of patches, (..., 1, H, W) of pictures.

    >>> drawn_mask((2, 3, 28, 20), 0.5, np.random.default_rng(0)).shape
    (2, 1, 28, 20)
    """
    if len(shape) < 4:
        return rng.random(shape[:-1])[..., None] < share
    *pictures, _, height, width = shape
    squares = rng.random((*pictures, -(-height // PATCH), -(-width // PATCH))) < share
    pixels = squares.repeat(PATCH, axis=-2).repeat(PATCH, axis=-1)[..., :height, :width]
    return pixels[..., None, :, :]
