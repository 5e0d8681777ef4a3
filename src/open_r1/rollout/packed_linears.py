"""Linear layers of a rollout on a CPU, from weights in the blocked layout of oneDNN.

A row-major weight is packed again in each call of a linear layer, which a few rows a token do not pay for. Rollouts
change no weights, so they are packed once; this needs as much memory as the weights while completions are generated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn


@contextmanager
def packed_linears(model: nn.Module) -> Iterator[None]:
    """Inside this context linear layers in float32 on the CPU compute from packed weights; others as before.

    Results differ by rounding alone. Weights must not change inside it.
    """
    packable = [module for module in model.modules() if can_pack(module)]
    for module in packable:
        packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), 16)  # a hint: rows of a batch
        module.forward = partial(forward, packed, module.bias)
    try:
        yield
    finally:
        for module in packable:
            del module.forward


def can_pack(module: nn.Module) -> bool:
    """Whether this is a plain linear layer in float32 on a CPU whose weight is whole, computed in float32."""
    if type(module) is not nn.Linear or "forward" in vars(module) or not torch.backends.mkldnn.is_available():
        return False
    weight, whole = module.weight, (module.out_features, module.in_features)
    plain = type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype is torch.float32
    return plain and weight.shape == whole and weight.numel() > 0 and not torch.is_autocast_enabled("cpu")


def forward(packed: torch.Tensor, bias: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
    """`states` (..., in) -> (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
