"""Prompts as the model takes them, made by its processor of a row's conversation, pictures and videos.

All G completions refer to one `Prompt`: the host holds its fields once, the device repeats them only where the model
runs on padded rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import ProcessorMixin

from open_r1.data.record import Record
from open_r1.data.video.inputs import media_shown
from open_r1.data.video.own_texts import made_of, with_other_videos
from open_r1.data.video.types import VideoFrames
from open_r1.rollout.device_copies import fields_to_device, to_device
from open_r1.rollout.media_apart import are_several, values_apart
from open_r1.rollout.media_joins import Join, in_one_row
from open_r1.rollout.processing import Values, process
from open_r1.rollout.processor_fields import ROPE_NAMES, PromptFields
from open_r1.tools.between import pictures_of_parts
from open_r1.tools.sandboxed import AnswerPart


class RowMedia(NamedTuple):
    """The pictures of a row, and the sampled frames of its videos."""

    pictures: list[Image.Image]
    videos: list[VideoFrames]


@dataclass(frozen=True)
class Prompt:
    """One prompt of P tokens, images expanded.

    `ids` (P,); `positions`: rotary positions, (P,) or (channels, P); `types`: per-token fields (P,); `images`: the
    processor's fields of its images, and `joins`: how those of several prompts are joined; `features`: a frozen vision
    tower's output for them, else None.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    types: dict[str, torch.Tensor]
    images: dict[str, torch.Tensor]
    joins: Mapping[str, Join] = field(default_factory=dict)
    features: Any = None

    def to(self, device: torch.device) -> "Prompt":
        """A copy on a device."""
        types, images = fields_to_device(self.types, device), fields_to_device(self.images, device)
        ids, positions = to_device(self.ids, device), to_device(self.positions, device)
        return replace(self, ids=ids, positions=positions, types=types, images=images)


@dataclass(frozen=True)
class Example:
    """A row with its pictures and prompt; `conversation` is text, with `<image>` for each picture.

    `opening`: what an environment put at the end of the prompt, whose pictures stand behind the row's own; `videos`:
    the sampled frames of each of the row's videos.
    """

    record: Record
    conversation: list[dict[str, str]]
    pictures: list[Image.Image]
    prompt: Prompt
    opening: Sequence[AnswerPart] = ()
    videos: Sequence[VideoFrames] = ()

    @property
    def has_media(self) -> bool:
        """Whether it shows a picture or a video."""
        return bool(self.pictures or self.videos)

    @property
    def media(self) -> RowMedia:
        """The pictures and the videos that are shown."""
        return RowMedia(self.pictures, list(self.videos))

    @property
    def own_pictures(self) -> list[Image.Image]:
        """The row's own pictures."""
        return self.pictures[: len(self.pictures) - len(pictures_of_parts(self.opening))]

    def columns(self) -> dict[str, Any]:
        """The columns that TRL passes to rewards."""
        return {"prompt": self.conversation, "record": self.record, "pictures": self.pictures}


def process_chat(
    processor: ProcessorMixin, conversation: list[dict[str, Any]], fields: PromptFields, template: dict[str, Any]
) -> Prompt:
    """Chat messages with pictures and videos -> Prompt, on the CPU."""
    shown = media_shown(conversation)
    if not (fields.apart and are_several(shown)):
        return prompt_from_fields(process(processor, [conversation], template), fields)
    make = lambda other, videos: made_of(other, with_other_videos(conversation, videos), **template)  # noqa: E731
    return prompt_from_fields(values_apart(processor, shown, fields.joins, make), fields)


def prompt_from_fields(values: Values, fields: PromptFields) -> Prompt:
    """A processor's output for a batch of one -> Prompt."""
    types, images = fields.of_tokens(values), in_one_row(fields.of_pictures(values), fields.joins)
    positions = rotary_positions(values["input_ids"], types | images, fields.rope)
    return Prompt(values["input_ids"][0], positions, {n: v[0] for n, v in types.items()}, images, fields.joins)


def rotary_positions(ids: torch.Tensor, values: Values, rope: Callable[..., Any] | None) -> torch.Tensor:
    """Rotary positions of a prompt (1, P) by the model's `get_rope_index`, given what it asks for by name: (P,), or
    (channels, P) for M-RoPE."""
    if rope is None:
        return torch.arange(ids.shape[1])
    known = {**values, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    named = {name: known.get(ROPE_NAMES.get(name, name)) for name in signature(rope).parameters}
    positions, _ = rope(**{name: value for name, value in named.items() if value is not None})
    return positions[:, 0]
