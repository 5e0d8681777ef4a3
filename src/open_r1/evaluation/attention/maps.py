"""The attention of a vision-language model for each token of a completion: softmax weights of one layer.

One teacher-forced pass over prompt and completion computes every layer as sdpa does. Of the chosen layer it also
computes the rows of the queries that predict completion tokens, head by head, and keeps their mean: one
(C, P + C - 1) float32 matrix, for any number of layers and heads. For 1,000 tokens after a prompt of 16,000 that is
68 MB, four times as much while a head is added, and as much again for the maps. No logits are computed.

After r1_vlm's attention demo (one middle layer, mean over heads, the last query over the image tokens), which instead
runs `generate` and keeps all attentions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, ProcessorMixin
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, CacheLayerMixin, DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.errors import UsageError
from open_r1.evaluation.attention.grids import Fields, PictureSize
from open_r1.evaluation.attention.layout import locate
from open_r1.evaluation.attention.tiles import project_onto_picture
from open_r1.models.model_parts import image_token_of
from open_r1.models.text_attention import set_text_attention
from open_r1.report.heat import Attention
from open_r1.rollout.token_texts import token_texts

RECORDING = "watched"  # the name in transformers' attention registry


def attend(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    fields: Fields,
    shapes: Sequence[PictureSize],
    completion: Sequence[int],
    layer: int | None = None,
    head: int | None = None,
) -> Attention:
    """Attention of `completion` (C token ids) to one prompt.

    `fields`: the processor's, a batch of one; `shapes`: (width, height) of its pictures; `layer` and `head` as in
    `chosen_layer`, where no head is the mean of all.

    Raises UsageError as `chosen_layer` does, and for an empty completion.
    """
    layer = chosen_layer(model, layer, head)
    pictures = locate(model, fields, shapes, processor)
    rows = attention_rows(model, fields, completion, layer, head).numpy()
    ids = fields["input_ids"][0]
    text = (ids != image_token_of(model.config)).nonzero()[:, 0].cpu().numpy()
    return Attention(
        tokens=token_texts(processor, completion),
        prompt_tokens=token_texts(processor, ids[text].tolist()),
        images=[project_onto_picture(rows, tiles) for tiles in pictures],
        prompt=rows[:, text],
        completion=np.pad(rows[:, len(ids) :], ((0, 0), (0, 1))),  # the last token predicts nothing
        layer=layer,
        layers=model.config.get_text_config().num_hidden_layers,
        head=head,
    )


def chosen_layer(model: PreTrainedModel, layer: int | None, head: int | None) -> int:
    """The layer; for None the middle one of those with full attention, without a window.

    Raises UsageError for an unknown layer or head, and for a layer that has no attention, such as a recurrent one.
    """
    text = model.config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    mapped = [number for number, kind in enumerate(kinds) if keeps_keys(kind)]
    if layer is None:
        full = [number for number in mapped if kinds[number] in ("full_attention", "hybrid")] or mapped
        layer = full[len(full) // 2]
    heads = range(text.num_attention_heads)
    for flag, number, possible in (("--layer", layer, range(len(kinds))), ("--head", head, heads)):
        if number is not None and number not in possible:
            raise UsageError(f"{flag}: got {number}, expected {possible[0]} to {possible[-1]}; choose one of those")
    if layer not in mapped:
        raise UsageError(
            f"--layer: got {layer}, of kind {kinds[layer]}, which has no attention to show; expected one of "
            f"{', '.join(map(str, mapped))}"
        )
    return layer


def keeps_keys(kind: str) -> bool:
    """Whether layers of this kind attend: transformers' cache keeps keys for them; of kinds that it has not, yes."""
    return issubclass(DYNAMIC_LAYER_TYPE_MAPPING.get(kind, DynamicLayer), CacheLayerMixin)


@torch.no_grad()
def attention_rows(
    model: PreTrainedModel, fields: Fields, completion: Sequence[int], layer: int, head: int | None = None
) -> torch.Tensor:
    """(C, P + C - 1) float32 on the CPU: weights of the queries that predict the completion's tokens. They sum to 1.

    Raises UsageError for an empty completion, and for a layer without attention.
    """
    if not len(completion):
        raise UsageError("completion: got no token, expected one or more; ask something else, or give --completion")
    ids, taken = fields["input_ids"], signature(model.base_model.forward).parameters
    said = torch.tensor([completion[:-1]], dtype=ids.dtype, device=ids.device)
    inputs = {name: values for name, values in fields.items() if name in taken} | {
        "input_ids": torch.cat([ids, said], 1)
    }
    for name, values in fields.items():
        if name in inputs and name != "input_ids" and values.shape == ids.shape:  # a field of tokens
            inputs[name] = torch.cat([values, values[:, -1:].expand_as(said)], dim=1)
    recorder = AttentionRecorder(layer, head, ids.shape[1] - 1)
    with recording_attention(model, recorder):
        model.base_model(**inputs, use_cache=False)
    if recorder.rows is None:
        raise UsageError(f"--layer: got {layer}, which has no attention to show; choose another")
    return recorder.rows.cpu()


@dataclass
class AttentionRecorder:
    """Records of a pass `rows` (C, L): the attention weights in `layer` of the queries from index `first` on."""

    layer: int
    head: int | None
    first: int
    rows: torch.Tensor | None = None

    def record(self, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float) -> None:
        """Compute `rows` of query (1, H, L, D), key (1, K, L, D), `mask` (1, 1, L, L) bool, or None for causal."""
        query, key = query[0, :, self.first :].float(), key[0].float()
        length, heads = key.shape[1], range(len(query)) if self.head is None else [self.head]
        at = torch.arange(length, device=key.device)
        visible = at <= at[self.first :, None] if mask is None else mask[0, 0, self.first :]
        self.rows = query.new_zeros(len(visible), length)
        for head in heads:
            scores = (query[head] * scaling) @ key[head * len(key) // len(query)].T
            self.rows += scores.masked_fill_(~visible, -torch.inf).softmax(dim=-1).div_(len(heads))


@contextmanager
def recording_attention(model: PreTrainedModel, recorder: AttentionRecorder) -> Iterator[None]:
    """A context in which the text model's attention is recorded; layers need not hand anything on for it."""
    AttentionInterface.register(RECORDING, partial(attention_and_weights, recorder=recorder))
    AttentionMaskInterface.register(RECORDING, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    before = model.config.get_text_config()._attn_implementation
    set_text_attention(model, RECORDING)
    try:
        yield
    finally:
        set_text_attention(model, before)


def attention_and_weights(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    recorder: AttentionRecorder,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' sdpa attention; in the recorder's layer its weights are recorded too."""
    if module.layer_idx == recorder.layer:
        recorder.record(query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, scaling=scaling, **kwargs)
