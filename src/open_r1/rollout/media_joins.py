"""How a processor's fields of pictures and videos are joined, read off what it made of one and of two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from open_r1.errors import UsageError
from open_r1.rollout.processing import Values

OF_FRAMES = "video_position_ids"  # its model reads frames apart (Gemma 4), so that they need not be equally many


@dataclass(frozen=True)
class Join:
    """The dimension on which a field of two pictures, or of two videos, is joined.

    `row`: within one conversation; `batch`: of several conversations. Where both are the same, the field lists images,
    tiles or patches; where they differ (Idefics3), it holds a row of images for each conversation. `of_videos`: no
    picture alone has the field.
    """

    row: int = 0
    batch: int = 0
    of_videos: bool = False

    @property
    def by_rows(self) -> bool:
        """Whether the field has a row for each conversation, also for one without pictures."""
        return self.row != self.batch


def joins_of(trials: tuple[Values, Values | None, Values | None], names: set[str]) -> dict[str, Join]:
    """The joins of these fields by what the processor made of one, of two, and of two conversations of one."""
    return {name: join_of(name, *(None if made is None else made.get(name) for made in trials)) for name in names}


def join_of(name: str, one: torch.Tensor, two: torch.Tensor | None, batch: torch.Tensor | None) -> Join:
    """The dimensions that double with a second picture and with a second conversation.

    A field that says something of a whole conversation (`batch_num_images`) doubles with the second alone.
    """
    row, rows = (None if other is None else doubled_dimension(one, other) for other in (two, batch))
    if row is None and rows is None:
        raise UsageError(
            f"--model_name_or_path: the processor's {name} of shape {tuple(one.shape)} doubles neither with a second "
            "picture or video nor with a second conversation, expected one of both; restore the processor's files as "
            "they came"
        )
    return Join(rows if row is None else row, row if rows is None else rows)


def doubled_dimension(one: torch.Tensor, two: torch.Tensor) -> int | None:
    """The first dimension that is twice as long, or None.

    >>> doubled_dimension(torch.ones(1, 3, 14, 8), torch.ones(1, 3, 14, 16))
    3
    """
    if one.ndim != two.ndim:
        return None
    return next((d for d, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if b == 2 * a > 0), None)


def frames_apart(fields: dict[str, torch.Tensor], joins: Mapping[str, Join]) -> dict[str, torch.Tensor]:
    """The fields of pictures and videos, with each frame as a video of one where the model reads frames apart."""
    if OF_FRAMES not in fields:
        return fields
    return fields | {name: v.flatten(0, 1)[:, None] for name, v in fields.items() if joins[name].of_videos}


def in_one_row(images: dict[str, torch.Tensor], joins: Mapping[str, Join]) -> dict[str, torch.Tensor]:
    """The fields of a conversation's pictures and videos, of which SmolVLM's processor makes a row for each video."""
    several = {name for name, value in images.items() if joins[name].by_rows and value.shape[joins[name].batch] > 1}
    return {name: value.flatten(0, 1)[None] if name in several else value for name, value in images.items()}


def pad_cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Concatenate along a dimension; the others are padded with zeros at their ends.

    >>> pad_cat([torch.ones(1, 2), torch.ones(1, 3)])
    tensor([[1., 1., 0.],
            [1., 1., 1.]])
    """
    shapes = torch.tensor([tensor.shape for tensor in tensors])
    shape = shapes.amax(dim=0)
    shape[dim] = shapes[:, dim].sum()
    result, start = tensors[0].new_zeros(shape.tolist()), 0
    if all(tensor.shape[:dim] + tensor.shape[dim + 1 :] == (*shape[:dim], *shape[dim + 1 :]) for tensor in tensors):
        return torch.cat(list(tensors), dim)
    for tensor in tensors:
        place = result.narrow(dim, start, tensor.shape[dim])
        place[tuple(map(slice, tensor.shape))] = tensor
        start += tensor.shape[dim]
    return result
