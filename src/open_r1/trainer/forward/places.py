"""From tokens of a packed sequence to places of its layout, prefixes and suffixes each as one batch, and back."""

from typing import Any

import torch

from open_r1.trainer.forward.packing import Layout


def split(states: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (H, L, D) into prefixes (B, P, H, D) and suffixes (R, S, H, D)."""
    states = states.transpose(0, 1)
    if layout.padded:
        states = GatherRows.apply(states, layout.token_index, layout.place_index, None)
    b, p, r, s = layout.sizes
    return states[: b * p].unflatten(0, (b, p)), states[b * p :].unflatten(0, (r, s))


def gather_tokens(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(places, H, D) -> (L, H, D), without the places that hold no token."""
    if not layout.padded:
        return states
    return GatherRows.apply(states, layout.place_index, layout.token_index, layout.real)


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
