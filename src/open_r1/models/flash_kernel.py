"""Attention of concatenated sequences by the flash kernel that torch itself holds: no padding, no mask, no package.

`torch.nn.attention.varlen` runs on CUDA alone, from compute capability 8.0 (Ampere) on, in bfloat16 and float16.
"""

from functools import cache

import torch
from torch.nn.attention.varlen import varlen_attn

CAPABILITY = (8, 0)  # the least that torch's flash kernels are built for
LARGEST_HEAD = 256  # numbers of a head, a multiple of 8
HALF = (torch.bfloat16, torch.float16)


@cache
def has_flash(device: torch.device) -> bool:
    """Whether the kernel runs on this device."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= CAPABILITY


def why_no_flash(device: torch.device, kind: torch.dtype, widths: set[int]) -> str | None:
    """Why the kernel does not compute in type `kind` on this device for heads of these widths, or None."""
    if not has_flash(device):
        return "it runs on CUDA from compute capability 8.0 on"
    if kind not in HALF:
        return f"it computes in half precision, not in {str(kind).removeprefix('torch.')}"
    if len(widths) > 1 or max(widths) > LARGEST_HEAD or max(widths) % 8:
        return f"it takes heads of one width up to {LARGEST_HEAD}, a multiple of 8, not of {sorted(widths)}"
    return None


def flash_type(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.dtype | None:
    """The half type in which the kernel takes these states (..., D), or None where it takes none of them.

    Under autocast queries and keys may come in float32 from their norms or rotary positions, values in the half type.
    """
    device = query.device
    autocast = torch.is_autocast_enabled(device.type)
    kind = torch.get_autocast_dtype(device.type) if autocast else value.dtype
    refused = why_no_flash(device, kind, {states.shape[-1] for states in (query, key, value)})
    return kind if refused is None else None


def flash(
    kind: torch.dtype,
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ends: tuple[torch.Tensor, torch.Tensor],
    longest: tuple[int, int],
    window: tuple[int, int],
    scale: float | None,
) -> torch.Tensor:
    """Attention of N concatenated sequences: query (L, H, D), key and value (T, K, D) -> (L, H, D), in type `kind`.

    `ends` (N + 1,) int32 are the cumulative lengths of queries and of keys from 0, `longest` the largest length of
    each; `window` is how many keys to the left and to the right of its own place a query sees, -1 for all, where the
    last query of a sequence stands at its last key.
    """
    query, key, value = (state.to(kind) for state in states)
    return varlen_attn(query, key, value, *ends, *longest, scale=scale, window_size=window, enable_gqa=True)
