"""What kernels of bitsandbytes do on a GPU: its product with 4-bit weights, and its paged memory.

Its operations (0.50) know the shapes that they return. The product is one operation, which on CUDA is a kernel of its
own for few tokens, and else a whole dequantized weight and torch's product (bitsandbytes/backends/cuda/ops.py).
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import ops

FUSED_TOKENS = 32  # most tokens of the kernel of its own; on some GPUs up to 1,536
SCALES_OF_SCALE = 256  # scales in 8 bits that share one in float32


def product_operation() -> Any:
    """bitsandbytes' product with 4-bit weights; None where it is not installed."""
    if find_spec("bitsandbytes") is None:
        return None
    import bitsandbytes  # noqa: F401 # registers its operations

    return ops.bitsandbytes.gemm_4bit


PRODUCT = product_operation()


def kernels_of(packet: Any, args: Any) -> Callable[..., torch.Tensor] | None:
    """What an operation of several kernels is made of; None for one of a single kernel."""
    if packet is PRODUCT and args[0].numel() // args[0].shape[-1] > FUSED_TOKENS:
        return product_of_dequantized
    return None


def product_of_dequantized(
    tokens: torch.Tensor,
    packed: torch.Tensor,
    shape: list[int],
    scales: torch.Tensor,
    block: int,
    quant_type: str,
    bias: torch.Tensor | None = None,
    nested_scales: torch.Tensor | None = None,
    nested_code: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
) -> torch.Tensor:
    """bitsandbytes' product (tokens, in) x `shape` (out, in) -> (tokens, out), by a whole dequantized weight."""
    if nested_scales is not None:
        call = (nested_scales, scales, nested_code, SCALES_OF_SCALE, torch.float32)
        scales = ops.bitsandbytes.dequantize_blockwise.default(*call) + offset
    weight = ops.bitsandbytes.dequantize_4bit.default(packed, scales, block, quant_type, shape, tokens.dtype)
    rows, turned = tokens.reshape(-1, shape[1]), weight.t()
    product = torch.mm(rows, turned) if bias is None else torch.addmm(bias, rows, turned)
    return product.view(*tokens.shape[:-1], shape[0])


def paged_stand_ins() -> list[tuple[Any, str, Any]]:
    """(owner, name, what stands in for it) of bitsandbytes' memory that CUDA may move to the host, which counts as on
    the device, and of a table that it makes once, which would stay a fake one."""
    if PRODUCT is None:
        return []
    from bitsandbytes import functional

    def on_device(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    unfilled = (functional, "fill", lambda tensor, value, **options: None)
    return [(functional, "name2qmap", {}), (functional, "get_paged", on_device), unfilled]
