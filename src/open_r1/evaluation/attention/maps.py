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
from open_r1.evaluation.attention.films import NO_FILMS, Films
from open_r1.evaluation.attention.grids import Fields, PictureSize
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
    scored: Sequence[bool] | None = None,
    films: Films = NO_FILMS,
) -> Attention:
    """Attention of `completion` (C token ids) to one prompt.

    `fields`: the processor's, a batch of one; `shapes`: (width, height) of its pictures; `layer` and `head` as in
    `chosen_layer`, where no head is the mean of all. `scored` (C,) is true for tokens that the model sampled, where
    others are of tools: `fields` are then of prompt and completion together, `shapes` of all pictures. `films`: the
    prompt's videos.

    Raises UsageError as `chosen_layer` and `locate_videos` do, and for an empty completion.
    """
    layer = chosen_layer(model, layer, head)
    pictures, videos = films.places(model, fields, shapes, processor)
    whole = fields if scored is not None else with_completion(fields, completion)
    ids, begin = whole["input_ids"][0].cpu().numpy(), whole["input_ids"].shape[1] - len(completion)
    rows = attention_rows(model, whole, begin, layer, head).numpy()
    rows = np.pad(rows, ((0, 0), (0, 1)))  # the last token predicts nothing
    said = begin + np.flatnonzero(np.ones(len(completion)) if scored is None else scored)
    text = ~np.isin(ids, [image_token_of(model.config), *films.tokens])
    text[said] = False
    told = np.flatnonzero(text)
    rows = rows[said - begin]
    return Attention(
        tokens=token_texts(processor, ids[said].tolist()),
        prompt_tokens=token_texts(processor, ids[told].tolist()),
        images=[project_onto_picture(rows, tiles) for tiles in pictures],
        prompt=rows[:, told],
        completion=rows[:, said],
        layer=layer,
        layers=model.config.get_text_config().num_hidden_layers,
        head=head,
        order=np.argsort(np.concatenate([told, said])).tolist(),
        videos=[np.stack([project_onto_picture(rows, step) for step in video], axis=1) for video in videos],
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


def with_completion(fields: Fields, completion: Sequence[int]) -> Fields:
    """The fields of a prompt with a completion of text behind it. Raises UsageError for an empty one."""
    if not len(completion):
        raise UsageError("completion: got no token, expected one or more; ask something else, or give --completion")
    ids = fields["input_ids"]
    said = torch.tensor([completion], dtype=ids.dtype, device=ids.device)
    of_tokens = {name: values for name, values in fields.items() if values.shape == ids.shape}
    longer = {name: torch.cat([values, values[:, -1:].expand_as(said)], dim=1) for name, values in of_tokens.items()}
    return {**fields, **longer, "input_ids": torch.cat([ids, said], dim=1)}


@torch.no_grad()
def attention_rows(
    model: PreTrainedModel, fields: Fields, begin: int, layer: int, head: int | None = None
) -> torch.Tensor:
    """(C, L - 1) float32 on the CPU: weights of the queries that predict the last C tokens, from `begin` on, of a
    conversation of L tokens, whose `fields` these are. They sum to 1. Raises UsageError for a layer without attention.
    """
    ids, taken = fields["input_ids"], signature(model.base_model.forward).parameters
    inputs = {
        name: values[:, :-1] if values.shape == ids.shape else values
        for name, values in fields.items()
        if name in taken
    }
    recorder = AttentionRecorder(layer, head, begin - 1)
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
