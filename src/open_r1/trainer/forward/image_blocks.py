"""Images that see themselves in both directions: which tokens are of one image, and what a query sees then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import ToolTurns

NO_IMAGE = -1


@dataclass(frozen=True)
class ImageSight:
    """Whether tokens of one image see each other in both directions: in layers with full attention, in those with a
    sliding window, and there also `beyond` the window."""

    full: bool = False
    sliding: bool = False
    beyond: bool = False

    def __bool__(self) -> bool:
        return bool(self.full or self.sliding)

    def acts(self, window: int | None) -> bool:
        """Whether it acts in layers of this `window`, None for full attention."""
        return self.sliding if window else self.full


CAUSAL = ImageSight()


def seen(causal: torch.Tensor, near: torch.Tensor | None, same: torch.Tensor | None, beyond: bool) -> torch.Tensor:
    """Masks of keys: before the query, in its window, and, where images see themselves, of the `same` image."""
    if near is None:
        return causal if same is None else causal | same
    if same is None:
        return causal & near
    return (causal & near) | same if beyond else (causal | same) & near


def blocks_of(prompts: Sequence[Prompt]) -> torch.Tensor:
    """(B, P) the running number of the image that each prefix token belongs to, NO_IMAGE for text and padding."""
    numbered = [numbered_images(image_types(prompt.types, prompt.ids)[:-1]) for prompt in prompts]
    return pad_sequence(numbered, batch_first=True, padding_value=NO_IMAGE)


def blocks_of_suffixes(
    turns: Sequence[ToolTurns | None], lengths: Sequence[int], device: torch.device
) -> torch.Tensor:
    """(R, S) as `blocks_of`, of the tokens of suffixes: the prompt's last token, then the completion but its last."""
    numbered = []
    for turn, length in zip(turns, lengths, strict=True):
        text = torch.zeros(length, dtype=torch.long, device=device)
        if turn is not None:
            text[1:] = image_types(turn.types, text)[: length - 1]
        numbered.append(numbered_images(text))
    return pad_sequence(numbered, batch_first=True, padding_value=NO_IMAGE)


def image_types(types: Mapping[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """(P,) 1 at tokens of pictures, 2 at those of videos, by the field of token types; 0 everywhere without one."""
    return next((field for name, field in types.items() if name.endswith("token_type_ids")), torch.zeros_like(ids))


def numbered_images(types: torch.Tensor) -> torch.Tensor:
    """The running number of the image, or frame, that each token belongs to, NO_IMAGE for text.

    >>> numbered_images(torch.tensor([0, 1, 1, 0, 2]))
    tensor([-1,  1,  1, -1,  2])
    """
    image = (types == 1) | (types == 2)
    starts = image & ~torch.nn.functional.pad(image, (1, 0))[:-1]
    return torch.where(image, starts.cumsum(0), NO_IMAGE)
