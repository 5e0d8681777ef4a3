"""What each field of a processor's output counts, found by trying the processor; no name of a family or a field.

The processor is given conversations that differ in one thing: a longer text, a second picture or video of the same
size, a second conversation. A field that grows with the text is one of tokens; the dimension of a field that doubles
with the pictures is the one on which fields of pictures are joined. Values that the model's `forward` does not name
are left out, and so are those that training makes itself, such as `labels`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.data.video.inputs import as_frames
from open_r1.data.video.own_texts import why_one_length
from open_r1.data.video.single_frames import takes_one_frame, with_doubled_frames
from open_r1.rollout.media_apart import reads_apart
from open_r1.rollout.media_joins import Join, frames_apart, joins_of
from open_r1.rollout.processing import Chat, Values, is_of_pixels, process, tried, user_turn
from open_r1.rollout.video_trials import video_trials, why_unmixed

logger = logging.getLogger(__name__)

# arguments of a forward pass over tokens that training makes, whatever a processor says of them
OURS = {"input_ids", "attention_mask", "position_ids", "labels", "shift_labels", "inputs_embeds", "past_key_values"}
ROPE_NAMES = {"second_per_grids": "video_second_per_grid"}  # what Omni's count of positions calls a processor's field


@dataclass(frozen=True)
class PromptFields:
    """How a model takes what its processor makes.

    `tokens`: names of fields with a value for each token; `joins`: those of pictures and videos; `image_ids`, and
    `video_ids`: tokens that stand for a picture, or a video, once the processor has expanded it; `placeholder` and
    `video_placeholder`: what a chat template writes for one; `rope`: the model's `get_rope_index`, or None; `dtype`:
    of the model's weights, for pixels. `video_form`: "native", "frames" for videos shown as pictures, None without;
    `why_unmixed`: why no conversation may hold both pictures and native videos, or None; `why_one_length`: why its
    native videos need equally many frames, or None; `apart`: a conversation with a video and something further is
    processed one by one, without which it would have one of these reasons; `doubles`: the frame of a video of one is
    shown twice.
    """

    tokens: frozenset[str] = frozenset()
    joins: Mapping[str, Join] = field(default_factory=dict)
    image_ids: frozenset[int] = frozenset()
    placeholder: str = ""
    rope: Callable[..., Any] | None = None
    dtype: torch.dtype | None = None
    video_form: str | None = "native"
    video_ids: frozenset[int] = frozenset()
    video_placeholder: str = ""
    why_unmixed: str | None = None
    why_one_length: str | None = None
    apart: bool = False
    doubles: bool = False

    def of_tokens(self, values: Values) -> dict[str, torch.Tensor]:
        """The fields with a value for each token that the model takes."""
        return {name: values[name] for name in self.tokens if name in values}

    def of_pictures(self, values: Values) -> dict[str, torch.Tensor]:
        """The fields of pictures and videos that the model takes, pixels in its dtype; times stay as they are."""
        fields = {name: values[name] for name in self.joins if name in values}
        fields = frames_apart(fields, self.joins)
        return {n: v.to(self.dtype) if self.dtype and is_of_pixels(v) else v for n, v in fields.items()}

    def shown(self, chat: Chat) -> Chat:
        """A conversation with its videos in the form of this run."""
        if self.video_form == "frames":
            return as_frames(chat)
        return with_doubled_frames(chat) if self.doubles else chat


def prompt_fields(
    processor: ProcessorMixin,
    model: PreTrainedModel | None = None,
    template: Mapping[str, Any] | None = None,
    video_form: str | None = "native",
) -> PromptFields:
    """The fields of a processor for `model`, the bare VLM with its head; None: for an engine that processes itself.

    `template` holds options of the chat template; `video_form`: that of the run's videos, None without any, where a
    processor's videos are not tried. Raises UsageError for a field that counts nothing known.
    """
    one, longer = (process(processor, [user_turn(text, 1)], template) for text in ("What?", "What is to be seen?"))
    two = tried(processor, [user_turn("What?", 2)], template)
    batch = tried(processor, [user_turn("What?", 1)] * 2, template)
    tokens = {name for name, value in one.items() if counts_tokens(value, one) and counts_tokens(longer[name], longer)}
    videos = video_trials(processor, template) if video_form == "native" else None
    made = one.keys() | (videos[0].keys() if videos else set())
    taken = arguments_of(model) - OURS if model is not None else made - OURS
    if left_out := made - taken - OURS:
        logger.info("fields that the model does not take are left out: %s", ", ".join(sorted(left_out)))
    joins = joins_of((one, two, batch), one.keys() & taken - tokens)
    config = None if model is None else model.config
    fields = PromptFields(
        frozenset(tokens & taken),
        joins,
        media_tokens(processor, config, "image", one, two or one),
        rope=None if model is None else getattr(model.base_model, "get_rope_index", None),
        dtype=None if model is None else model.dtype,
        video_form=video_form,
    )
    if videos:
        of_videos = joins_of(videos, videos[0].keys() & taken - tokens)
        fields = replace(
            fields,
            joins={name: replace(join, of_videos=True) for name, join in of_videos.items()} | joins,
            video_ids=tokens_of_videos(processor, config, template, videos[0], fields.image_ids),
            why_unmixed=why_unmixed(processor, template, one, videos[0], joins),
            why_one_length=why_one_length(processor, **(template or {})),
            doubles=not takes_one_frame(processor),
        )
        if (fields.why_unmixed or fields.why_one_length) and reads_apart(processor, fields.joins, template):
            fields = replace(fields, why_unmixed=None, why_one_length=None, apart=True)
    return replace(
        fields,
        placeholder=placeholder_of(processor, "image", fields.image_ids),
        video_placeholder=placeholder_of(processor, "video", fields.video_ids),
    )


def placeholder_of(processor: ProcessorMixin, medium: str, ids: frozenset[int]) -> str:
    """What a chat template writes for an image or a video."""
    return str(getattr(processor, f"{medium}_token", None) or processor.tokenizer.decode(list(ids)[:1]))


def counts_tokens(value: torch.Tensor, fields: Values) -> bool:
    """Whether a field has a value for each token of a batch."""
    return value.shape[:2] == fields["input_ids"].shape


def arguments_of(model: PreTrainedModel) -> set[str]:
    """The names of the arguments of a model's forward pass, and of its backbone's."""
    return {name for module in (model, model.base_model) for name in signature(type(module).forward).parameters}


def media_tokens(processor: ProcessorMixin, config: Any, medium: str, fewer: Values, more: Values) -> frozenset[int]:
    """The tokens that stand for images, or videos, in a prompt with `more` of them than another: those that the
    configuration names, else those of the processor, else the token that comes more often by most."""
    of_model = {getattr(config, name, None) for name in (f"{medium}_token_id", f"{medium}_token_index")}
    of_processor = {getattr(processor, f"{medium}_token_id", None)}
    if token := getattr(processor, f"{medium}_token", None):
        of_processor.add(processor.tokenizer.convert_tokens_to_ids(str(token)))
    few, many = (Counter(values["input_ids"].flatten().tolist()) for values in (fewer, more))
    added = {token for token, _ in (many - few).most_common(1)}
    return frozenset(next((found for named in (of_model, of_processor, added) if (found := named & many.keys())), ()))


def tokens_of_videos(
    processor: ProcessorMixin, config: Any, template: Mapping[str, Any] | None, video: Values, images: frozenset[int]
) -> frozenset[int]:
    """The tokens that stand for a `video` in its prompt: those of `images` where its frames are written with these."""
    of_video = media_tokens(processor, config, "video", process(processor, [user_turn("What?")], template), video)
    named = {getattr(config, name, None) for name in ("video_token_id", "video_token_index")}
    named.add(getattr(processor, "video_token_id", None))
    return of_video if named & of_video or not images & set(video["input_ids"].flatten().tolist()) else images
