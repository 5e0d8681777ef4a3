"""What a processor makes of pictures and videos one by one, joined, where it does not take them together.

The text of each video is as of it alone, and so are its fields; each family's model puts the features of pictures and
videos behind one another, so that the joined fields give what each alone gives.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from open_r1.data.video.inputs import grey_video
from open_r1.data.video.own_texts import (
    TRIED_LENGTHS,
    TRIED_SIDES,
    Make,
    chat_about,
    made_of,
    made_with_own_texts,
    with_other_videos,
)
from open_r1.data.video.types import VideoFrames
from open_r1.rollout.media_joins import Join, frames_apart, in_one_row, pad_cat
from open_r1.rollout.processing import Values, only_tensors, process

logger = logging.getLogger(__name__)

ShownMedia = Sequence[Image.Image | VideoFrames]


def are_several(shown: ShownMedia) -> bool:
    """Whether these are a video and something further."""
    return len(shown) > 1 and any(isinstance(each, VideoFrames) for each in shown)


def values_apart(processor: ProcessorMixin, shown: ShownMedia, joins: Mapping[str, Join], make: Make) -> Values:
    """The processor's fields of one conversation that shows these pictures and videos, in order, each processed alone;
    `make` calls the processor for the conversation, with the videos it is given."""
    whole = only_tensors(made_with_own_texts(processor, videos_among(shown), make))
    alone = [fields_alone(processor, each, joins) for each in shown]
    named = [fields for fields, each in zip(alone, shown, strict=True) if isinstance(each, VideoFrames)]
    joined = {
        name: pad_cat([fields[name] for fields in alone if name in fields], joins[name].row) for name in named[0]
    }
    return {**whole, **joined}


def fields_alone(
    processor: ProcessorMixin, shown: Image.Image | VideoFrames, joins: Mapping[str, Join]
) -> dict[str, torch.Tensor]:
    """The fields of a picture or a video alone, in one row."""
    return media_fields(process(processor, [chat_about([shown])]), joins)


def media_fields(values: Values, joins: Mapping[str, Join]) -> dict[str, torch.Tensor]:
    """The fields of one conversation's pictures and videos, in one row."""
    return in_one_row(frames_apart({name: values[name] for name in joins if name in values}, joins), joins)


def videos_among(shown: ShownMedia) -> list[VideoFrames]:
    """The videos among these."""
    return [each for each in shown if isinstance(each, VideoFrames)]


def reads_apart(processor: ProcessorMixin, joins: Mapping[str, Join], template: Mapping[str, Any] | None) -> bool:
    """Whether videos processed one by one are what the processor makes of them together, tried on two of a length."""
    video = grey_video(TRIED_LENGTHS[0], *TRIED_SIDES, span=2.0)
    shown, options = [video, replace(video, pixels=2 * video.pixels)], template or {}
    chat = chat_about(shown)
    try:
        whole = made_of(processor, chat, **options)
        make = lambda other, videos: made_of(other, with_other_videos(chat, videos), **options)  # noqa: E731
        apart = values_apart(processor, shown, joins, make)
    except Exception as error:  # each processor refuses in its own way
        logger.info("%s takes no videos one by one: %s", type(processor).__name__, error)
        return False
    pairs = [(whole["input_ids"], apart["input_ids"])]
    pairs += [(value, apart[name]) for name, value in media_fields(whole, joins).items()]
    return all(torch.equal(one, other) for one, other in pairs)
