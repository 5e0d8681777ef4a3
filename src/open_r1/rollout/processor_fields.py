"""What each field of a processor's output counts, found by trying the processor; no name of a family or a field.

The processor is given conversations that differ in one thing: a longer text, a second picture of the same size, a
second conversation. A field that grows with the text is one of tokens; the dimension of a field that doubles with the
pictures is the one on which fields of pictures are joined. Values that the model's `forward` does not name are left
out, and so are those that training makes itself, such as `labels`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.rollout.video_inputs import video_options, with_pixels

logger = logging.getLogger(__name__)

Values = Mapping[str, torch.Tensor]
Chat = list[dict[str, Any]]
# arguments of a forward pass over tokens that training makes, whatever a processor says of them
OURS = {"input_ids", "attention_mask", "position_ids", "labels", "shift_labels", "inputs_embeds", "past_key_values"}
SIDES = (96, 64)  # pixels of the pictures that are tried


@dataclass(frozen=True)
class Join:
    """The dimension on which an image field of two pictures is joined.

    `row`: within one conversation; `batch`: of several conversations. Where both are the same, the field lists images,
    tiles or patches; where they differ (Idefics3), it holds a row of images for each conversation.
    """

    row: int = 0
    batch: int = 0

    @property
    def by_rows(self) -> bool:
        """Whether the field has a row for each conversation, also for one without pictures."""
        return self.row != self.batch


@dataclass(frozen=True)
class PromptFields:
    """How a model takes what its processor makes.

    `tokens`: names of fields with a value for each token; `joins`: those of pictures; `image_ids`: tokens that stand
    for a picture once the processor has expanded it; `placeholder`: what a chat template writes for one; `rope`: the
    model's `get_rope_index`, or None; `dtype`: of the model's weights, for pixels.
    """

    tokens: frozenset[str] = frozenset()
    joins: Mapping[str, Join] = field(default_factory=dict)
    image_ids: frozenset[int] = frozenset()
    placeholder: str = ""
    rope: Callable[..., Any] | None = None
    dtype: torch.dtype | None = None

    def of_tokens(self, values: Values) -> dict[str, torch.Tensor]:
        """The fields with a value for each token that the model takes."""
        return {name: values[name] for name in self.tokens if name in values}

    def of_pictures(self, values: Values) -> dict[str, torch.Tensor]:
        """The fields of pictures that the model takes, pixels in its dtype."""
        fields = {name: values[name] for name in self.joins if name in values}
        return {name: v.to(self.dtype) if self.dtype and v.is_floating_point() else v for name, v in fields.items()}


def prompt_fields(
    processor: ProcessorMixin, model: PreTrainedModel | None = None, template: Mapping[str, Any] | None = None
) -> PromptFields:
    """The fields of a processor for `model`, the bare VLM with its head; None: for an engine that processes itself.

    `template` holds options of the chat template. Raises UsageError for a field that counts nothing known.
    """
    one, longer = (process(processor, [user_turn(text, 1)], template) for text in ("What?", "What is to be seen?"))
    two = tried(processor, [user_turn("What?", 2)], template)
    batch = tried(processor, [user_turn("What?", 1)] * 2, template)
    tokens = {name for name, value in one.items() if counts_tokens(value, one) and counts_tokens(longer[name], longer)}
    taken = arguments_of(model) - OURS if model is not None else one.keys() - OURS
    if left_out := one.keys() - taken - OURS:
        logger.info("fields that the model does not take are left out: %s", ", ".join(sorted(left_out)))
    images = one.keys() & taken - tokens
    image_ids = image_tokens(processor, None if model is None else model.config, one, two)
    return PromptFields(
        frozenset(tokens & taken),
        {name: join_of(name, *(None if f is None else f.get(name) for f in (one, two, batch))) for name in images},
        image_ids,
        str(getattr(processor, "image_token", None) or processor.tokenizer.decode(list(image_ids)[:1])),
        None if model is None else getattr(model.base_model, "get_rope_index", None),
        None if model is None else model.dtype,
    )


def user_turn(text: str, pictures: int) -> Chat:
    """A conversation of one question about some grey pictures."""
    picture = {"type": "image", "image": Image.new("RGB", SIDES, (99, 99, 99))}
    return [{"role": "user", "content": [*[picture] * pictures, {"type": "text", "text": text}]}]


def process(processor: ProcessorMixin, chats: Sequence[Chat], template: Mapping[str, Any] | None = None) -> Values:
    """The processor's tensors for conversations with pictures and videos."""
    fields = processor.apply_chat_template(
        list(map(with_pixels, chats)),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=video_options(chats),
        **(template or {}),
    )
    return {name: value for name, value in fields.items() if torch.is_tensor(value)}


def tried(processor: ProcessorMixin, chats: Sequence[Chat], template: Mapping[str, Any] | None) -> Values | None:
    """As `process`; None where the processor takes one picture alone, or one conversation alone."""
    try:
        return process(processor, chats, template)
    except Exception as error:  # each processor refuses in its own way; rows of that kind meet it, with their name
        logger.info("%s takes no two pictures: %s", type(processor).__name__, error)
        return None


def counts_tokens(value: torch.Tensor, fields: Values) -> bool:
    """Whether a field has a value for each token of a batch."""
    return value.shape[:2] == fields["input_ids"].shape


def arguments_of(model: PreTrainedModel) -> set[str]:
    """The names of the arguments of a model's forward pass, and of its backbone's."""
    return {name for module in (model, model.base_model) for name in signature(type(module).forward).parameters}


def join_of(name: str, one: torch.Tensor, two: torch.Tensor | None, batch: torch.Tensor | None) -> Join:
    """The dimensions that double with a second picture and with a second conversation.

    A field that says something of a whole conversation (`batch_num_images`) doubles with the second alone.
    """
    row, rows = (None if other is None else doubled_dimension(one, other) for other in (two, batch))
    if row is None and rows is None:
        raise UsageError(
            f"--model_name_or_path: the processor's {name} of shape {tuple(one.shape)} doubles neither with a second "
            "picture nor with a second conversation, expected one of both; restore the processor's files as they came"
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


def image_tokens(processor: ProcessorMixin, config: Any, one: Values, two: Values | None) -> frozenset[int]:
    """The tokens that stand for pictures in prompts with one and with two: those that the configuration names, else
    those of the processor, else the token that a second picture adds most often."""
    of_model = {getattr(config, name, None) for name in ("image_token_id", "image_token_index")}
    of_processor = {getattr(processor, "image_token_id", None)}
    if token := getattr(processor, "image_token", None):
        of_processor.add(processor.tokenizer.convert_tokens_to_ids(str(token)))
    ids, more = (Counter(values["input_ids"].flatten().tolist()) for values in (one, two or one))
    added = {token for token, _ in (more - ids).most_common(1)}
    return frozenset(next((found for named in (of_model, of_processor, added) if (found := named & more.keys())), ()))
