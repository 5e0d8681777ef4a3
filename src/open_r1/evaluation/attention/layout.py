"""Where in a picture each image token lies, by family.

Tokens of a picture lie in one or more grids: Qwen-VL has one of merged patches, InternVL, SmolVLM, Idefics 3 and
LLaVA-OneVision have the whole picture and tiles of it. Aria's tokens are learned queries over all patches; they lie
where its projector looked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, log
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from open_r1.errors import UsageError
from open_r1.evaluation.attention.tiles import WHOLE, Tile, TileBox

PictureSize = tuple[int, int]  # (width, height) of a picture in pixels
Fields = dict[str, torch.Tensor]  # what a processor gives for one conversation


@dataclass(frozen=True)
class Shown:
    """Pictures in a prompt: its token `ids` (P,), the places `at` of all image tokens, the pictures' shapes."""

    model: PreTrainedModel
    ids: np.ndarray
    at: np.ndarray
    fields: Fields
    shapes: Sequence[PictureSize]

    @property
    def config(self) -> Any:
        return self.model.config

    def divided(self, counts: Sequence[int]) -> list[np.ndarray]:
        """`at` in parts of so many. Raises UsageError where that is not all of them."""
        if sum(counts) != len(self.at):
            expected = " + ".join(map(str, counts))
            raise UsageError(
                f"image tokens of {self.config.model_type}: got {len(self.at)} in the prompt, expected {expected}; "
                "set the processor not to cut or crop pictures"
            )
        return np.split(self.at, np.cumsum(counts)[:-1])

    def runs(self) -> list[np.ndarray]:
        """`at` in parts that stand one behind the other."""
        return np.split(self.at, np.flatnonzero(np.diff(self.at) > 1) + 1)

    def of_each(self, parts: list[Any]) -> Iterator[tuple[Any, PictureSize]]:
        """One of the parts with each picture's shape. Raises UsageError where they are not as many."""
        if len(parts) != len(self.shapes):
            raise UsageError(
                f"image tokens of {self.config.model_type}: got {len(parts)} pictures in the prompt, expected "
                f"{len(self.shapes)}; set the processor to cut pictures as its checkpoint does"
            )
        return zip(parts, self.shapes, strict=True)


def locate(model: PreTrainedModel, fields: Fields, shapes: Sequence[PictureSize]) -> list[list[Tile]]:
    """The tiles of each picture of a prompt: `fields` are the processor's, a batch of one, `shapes` the pictures'.

    Raises UsageError for a family whose layout is not known, and where tokens and pictures do not match.
    """
    layout = known_layout(model)
    ids = fields["input_ids"][0].cpu().numpy()
    at = np.flatnonzero(ids == model.config.image_token_id)
    return layout(Shown(model, ids, at, fields, shapes)) if shapes else []


def known_layout(model: PreTrainedModel) -> Callable[[Shown], list[list[Tile]]]:
    """The family's entry in `LAYOUTS`. Raises UsageError for others."""
    family = model.config.model_type
    if family not in LAYOUTS:
        raise UsageError(
            f"the layout of image tokens: got model_type {family!r}, expected one of {', '.join(LAYOUTS)}; "
            "describe it in open_r1.evaluation.attention.layout.LAYOUTS"
        )
    return LAYOUTS[family]


def arrangement(tiles: int, shape: PictureSize) -> tuple[int, int]:
    """(rows, columns) of `tiles` equal parts that come nearest to a picture's shape.

    It is the arrangement of transformers' processors for InternVL and Idefics 3, which choose the number of tiles so.

    >>> arrangement(6, (900, 600)), arrangement(4, (100, 400))
    ((2, 3), (4, 1))
    """
    possible = [(rows, tiles // rows) for rows in range(1, tiles + 1) if tiles % rows == 0]
    return min(possible, key=lambda grid: abs(log(grid[1] / grid[0] * shape[1] / shape[0])))


def _cut(parts: Sequence[np.ndarray], shape: PictureSize) -> list[Tile]:
    """Square grids of a picture's parts in rows, the whole picture last; where it is alone it was not cut."""
    *cut, whole = parts
    rows, columns = arrangement(len(cut), shape) if cut else (1, 1)
    boxes = [
        (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]
    return [_square(part, box) for part, box in zip(cut, boxes[: len(cut)], strict=True)] + [_square(whole)]


def _square(at: np.ndarray, box: TileBox = WHOLE) -> Tile:
    return Tile(at, isqrt(len(at)), isqrt(len(at)), box)


def _grids(shown: Shown) -> list[list[Tile]]:
    """Qwen-VL: merged patches of a picture of any size."""
    grids = (shown.fields["image_grid_thw"][:, 1:] // shown.config.vision_config.spatial_merge_size).tolist()
    parts = shown.divided([rows * columns for rows, columns in grids])
    return [[Tile(part, *grid)] for part, grid in zip(parts, grids, strict=True)]


def _tiled(shown: Shown) -> list[list[Tile]]:
    """InternVL: a picture's tiles and the whole picture in one run."""
    each = shown.config.image_seq_length
    return [_cut(np.split(run, len(run) // each), shape) for run, shape in shown.of_each(shown.runs())]


def _framed(shown: Shown) -> list[list[Tile]]:
    """Idefics 3 and SmolVLM: a run for each tile behind the token of its row and column, then one for the whole
    picture behind another token."""
    frames = shown.runs()
    names = [shown.ids[frame[0] - 1] for frame in frames]
    ends = [number + 1 for number, name in enumerate(names) if name == names[-1]]
    parts = [frames[start:end] for start, end in pairwise([0, *ends])]
    return [_cut(part, shape) for part, shape in shown.of_each(parts)]


def _anyres(shown: Shown) -> list[list[Tile]]:
    """LLaVA-OneVision: pictures among others stand padded to squares, each with one token at its end; one that is
    alone stands whole, then in rows of finer tokens with one at the end of each."""
    vision = shown.config.vision_config
    side = vision.image_size // vision.patch_size
    if len(shown.shapes) > 1:
        parts = shown.divided([side * side + 1] * len(shown.shapes))
        return [[_square(part[:-1], _padded(shape))] for part, shape in shown.of_each(parts)]
    features = torch.zeros(shown.fields["pixel_values"].shape[1], side * side, 1)
    packed, _ = shown.model.base_model.pack_image_features(
        [features],
        shown.fields["image_sizes"].cpu(),
        image_newline=torch.ones(1),
        vision_aspect_ratio=shown.config.vision_aspect_ratio,
    )
    whole, fine = shown.divided([side * side, len(packed[0]) - side * side])
    fine = fine.reshape(int(packed[0].sum()), -1)[:, :-1]
    return [[_square(whole), Tile(fine.flatten(), *fine.shape)]]


def _padded(shape: PictureSize) -> TileBox:
    """A square around a picture, the picture in its middle.

    >>> _padded((200, 100))
    (0.0, -0.5, 1.0, 1.5)
    """
    wide, high = (max(shape) / side / 2 for side in shape)
    return 0.5 - wide, 0.5 - high, 0.5 + wide, 0.5 + high


def _crops(shown: Shown) -> list[list[Tile]]:
    """Gemma 3: a square grid for each picture."""
    return [[_square(part)] for part in shown.divided([shown.config.mm_tokens_per_image] * len(shown.shapes))]


def _queries(shown: Shown) -> list[list[Tile]]:
    """Aria: the projector's attention from each token to each patch, over the patches that are not padding."""
    looked = _projector_attention(shown.model, shown.fields)  # (pictures, N, patches)
    parts = [part for part, _ in shown.of_each(shown.divided([looked.shape[1]] * len(looked)))]
    masks, patch = shown.fields["pixel_mask"].cpu().numpy(), shown.config.vision_config.patch_size
    tiles = []
    for part, weights, mask in zip(parts, looked, masks, strict=True):
        height, width = int(mask[:, 0].sum()), int(mask[0].sum())
        rows, columns = -(-height // patch), -(-width // patch)
        cells = weights.reshape(len(part), mask.shape[0] // patch, -1)[:, :rows, :columns]
        box = (0.0, 0.0, columns * patch / width, rows * patch / height)
        tiles.append([Tile(part, rows, columns, box, cells.reshape(len(part), -1))])
    return tiles


def _projector_attention(model: PreTrainedModel, fields: Fields) -> np.ndarray:
    """(pictures, N, patches), the mean of its heads, which torch computes anyway."""
    kept: list[torch.Tensor] = []
    projector = model.base_model.multi_modal_projector.cross_attn.multihead_attn
    handle = projector.register_forward_hook(lambda module, args, output: kept.append(output[1]))
    try:
        with torch.no_grad():
            model.base_model.get_image_features(fields["pixel_values"].to(model.dtype), fields["pixel_mask"])
    finally:
        handle.remove()
    return kept[0].float().cpu().numpy()


# by `config.model_type`
LAYOUTS: dict[str, Callable[[Shown], list[list[Tile]]]] = {
    "qwen2_vl": _grids,
    "qwen2_5_vl": _grids,
    "qwen3_vl": _grids,
    "qwen3_vl_moe": _grids,
    "internvl": _tiled,
    "smolvlm": _framed,
    "idefics3": _framed,
    "llava_onevision": _anyres,
    "gemma3": _crops,
    "aria": _queries,
}
