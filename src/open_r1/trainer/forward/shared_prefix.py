"""Shared-prefix attention: the prompt and images of a group are computed once for all its completions, exactly.

Over the layout of `trainer.forward.packing` attention is two calls, prefixes over themselves and suffixes over their
prefix and themselves, without a mask of the whole sequence and without computation between completions. Log-probs and
gradients equal those of padded rows: `tests/models/test_families.py`, `tests/trainer/test_optimizations.py`.

The idea is known for text ("Prefix Grouper", Liu et al. 2025, arXiv:2506.05433); here the prefix holds images, in any
family whose text model goes through transformers' attention interface.
"""

import re
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.models.flash_kernel import flash, flash_type
from open_r1.models.text_attention import set_text_attention
from open_r1.trainer.forward.carried_state import carry_states
from open_r1.trainer.forward.image_sight import why_masks_differ
from open_r1.trainer.forward.packing import Layout
from open_r1.trainer.forward.places import gather_tokens, split
from open_r1.trainer.forward.token_mixing import why_tokens_mix

SHARED_PREFIX = "shared_prefix"  # its name in transformers' attention registry
RANDOM = re.compile(
    r"(?!classifier|summary).*(attention_dropout|attn_dropout|_jitter_noise)|dropout|layerdrop|jitter_noise"
)


def why_no_shared_prefix(model: PreTrainedModel) -> str | None:
    """Why this model's groups cannot share their prefix, or None where they can."""
    return dropout_of(model) or why_tokens_mix(model) or why_masks_differ(model)


def dropout_of(model: PreTrainedModel) -> str | None:
    """Why two passes over the same tokens differ (the model draws at random in training), or None.

    Layers of dropout are removed by a flag; what a module draws itself is a number in its settings or configuration.
    """
    if any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules()):
        return "the model has dropout; --disable_dropout true removes it"
    for module in model.modules():
        configuration = vars(module.config) if isinstance(getattr(module, "config", None), PreTrainedConfig) else {}
        for name, value in [*vars(module).items(), *configuration.items()]:
            if RANDOM.fullmatch(name) and isinstance(value, float) and value > 0:
                where = type(module).__name__
                return (
                    f"the model draws at random in training ({name} {value:g} of {where}); set it to 0 in config.json"
                )
    return None


def share_prefixes(model: PreTrainedModel) -> None:
    """Make the text model's attention accept a packed layout; without a layout it stays as before."""
    if model.config.get_text_config()._attn_implementation == SHARED_PREFIX:
        return
    AttentionInterface.register(SHARED_PREFIX, packed_attention)
    AttentionMaskInterface.register(SHARED_PREFIX, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    set_text_attention(model, SHARED_PREFIX)
    carry_states(model)
    model.base_model.register_forward_hook(drop_prefixes, with_kwargs=True)


def drop_prefixes(backbone: PreTrainedModel, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook that passes only suffixes on to the head: predictions of prefix tokens are not needed."""
    if kwargs.get("shared_prefix") is not None and "fused_lm_head" not in kwargs:  # nor of a head around it
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

    By torch's flash kernel where it takes these states; else prefixes are one batch of sdpa, suffixes another. Without
    a layout it is transformers' sdpa, unchanged.
    """
    kwargs |= {"scaling": scaling, "dropout": dropout}
    sdpa, layout = ALL_ATTENTION_FUNCTIONS["sdpa"], shared_prefix
    if layout is None:
        return sdpa(module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs)
    kind = None if dropout or layout.blocks is not None else flash_type(query, key, value)
    if kind is not None:  # images that see themselves need a mask
        return flash_attention(kind, (query, key, value), layout, sliding_window, scaling), None
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
    return gather_tokens(out, layout)[None], None


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


def flash_attention(
    kind: torch.dtype,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    layout: Layout,
    window: int | None,
    scale: float | None,
) -> torch.Tensor:
    """`packed_attention` by torch's flash kernel, in the half type `kind`: no padding, no mask."""
    query, key, value = (state[0].transpose(0, 1).to(kind) for state in states)  # (L, heads, D)
    before, ragged = layout.prefix_tokens, layout.ragged
    near = (window - 1 if window else -1, 0)  # causal, aligned at the last key
    parts = []
    if before:
        own = (query[:before], key[:before], value[:before])
        longest = (layout.sizes[1], layout.sizes[1])
        parts.append(flash(kind, own, (ragged.prefix_ends, ragged.prefix_ends), longest, near, scale))
    behind = (query[before:], key.index_select(0, ragged.keys), value.index_select(0, ragged.keys))
    ends = (ragged.suffix_ends, ragged.key_ends)
    parts.append(flash(kind, behind, ends, (layout.sizes[3], ragged.longest_keys), near, scale))
    return torch.cat(parts)[None]
