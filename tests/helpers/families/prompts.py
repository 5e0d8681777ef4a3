"""Prompts for tests: conversations with synthetic pictures and videos of differing sizes, through a family's own
processor."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from helpers.families.parts import TEXT, VOCABULARY
from helpers.families.tiny import processor_of
from open_r1.data.video.inputs import media_shown, video_options, with_pixels
from open_r1.data.video.types import VideoFrames
from open_r1.rollout.media_apart import are_several
from open_r1.rollout.processor_fields import PromptFields, prompt_fields
from open_r1.rollout.prompts import Prompt, process_chat, prompt_from_fields
from open_r1.trainer.forward.log_probs import Scores, score

Batch = dict[str, torch.Tensor]
SIZES = [(56, 56), (112, 56), (56, 84), (80, 100), (48, 112), (130, 70)]  # (width, height) of pictures
WORDS = [chr(code) for code in range(ord("!"), ord("~") + 1) if chr(code) not in "<>"]  # a token each
# prompts as (images, text tokens, completions); G = 1, text only, several images, and one-token completions
GROUPS = [(1, 9, 3), (0, 7, 2), (2, 12, 1), (1, 20, 2)]
CLIP_SIZES = [(56, 56), (84, 56), (48, 100)]  # (width, height) of frames
# prompts as (pictures, frames of each video, text tokens, completions): beside a picture, none, of two lengths, alone
CLIP_GROUPS = [(1, (4,), 12, 3), (0, (), 7, 2), (0, (3, 6), 14, 1), (0, (2,), 20, 2)]


def drawn(options: Sequence[Any], count: int, random: torch.Generator) -> list[Any]:
    """`count` of the options in random order; none comes again before all have come."""
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(options), generator=random).tolist()
    return [options[i] for i in order[:count]]


def picture(size: tuple[int, int], random: torch.Generator) -> Image.Image:
    """A picture of random colours in cells of 8 x 8 pixels."""
    width, height = size
    cells = torch.randint(256, (height // 8 + 1, width // 8 + 1, 3), generator=random, dtype=torch.uint8)
    pixels = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width]
    return Image.fromarray(pixels.numpy())


def pictures(count: int, random: torch.Generator) -> list[Image.Image]:
    """Pictures of different sizes."""
    return [picture(size, random) for size in drawn(SIZES, count, random)]


def clips(lengths: Sequence[int], random: torch.Generator) -> list[VideoFrames]:
    """Videos of so many frames, of different sizes and rates."""
    made = []
    for number, (length, size) in enumerate(zip(lengths, drawn(CLIP_SIZES, len(lengths), random), strict=True)):
        made.append(film(length, size, (0.5, 0.3, 1.0)[(length + number) % 3], random))
    return made


def film(frames: int, size: tuple[int, int], apart: float, random: torch.Generator) -> VideoFrames:
    """A video of so many frames of this (width, height), `apart` seconds each."""
    pixels = np.stack([np.array(picture(size, random)) for _ in range(frames)])
    return VideoFrames(pixels, tuple(apart * i for i in range(frames)), apart * frames)


def chat(images: int, text: int, seed: int, videos: Sequence[int] = ()) -> list[dict[str, Any]]:
    """A conversation of one turn: `images` pictures, then `videos` of so many frames, and `text` characters before,
    between and after them."""
    if text <= images + len(videos):
        raise ValueError(f"{images} images and {len(videos)} videos need more text tokens around them than {text}")
    random = torch.Generator().manual_seed(seed)
    shown = [*pictures(images, random), *clips(videos, random)]
    words = "".join(WORDS[i] for i in torch.randint(len(WORDS), (text,), generator=random).tolist())
    return [{"role": "user", "content": list(interleaved(words, shown, random))}]


def interleaved(
    words: str, shown: Sequence[Image.Image | VideoFrames], random: torch.Generator
) -> Iterator[dict[str, Any]]:
    """The pictures and videos in order, with at least one character before, between and after them."""
    cuts = sorted((torch.randperm(len(words) - 1, generator=random)[: len(shown)] + 1).tolist())
    for each, start, end in zip(shown, [0, *cuts], cuts, strict=False):
        yield {"type": "text", "text": words[start:end]}
        medium = "video" if isinstance(each, VideoFrames) else "image"
        yield {"type": medium, medium: each}
    yield {"type": "text", "text": words[cuts[-1] if cuts else 0 :]}


def prompt(model: PreTrainedModel, images: int, text: int, seed: int, videos: Sequence[int] = ()) -> Batch:
    """The fields of one conversation with `images` pictures and `videos`, and `text` characters around them."""
    return fields_of(model, chat(images, text, seed, videos))


def fields_of(model: PreTrainedModel, conversation: list[dict[str, Any]]) -> Batch:
    """What the family's processor makes of a conversation: input_ids [1, P] and its fields.

    All are tensors, numbers in the model's dtype.

    There is no attention_mask. `model` is one of `tiny`.
    """
    processor = processor_of(model.config.name_or_path)
    if are_several(media_shown(conversation)) and (rules := rules_of(model)).apart:
        made = process_chat(processor, conversation, replace(rules, rope=None), {})
        return {"input_ids": made.ids[None], **{name: v[None] for name, v in made.types.items()}, **made.images}
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    options["processor_kwargs"] = video_options([conversation])
    fields = dict(processor.apply_chat_template([with_pixels(conversation)], **options))
    fields = {name: value for name, value in fields.items() if torch.is_tensor(value) and name != "attention_mask"}
    return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in fields.items()}


def rules_of(model: PreTrainedModel) -> PromptFields:
    """How the model takes what its processor makes. `model` is one of `tiny`."""
    return prompt_fields(processor_of(model.config.name_or_path), model)


def group_prompts(model: PreTrainedModel, groups: Sequence[tuple[Any, ...]] = GROUPS) -> list[Prompt]:
    """A `Prompt` for each row of the groups, as in GROUPS or in CLIP_GROUPS; the same object within a group."""
    fields = rules_of(model)
    return [
        row
        for seed, (images, *videos, text, rows) in enumerate(groups)
        for row in [prompt_from_fields(prompt(model, images, text, seed, *videos), fields)] * rows
    ]


def completions(rows: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    """Ordinary tokens (rows, width)."""
    return torch.randint(TEXT, VOCABULARY, (rows, width), generator=torch.Generator().manual_seed(seed))


def scored(
    model: PreTrainedModel,
    prompts: Sequence[Prompt | None],
    completion_ids: torch.Tensor,
    lengths: Sequence[int],
    shared: bool,
) -> Scores:
    """Log-probs and entropies of completions, by packed groups or by padded rows."""
    return score(model, model.base_model, prompts, completion_ids, lengths, shared=shared, entropy=True)
