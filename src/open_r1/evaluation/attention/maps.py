"""What a vision-language model looks at for each token of a completion: softmax weights of one layer.

One teacher-forced pass over prompt and completion computes every layer as sdpa does, and of the chosen layer also the
rows of the queries that predict completion tokens, head by head, so that what is kept is one (C, P + C - 1) float32
matrix, whatever the number of layers and heads: 68 MB for 1,000 tokens behind a prompt of 16,000, four times that
while a head is added to the mean, and as much again for the maps made of it. No logits are computed.

After r1_vlm's attention demo (one middle layer, mean over heads, the last query over the image tokens), which runs
`generate` with all attentions kept instead.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers.decoders import DecodeStream
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, ProcessorMixin
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.errors import UsageError
from open_r1.evaluation.attention.layout import Fields, PictureSize, known_layout, locate
from open_r1.evaluation.attention.tiles import draw_over
from open_r1.report.heat import Attention

WATCHED = "watched"  # its name in transformers' attention registry
PASSED_TOKEN_FIELDS = ("attention_mask", "token_type_ids", "mm_token_type_ids")


def attend(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    fields: Fields,
    shapes: Sequence[PictureSize],
    completion: Sequence[int],
    layer: int | None = None,
    head: int | None = None,
) -> Attention:
    """Attention of `completion` (C token ids) to one prompt: `fields` are the processor's for a batch of one, `shapes`
    the (width, height) of its pictures, `layer` and `head` as `chosen_layer` takes them; no head is the mean of all.

    Raises UsageError as `chosen_layer` does, and for an empty completion.
    """
    layer = chosen_layer(model, layer, head)
    pictures = locate(model, fields, shapes)
    rows = attention_rows(model, fields, completion, layer, head).numpy()
    ids = fields["input_ids"][0]
    text = (ids != model.config.image_token_id).nonzero()[:, 0].cpu().numpy()
    return Attention(
        tokens=pieces(processor, completion),
        asked=pieces(processor, ids[text].tolist()),
        images=[draw_over(rows, tiles) for tiles in pictures],
        prompt=rows[:, text],
        said=np.pad(rows[:, len(ids) :], ((0, 0), (0, 1))),  # the last token predicts nothing
        layer=layer,
        layers=model.config.get_text_config().num_hidden_layers,
        head=head,
    )


def chosen_layer(model: PreTrainedModel, layer: int | None, head: int | None) -> int:
    """The layer; for None the middle one of those that see the whole prompt, not a window. Raises UsageError for a
    layer or head that the model has not, and for a family without a known layout of image tokens."""
    known_layout(model)
    text = model.config.get_text_config()
    numbers = range(text.num_hidden_layers)
    if layer is None:
        kinds = getattr(text, "layer_types", None) or ["full_attention"] * len(numbers)
        whole = [number for number in numbers if kinds[number] == "full_attention"] or numbers
        layer = whole[len(whole) // 2]
    for flag, number, known in (("--layer", layer, numbers), ("--head", head, range(text.num_attention_heads))):
        if number is not None and number not in known:
            raise UsageError(f"{flag}: got {number}, expected {known[0]} to {known[-1]}; choose one of those")
    return layer


@torch.no_grad()
def attention_rows(
    model: PreTrainedModel, fields: Fields, completion: Sequence[int], layer: int, head: int | None = None
) -> torch.Tensor:
    """(C, P + C - 1) float32 on the CPU: weights of the queries that predict the completion's tokens. They sum to 1.

    Raises UsageError for an empty completion.
    """
    if not len(completion):
        raise UsageError("completion: got no token, expected one or more; ask something else, or give --completion")
    ids = fields["input_ids"]
    said = torch.tensor([completion[:-1]], dtype=ids.dtype, device=ids.device)
    inputs = {**fields, "input_ids": torch.cat([ids, said], dim=1)}
    for name in PASSED_TOKEN_FIELDS:
        if name in fields:
            fill = torch.full_like(said, int(name == "attention_mask"))
            inputs[name] = torch.cat([fields[name], fill], dim=1)
    watch = WatchedAttention(layer, head, ids.shape[1] - 1)
    with watched(model):
        model.base_model(**inputs, use_cache=False, watch=watch)
    return watch.rows.cpu()


@dataclass
class WatchedAttention:
    """What is kept of a pass: `rows` (C, L), the weights in `layer` of the queries from `first` on."""

    layer: int
    head: int | None
    first: int
    rows: torch.Tensor | None = None

    def keep(self, query: torch.Tensor, key: torch.Tensor, seen: torch.Tensor | None, scaling: float) -> None:
        """query (1, H, L, D), key (1, K, L, D), `seen` (1, 1, L, L) bool or None for causal."""
        query, key = query[0, :, self.first :].float(), key[0].float()
        length, heads = key.shape[1], range(len(query)) if self.head is None else [self.head]
        at = torch.arange(length, device=key.device)
        visible = at <= at[self.first :, None] if seen is None else seen[0, 0, self.first :]
        self.rows = query.new_zeros(len(visible), length)
        for head in heads:
            scores = (query[head] * scaling) @ key[head * len(key) // len(query)].T
            self.rows += scores.masked_fill_(~visible, -torch.inf).softmax(dim=-1).div_(len(heads))


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[None]:
    """Within, the text model's attention takes a `watch`; afterwards it is what it was."""
    AttentionInterface.register(WATCHED, attention_and_weights)
    AttentionMaskInterface.register(WATCHED, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    before = model.config.get_text_config()._attn_implementation
    _set_text_attention(model, WATCHED)
    try:
        yield
    finally:
        _set_text_attention(model, before)


def _set_text_attention(model: PreTrainedModel, name: str) -> None:
    others = {part: getattr(model.config, part)._attn_implementation for part in model.config.sub_configs}
    model.set_attn_implementation({**others, "text_config": name})


def attention_and_weights(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    watch: WatchedAttention | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa; the layer that is watched leaves its weights."""
    if watch is not None and module.layer_idx == watch.layer:
        watch.keep(query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def pieces(processor: ProcessorMixin, ids: Sequence[int]) -> list[str]:
    """The text that each token adds, special tokens by their names; a character of several tokens is its last one's.

    Joined they are the text, which single tokens decoded alone are not in every tokenizer.
    """
    stream, backend = DecodeStream(skip_special_tokens=False), processor.tokenizer.backend_tokenizer
    return [stream.step(backend, token) or "" for token in ids]
