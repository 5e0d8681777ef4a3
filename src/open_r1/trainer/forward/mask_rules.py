"""Compares the rule by which transformers makes a mask with that of packed attention, over far more tokens than a
trial has."""

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import torch

FAR = (1, 7, 100, 5_000, 70_000, 1_000_001)  # distances of two tokens at which masks are compared
LATEST = 4 * max(FAR)  # no token of a compared mask is later


class MaskRule(torch.Tensor):
    """A mask that knows the rule of transformers by which it was made."""

    rule: Callable[..., torch.Tensor]


def mask_with_rule(
    batch_size: int, q_length: int, kv_length: int, mask_function: Callable[..., torch.Tensor], **options: Any
) -> torch.Tensor:
    """A mask of ones for the stand-in of attention, with its rule."""
    mask = torch.ones(batch_size, 1, q_length, kv_length, device=options.get("device")).as_subclass(MaskRule)
    mask.rule = mask_function
    return mask


def why_other_mask(module: torch.nn.Module, mask: torch.Tensor | None, window: int | None) -> str | None:
    """Why an attention mask is not the causal one within the window, which packed attention has, or None."""
    if mask is None or (mask.numel() == 1 and bool(mask.all())):  # as it was handed to the model
        return None
    name, windows = type(module).__name__, windows_of(module, window)
    if not isinstance(mask, MaskRule) or not hasattr(mask, "rule"):
        return f"{name} changes its mask"
    distances = torch.tensor([-1, 0, *FAR, *(size + more for size in windows for more in (-1, 0, 1))])
    query = (max(FAR) + distances.clamp(max=max(FAR))).to(mask.device)[:, None]
    tokens = (query - distances.to(mask.device)).clamp(min=0)
    query = query.expand_as(tokens)
    expected = tokens <= query
    if window:
        expected = expected & (tokens > query - window)
    rule = of_later_tokens(mask.rule, mask.shape[-1])
    same = torch.equal(expected, rule(0, 0, query, tokens).expand_as(expected))
    return None if same else f"{name} has a mask that is neither causal nor its own sliding window"


def windows_of(module: torch.nn.Module, window: int | None) -> list[int]:
    """The sizes of windows and chunks that an attention module and its configuration name."""
    settings = {**vars(getattr(module, "config", module)), "window": window}
    return [v for k, v in settings.items() if ("window" in k or "chunk" in k) and type(v) is int and v > 0]


def of_later_tokens(rule: Any, length: int) -> Any:
    """A rule of masks of `length` tokens, all of them text, that holds for LATEST ones.

    What a rule knows of each token (a tensor of that length in its closure) is then what it knows of the first.
    """
    if torch.is_tensor(rule) and rule.ndim and rule.shape[-1] == length:
        return rule[..., :1].expand(*rule.shape[:-1], LATEST)
    if isinstance(rule, (tuple, list)):
        return type(rule)(of_later_tokens(part, length) for part in rule)
    if isinstance(rule, FunctionType) and rule.__closure__:
        cells = tuple(CellType(of_later_tokens(cell.cell_contents, length)) for cell in rule.__closure__)
        return FunctionType(rule.__code__, rule.__globals__, rule.__name__, rule.__defaults__, cells)
    return rule
