"""Which attention kernel `scaled_dot_product_attention` takes on a GPU, called directly.

On fake tensors torch itself would always take the one of plain products. After `sdp_utils.cpp` of torch 2.13: flash
without a mask for half types, memory-efficient attention with a mask or in float32, plain products where keys are to
be repeated and there is a mask. That a real GPU takes cuDNN's kernel in place of flash, as some do, is not rehearsed;
its memory and operations are those of flash.
"""

import torch
from torch import ops
from torch.nn.functional import pad, scaled_dot_product_attention

from open_r1.models.flash_kernel import HALF, LARGEST_HEAD

ALIGNED = 16  # numbers to which a mask's rows are padded


def attention_on_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention` by the kernel of a GPU."""
    options = {"scale": scale}
    if query.device.type != "cuda" or (enable_gqa and attn_mask is not None):
        options["enable_gqa"] = enable_gqa
        return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
    query, key, value = (cast(states) for states in (query, key, value))
    if attn_mask is None and query.dtype in HALF and query.shape[-1] <= LARGEST_HEAD:
        size = query.shape[-1]
        options["scale"] = size**-0.5 if scale is None else scale
        padded = (pad(states, (0, -size % 8)) if size % 8 else states for states in (query, key, value))
        return ops.aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, **options)[0][..., :size]
    if enable_gqa:
        key, value = repeated(query, key, value)
    bias = None if attn_mask is None else added_mask(attn_mask, query, key.shape[2])
    needs_sums = torch.is_grad_enabled() and any(states.requires_grad for states in (query, key, value))
    call = (query, key, value, bias, needs_sums, dropout_p, is_causal)
    return ops.aten._scaled_dot_product_efficient_attention(*call, **options)[0]


def cast(states: torch.Tensor) -> torch.Tensor:
    """What autocast makes of an argument."""
    if torch.is_autocast_enabled("cuda") and states.is_floating_point():
        return states.to(torch.get_autocast_dtype("cuda"))
    return states


def repeated(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (N, K, T, D) for each of the query's H heads: (N, H, T, D)."""
    repeats = query.shape[1] // key.shape[1]
    return key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)


def as_numbers(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask of true and false as numbers that are added to scores, 0 and minus infinity; others as they are."""
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def added_mask(mask: torch.Tensor, query: torch.Tensor, keys: int) -> torch.Tensor:
    """The mask as numbers that are added to scores, in rows as the kernel wants them: (N, H, queries, keys)."""
    mask = cast(as_numbers(mask, query.dtype))
    if mask.shape[-1] % ALIGNED:
        mask = pad(mask, (0, -mask.shape[-1] % ALIGNED))[..., : mask.shape[-1]]
    return mask.expand(*query.shape[:3], keys)


def attention_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention` by the kernel of the CPU, for rehearsals that are compared with a CPU's peaks."""
    if enable_gqa:
        key, value = repeated(query, key, value)
    mask = None if attn_mask is None else as_numbers(attn_mask, query.dtype)
    call = (query, key, value, dropout_p, is_causal)
    return ops.aten._scaled_dot_product_flash_attention_for_cpu(*call, attn_mask=mask, scale=scale)[0]
