"""Attention of vision towers over pictures and windows of one sequence: one call in place of a call for each.

Towers that concatenate pictures (Qwen's, GLM's, ...) give their attention cumulative lengths. With `sdpa` transformers
cuts the sequence and calls attention for each piece: for 512 image tokens of Qwen2.5-VL 900 calls, and a
synchronisation a layer. Its branch for flash kernels makes one call with the lengths; here all kernels take it.
"""

from collections.abc import Iterator
from inspect import unwrap
from itertools import groupby
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from open_r1.models.flash_kernel import flash, flash_type

WINDOWS = "windows_of_flash_branch"  # a name with "flash" takes that branch of transformers' modules
LENGTHS = "cu_seq_lens_q"


def join_windows(model: PreTrainedModel) -> None:
    """Let vision attention with `sdpa` take all its windows in one call; other attention stays as it is."""
    AttentionInterface.register(WINDOWS, window_attention)
    AttentionMaskInterface.register(WINDOWS, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    text = model.config.get_text_config()
    for module in window_modules(model):
        if module.config is not text and module.config._attn_implementation == "sdpa":
            module.config._attn_implementation = WINDOWS


def window_modules(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    """The attention modules that hand cumulative lengths to flash kernels and cut the sequence for others."""
    for module in model.modules():
        code = getattr(unwrap(type(module).forward), "__code__", None)
        names = [name for const in (code.co_consts if code else ()) if isinstance(const, tuple) for name in const]
        if LENGTHS in names and hasattr(module, "config") and "is_flash_attention_requested" in code.co_names:
            yield module


def window_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention within each of N windows: query, key and value (1, H, L, D) -> (1, L, H, D).

    `cu_seq_lens_q` (N + 1,) are the windows' cumulative lengths from 0; without them it is transformers' sdpa.
    """
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    options = {"scaling": scaling, "dropout": dropout, "is_causal": kwargs.get("is_causal")}
    if cu_seq_lens_q is None:
        return sdpa(module, query, key, value, attention_mask, **options)
    kind = None if dropout else flash_type(query, key, value)
    if kind is not None:
        states = tuple(state[0].transpose(0, 1) for state in (query, key, value))
        ends = cu_seq_lens_q.to(torch.int32)
        return flash(kind, states, (ends, ends), (max_length_q, max_length_q), (-1, -1), scaling)[None], None
    runs = runs_of(cu_seq_lens_q.diff().tolist())
    pieces = [state[0].split([n * size for size, n in runs], dim=1) for state in (query, key, value)]
    outputs = []
    for (size, _), *states in zip(runs, *pieces, strict=True):
        windows = [state.unflatten(1, (-1, size)).transpose(0, 1) for state in states]  # (n, H, size, D)
        outputs.append(sdpa(module, *windows, None, **options)[0].flatten(0, 1))
    return torch.cat(outputs)[None], None


def runs_of(lengths: list[int]) -> list[tuple[int, int]]:
    """(length, how many in a row) of windows that follow each other; empty ones are left out.

    >>> runs_of([64, 64, 0, 32, 64])
    [(64, 2), (32, 1), (64, 1)]
    """
    return [(size, len(list(run))) for size, run in groupby(length for length in lengths if length)]
