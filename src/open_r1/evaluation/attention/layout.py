"""The place of each image token in its picture, by model family.

Tokens of a picture lie in one or more grids: Qwen-VL has one of merged patches, InternVL, SmolVLM, Idefics 3 and
LLaVA-OneVision have the whole picture and tiles of it. Aria's tokens are learned queries over all patches, placed by
its projector's attention.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, log
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.evaluation.attention.grids import Fields, PictureSize, grids_of, one_cell_each, square_around
from open_r1.evaluation.attention.tiles import WHOLE, Tile, TileBox
from open_r1.models.model_parts import image_token_of


@dataclass(frozen=True)
class ImagePrompt:
    """A prompt with pictures: token `ids` (P,), indices `at` of all image tokens, the pictures' sizes `shapes`."""

    model: PreTrainedModel
    ids: np.ndarray
    at: np.ndarray
    fields: Fields
    shapes: Sequence[PictureSize]

    @property
    def config(self) -> Any:
        return self.model.config

    def split(self, counts: Sequence[int]) -> list[np.ndarray]:
        """`at` in parts of these lengths. Raises UsageError where their sum is another number."""
        if sum(counts) != len(self.at):
            expected = " + ".join(map(str, counts))
            raise UsageError(
                f"image tokens of {self.config.model_type}: got {len(self.at)} in the prompt, expected {expected}; "
                "set the processor not to cut or crop pictures"
            )
        return np.split(self.at, np.cumsum(counts)[:-1])

    def runs(self) -> list[np.ndarray]:
        """`at`, the positions of image tokens, split into runs of consecutive ones."""
        return np.split(self.at, np.flatnonzero(np.diff(self.at) > 1) + 1)

    def with_shapes(self, parts: list[Any]) -> Iterator[tuple[Any, PictureSize]]:
        """(part, shape) of each picture. Raises UsageError where their numbers differ."""
        if len(parts) != len(self.shapes):
            raise UsageError(
                f"image tokens of {self.config.model_type}: got {len(parts)} pictures in the prompt, expected "
                f"{len(self.shapes)}; set the processor to cut pictures as its checkpoint does"
            )
        return zip(parts, self.shapes, strict=True)


def locate(
    model: PreTrainedModel, fields: Fields, shapes: Sequence[PictureSize], processor: ProcessorMixin | None = None
) -> list[list[Tile]]:
    """The tiles of each picture of a prompt; `fields`: the processor's, a batch of one; `shapes`: the pictures' sizes.

    A family without an entry in `LAYOUTS` has those that its fields show, else one cell a picture, with a warning.
    Raises UsageError where tokens and pictures do not match.
    """
    if not shapes:
        return []
    ids, family = fields["input_ids"][0].cpu().numpy(), model.config.model_type
    at = np.flatnonzero(ids == image_token_of(model.config))
    if family in LAYOUTS:
        return LAYOUTS[family](ImagePrompt(model, ids, at, fields, shapes))
    return grids_of(fields, at, shapes, processor) or one_cell_each(family, at, shapes)


def arrangement(tiles: int, shape: PictureSize) -> tuple[int, int]:
    """(rows, columns) of `tiles` equal parts whose aspect ratio is nearest to the picture's.

    Transformers' processors for InternVL and Idefics 3 arrange tiles so.

    >>> arrangement(6, (900, 600)), arrangement(4, (100, 400))
    ((2, 3), (4, 1))
    """
    possible = [(rows, tiles // rows) for rows in range(1, tiles + 1) if tiles % rows == 0]
    return min(possible, key=lambda grid: abs(log(grid[1] / grid[0] * shape[1] / shape[0])))


def _tiles(parts: Sequence[np.ndarray], shape: PictureSize) -> list[Tile]:
    """Tiles of a picture: square grids of its parts, row by row, and last one of the whole picture."""
    *pieces, whole = parts
    rows, columns = arrangement(len(pieces), shape) if pieces else (1, 1)
    boxes = [
        (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    return [_square(part, box) for part, box in zip(pieces, boxes[: len(pieces)], strict=True)] + [_square(whole)]


def _square(at: np.ndarray, box: TileBox = WHOLE) -> Tile:
    """A tile with as many rows as columns."""
    return Tile(at, isqrt(len(at)), isqrt(len(at)), box)


def _grids(prompt: ImagePrompt) -> list[list[Tile]]:
    """Qwen-VL: merged patches of a picture of any size."""
    grids = (prompt.fields["image_grid_thw"][:, 1:] // prompt.config.vision_config.spatial_merge_size).tolist()
    parts = prompt.split([rows * columns for rows, columns in grids])
    return [[Tile(part, *grid)] for part, grid in zip(parts, grids, strict=True)]


def _runs_of_tiles(prompt: ImagePrompt) -> list[list[Tile]]:
    """InternVL: a picture's tiles and the whole picture in one run of tokens."""
    tile_tokens = prompt.config.image_seq_length
    return [_tiles(np.split(run, len(run) // tile_tokens), shape) for run, shape in prompt.with_shapes(prompt.runs())]


def _tagged_tiles(prompt: ImagePrompt) -> list[list[Tile]]:
    """Idefics 3 and SmolVLM: a run of tokens for each tile, after a token of its row and column; the last run of a
    picture is of the whole picture, after another token."""
    frames = prompt.runs()
    names = [prompt.ids[frame[0] - 1] for frame in frames]
    ends = [number + 1 for number, name in enumerate(names) if name == names[-1]]
    parts = [frames[start:end] for start, end in pairwise([0, *ends])]
    return [_tiles(part, shape) for part, shape in prompt.with_shapes(parts)]


def _anyres(prompt: ImagePrompt) -> list[list[Tile]]:
    """LLaVA-OneVision: several pictures are padded to squares, each with one extra token at its end; a single picture
    comes whole, then in finer rows with one extra token at the end of each."""
    vision = prompt.config.vision_config
    side = vision.image_size // vision.patch_size
    if len(prompt.shapes) > 1:
        parts = prompt.split([side * side + 1] * len(prompt.shapes))
        return [[_square(part[:-1], square_around(shape, max(shape)))] for part, shape in prompt.with_shapes(parts)]
    features = torch.zeros(prompt.fields["pixel_values"].shape[1], side * side, 1)
    packed, _ = prompt.model.base_model.pack_image_features(
        [features],
        prompt.fields["image_sizes"].cpu(),
        image_newline=torch.ones(1),
        vision_aspect_ratio=prompt.config.vision_aspect_ratio,
    )
    whole, fine = prompt.split([side * side, len(packed[0]) - side * side])
    fine = fine.reshape(int(packed[0].sum()), -1)[:, :-1]
    return [[_square(whole), Tile(fine.flatten(), *fine.shape)]]


def _crops(prompt: ImagePrompt) -> list[list[Tile]]:
    """Gemma 3: a square grid for each picture."""
    return [[_square(part)] for part in prompt.split([prompt.config.mm_tokens_per_image] * len(prompt.shapes))]


def _queries(prompt: ImagePrompt) -> list[list[Tile]]:
    """Aria: the projector's attention from each token to each patch, over the patches that are not padding."""
    attention = _projector_attention(prompt.model, prompt.fields)  # (pictures, N, patches)
    parts = [part for part, _ in prompt.with_shapes(prompt.split([attention.shape[1]] * len(attention)))]
    masks, patch = prompt.fields["pixel_mask"].cpu().numpy(), prompt.config.vision_config.patch_size
    tiles = []
    for part, weights, mask in zip(parts, attention, masks, strict=True):
        height, width = int(mask[:, 0].sum()), int(mask[0].sum())
        rows, columns = -(-height // patch), -(-width // patch)
        cells = weights.reshape(len(part), mask.shape[0] // patch, -1)[:, :rows, :columns]
        box = (0.0, 0.0, columns * patch / width, rows * patch / height)
        tiles.append([Tile(part, rows, columns, box, cells.reshape(len(part), -1))])
    return tiles


def _projector_attention(model: PreTrainedModel, fields: Fields) -> np.ndarray:
    """(pictures, N, patches): Aria's projector attention from tokens to patches, the mean of its heads."""
    weights: list[torch.Tensor] = []
    projector = model.base_model.multi_modal_projector.cross_attn.multihead_attn
    handle = projector.register_forward_hook(lambda module, args, output: weights.append(output[1]))
    try:
        with torch.no_grad():
            model.base_model.get_image_features(fields["pixel_values"].to(model.dtype), fields["pixel_mask"])
    finally:
        handle.remove()
    return weights[0].float().cpu().numpy()


LAYOUTS: dict[str, Callable[[ImagePrompt], list[list[Tile]]]] = {
    "qwen2_vl": _grids,
    "qwen2_5_vl": _grids,
    "qwen3_vl": _grids,
    "qwen3_vl_moe": _grids,
    "internvl": _runs_of_tiles,
    "smolvlm": _tagged_tiles,
    "idefics3": _tagged_tiles,
    "llava_onevision": _anyres,
    "gemma3": _crops,
    "aria": _queries,
}
