"""Shared-prefix attention: the prompt and images of a group are computed once for all its completions, exactly.

Over the layout of `trainer.forward.packing` attention is two calls, prefixes over themselves and suffixes over their
prefix and themselves, without a mask of the whole sequence and without computation between completions. Log-probs and
gradients equal those of padded rows: `test_forward_families.py`, `test_optimizations.py` in `tests/trainer`.

The idea is known for text ("Prefix Grouper", Liu et al. 2025, arXiv:2506.05433); here the prefix holds images, in any
family whose text model goes through transformers' attention interface.
"""

from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.models.families import no_family
from open_r1.trainer.forward.packing import Layout

SDPA, VARLEN = "shared_prefix", "shared_prefix_varlen"  # names in transformers' attention registry


def why_no_shared_prefix(model: PreTrainedModel) -> str | None:
    """Why this model's groups cannot share their prefix, or None where they can."""
    if missing := no_family(model):
        return missing
    layers = getattr(model.config.get_text_config(), "layer_types", None)
    kinds = set(layers or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers of kind {', '.join(sorted(kinds))} carry a state from completion to completion"
    return dropout_of(model)


def dropout_of(model: PreTrainedModel) -> str | None:
    """Why two passes over the same tokens differ (the model has dropout), or None."""
    acting = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    acting |= bool(getattr(model.config.get_text_config(), "attention_dropout", 0))
    return "the model has dropout; --disable_dropout true removes it" if acting else None


def share_prefixes(model: PreTrainedModel) -> None:
    """Make the text model's attention accept a packed layout; without a layout it stays as before."""
    implementation = model.config.get_text_config()._attn_implementation
    if implementation in (SDPA, VARLEN):
        return
    for name, function in ((SDPA, packed_attention), (VARLEN, varlen_attention)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    vision = {name: getattr(model.config, name)._attn_implementation for name in model.config.sub_configs}
    model.set_attn_implementation({**vision, "text_config": VARLEN if "flash" in implementation else SDPA})
    model.base_model.register_forward_hook(drop_prefixes, with_kwargs=True)


def drop_prefixes(backbone: PreTrainedModel, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook that passes only suffixes on to the head: predictions of prefix tokens are not needed."""
    if kwargs.get("shared_prefix") is not None:
        output.last_hidden_state = output.last_hidden_state[:, kwargs["shared_prefix"].prefix_tokens :]
    return output


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix: Layout | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed sequence: query (1, H, L, D), key and value (1, K, L, D) -> (1, L, H, D).

    Prefixes are one batch, suffixes another. Without a layout it is transformers' sdpa, unchanged.
    """
    kwargs |= {"scaling": scaling, "dropout": dropout}
    sdpa, layout = ALL_ATTENTION_FUNCTIONS["sdpa"], shared_prefix
    if layout is None:
        return sdpa(module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs)
    (q_prefix, q), (k_prefix, k), (v_prefix, v) = (split(states[0], layout) for states in (query, key, value))
    keys, values = prefix_then_suffix(k_prefix, k, layout), prefix_then_suffix(v_prefix, v, layout)
    out = attend_suffixes(q, keys, values, layout, sliding_window, scale=scaling, dropout_p=dropout)
    if q_prefix.numel():
        kwargs["is_causal"] = True
        swapped = (states.transpose(1, 2) for states in (q_prefix, k_prefix, v_prefix))
        prefix_out, _ = sdpa(module, *swapped, layout.prefix_mask(sliding_window), **kwargs)
        out = torch.cat([prefix_out.flatten(0, 1), out.flatten(0, 1)])
    else:
        out = out.flatten(0, 1)
    if layout.padded:
        out = GatherRows.apply(out, layout.place_index, layout.token_index, layout.real)
    return out[None], None


def split(states: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (H, L, D) into prefixes (B, P, H, D) and suffixes (R, S, H, D)."""
    states = states.transpose(0, 1)
    if layout.padded:
        states = GatherRows.apply(states, layout.token_index, layout.place_index, None)
    b, p, r, s = layout.sizes
    return states[: b * p].unflatten(0, (b, p)), states[b * p :].unflatten(0, (r, s))


def prefix_then_suffix(prefixes: torch.Tensor, suffixes: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(B, P, K, D), (R, S, K, D) -> (R, P + S, K, D): each suffix behind its prefix."""
    if layout.suffixes_per_prefix is None:
        return torch.cat([prefixes.index_select(0, layout.group), suffixes], dim=1)
    grouped = suffixes.unflatten(0, (-1, layout.suffixes_per_prefix))
    repeated = prefixes[:, None].expand(-1, layout.suffixes_per_prefix, -1, -1, -1)
    return torch.cat([repeated, grouped], dim=2).flatten(0, 1)


def attend_suffixes(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, window: int | None, **options: Any
) -> torch.Tensor:
    """(R, S, H, D) over (R, T, K, D) -> (R, S, H, D). The H / K query heads of a key head are concatenated to one
    longer query, so that keys and values are not repeated for them."""
    heads = query.shape[2] // key.shape[2]
    stacked = query.unflatten(2, (-1, heads)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (R, K, heads x S, D)
    mask = layout.suffix_mask(window, heads)
    attend = torch.nn.functional.scaled_dot_product_attention
    out = attend(stacked, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, **options)
    return out.unflatten(2, (heads, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3)


class GatherRows(torch.autograd.Function):
    """`states[index]`, which takes each row once except for padding, so that the gradient is a gather by `inverse` too
    (atomic additions would cost time and bitwise equality); gradients of places that are not `real` are zero."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, index: torch.Tensor, inverse: torch.Tensor, real: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.inverse, ctx.real = inverse, real
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        gradient = gradient.index_select(0, ctx.inverse)
        return gradient if ctx.real is None else gradient * ctx.real[:, None, None], None, None, None


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
    """`packed_attention` by torch's flash kernel for sequences of different lengths (CUDA): no padding, no mask."""
    if shared_prefix is None or shared_prefix.blocks is not None:  # images that see themselves need a mask
        kwargs |= {"scaling": scaling, "sliding_window": sliding_window}
        return packed_attention(module, query, key, value, attention_mask, shared_prefix, **kwargs)
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
    return torch.cat(parts)[None], None
