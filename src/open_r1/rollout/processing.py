"""What a processor makes of conversations, and the grey ones with which it is tried."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from open_r1.data.video.inputs import grey_video, video_options, with_pixels

logger = logging.getLogger(__name__)

Values = Mapping[str, torch.Tensor]
Chat = list[dict[str, Any]]
SIDES = (96, 64)  # pixels of the pictures and frames that are tried


def is_of_pixels(value: torch.Tensor) -> bool:
    """Whether a field holds pixels; what is one number a video is a time."""
    return value.is_floating_point() and value.ndim > 1


def user_turn(text: str, pictures: int = 0, videos: Sequence[int] = ()) -> Chat:
    """A conversation of one question about some grey pictures, and videos of so many frames."""
    picture = {"type": "image", "image": Image.new("RGB", SIDES, (99, 99, 99))}
    shown = [{"type": "video", "video": grey_video(frames, *SIDES, frames / 2)} for frames in videos]
    return [{"role": "user", "content": [*[picture] * pictures, *shown, {"type": "text", "text": text}]}]


def process(processor: ProcessorMixin, chats: Sequence[Chat], template: Mapping[str, Any] | None = None) -> Values:
    """The processor's tensors for conversations with pictures and videos."""
    made = processor.apply_chat_template(
        list(map(with_pixels, chats)),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=video_options(chats),
        **(template or {}),
    )
    return only_tensors(made)


def only_tensors(made: Mapping[str, Any]) -> Values:
    """The tensors of what a processor made."""
    return {name: value for name, value in made.items() if torch.is_tensor(value)}


def tried(processor: ProcessorMixin, chats: Sequence[Chat], template: Mapping[str, Any] | None) -> Values | None:
    """As `process`; None where the processor takes one picture or video alone, or one conversation alone."""
    try:
        return process(processor, chats, template)
    except Exception as error:  # each processor refuses in its own way; rows of that kind meet it, with their name
        logger.info("%s takes one picture or video alone: %s", type(processor).__name__, error)
        return None
