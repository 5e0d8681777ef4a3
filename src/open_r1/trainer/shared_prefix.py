"""Shared-prefix attention: the prompt and images of a group are computed once for all its completions, exactly.

Over the layout of `open_r1.trainer.packing` attention is two calls, prefixes among themselves and suffixes over their
prefix and themselves, so no mask of the whole sequence exists and nothing is computed between completions. Log-probs
and gradients are those of padded rows: `tests/test_shared_prefix.py`, `tests/test_families.py`.

The idea is known for text ("Prefix Grouper", Liu et al. 2025, arXiv:2506.05433); here the prefix holds images, in any
family whose text model goes through transformers' attention interface.
"""

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.models import FAMILIES
from open_r1.trainer.packing import Layout

SDPA, VARLEN = "shared_prefix", "shared_prefix_varlen"  # names in transformers' attention registry


def why_not(model: PreTrainedModel) -> str | None:
    """Why this model's groups cannot share their prefix, or None where they can."""
    text = model.config.get_text_config()
    kind = model.config.model_type
    if kind not in FAMILIES:
        return f"model_type {kind!r} has no entry in open_r1.models.FAMILIES"
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of kind {', '.join(sorted(kinds))} carry a state from completion to completion"
    return dropout_of(model)


def dropout_of(model: PreTrainedModel) -> str | None:
    """Dropout makes two passes over the same tokens differ."""
    acting = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    acting |= bool(getattr(model.config.get_text_config(), "attention_dropout", 0))
    return "the model has dropout; --disable_dropout true removes it" if acting else None


def share_prefixes(model: PreTrainedModel) -> None:
    """Let the text model's attention take a packed layout; without one it computes what it did before."""
    for name, function in ((SDPA, attention), (VARLEN, varlen_attention)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    flash = "flash" in model.config.get_text_config()._attn_implementation
    vision = {name: getattr(model.config, name)._attn_implementation for name in model.config.sub_configs}
    model.set_attn_implementation({**vision, "text_config": VARLEN if flash else SDPA})


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix: Layout | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed sequence: query (1, H, L, D), key and value (1, K, L, D) -> (1, L, H, D).

    Prefixes are one padded batch, suffixes another. Without a layout it is transformers' sdpa, unchanged.
    """
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if shared_prefix is None:
        return sdpa(module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs)
    layout, kwargs = shared_prefix, {**kwargs, "is_causal": True}
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # (L, heads, D)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        turned = (states.transpose(1, 2) for states in (q, k, v))
        return sdpa(module, *turned, mask, **kwargs)[0].flatten(0, 1)

    q, k, v = (gather(states, layout.suffix) for states in (query, key, value))
    k_prefix, v_prefix = gather(key, layout.prefix), gather(value, layout.prefix)
    k = torch.cat([k_prefix.index_select(0, layout.group), k], dim=1)
    v = torch.cat([v_prefix.index_select(0, layout.group), v], dim=1)
    out = attend(q, k, v, layout.suffix_mask(sliding_window))
    if layout.prefix.numel():
        mask = layout.prefix_mask(sliding_window)
        out = torch.cat([attend(gather(query, layout.prefix), k_prefix, v_prefix, mask), out])
    return out.index_select(0, layout.back)[None], None


def gather(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(L, ...) and indices (A, B) -> (A, B, ...)."""
    return states.index_select(0, index.flatten()).view(*index.shape, *states.shape[1:])


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix: Layout | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`attention` by torch's flash kernel for sequences of different lengths (CUDA): no padding, no mask."""
    if shared_prefix is None or shared_prefix.blocks is not None:  # images that see themselves need a mask
        kwargs |= {"scaling": scaling, "sliding_window": sliding_window}
        return attention(module, query, key, value, attention_mask, shared_prefix, **kwargs)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # (L, heads, D)
    parts = []
    for run in shared_prefix.runs:
        q, k, v = query.index_select(0, run.queries), key.index_select(0, run.keys), value.index_select(0, run.keys)
        parts.append(
            varlen_attn(
                *(q, k, v, run.query_ends, run.key_ends, run.longest_query, run.longest_key),
                scale=scaling,
                window_size=(sliding_window - 1 if sliding_window else -1, 0),  # causal, aligned at the last key
                enable_gqa=True,
            )
        )
    order = torch.cat([run.queries for run in shared_prefix.runs])
    return torch.empty_like(query).index_copy(0, order, torch.cat(parts))[None], None
