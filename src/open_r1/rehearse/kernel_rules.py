"""What CUDA's kernels accept, where torch's fake kernels accept more.

From torch 2.13: `aten/src/ATen/native/transformers/cuda/sdp_utils.cpp` and `flash_attn/flash_api.cpp` for attention,
`native/cuda/Blas.cpp` for products, `native/TensorAdvancedIndexing.cpp` for indexed writes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.attention.varlen  # registers its operations
from torch import ops

from open_r1.models.flash_kernel import HALF, LARGEST_HEAD
from open_r1.rehearse.values import forget


class RefusedByKernel(RuntimeError):
    """Arguments that a kernel would refuse on a GPU."""


def expect(fits: bool, kernel: str, got: str, expected: str) -> None:
    """Raises RefusedByKernel unless `fits`."""
    if not fits:
        raise RefusedByKernel(f"{kernel}: got {got}, expected {expected}")


def named_types(tensors: Sequence[torch.Tensor]) -> str:
    """The types of tensors as text, without "torch."."""
    return ", ".join(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)


def half_states(kernel: str, states: Sequence[torch.Tensor]) -> None:
    """Query, key and value of flash attention."""
    types = {state.dtype for state in states}
    fits = len(types) == 1 and types <= set(HALF)
    expect(fits, kernel, f"{named_types(states)} for query, key, value", "bfloat16 or float16 for all three")
    size = states[0].shape[-1]
    expect(size <= LARGEST_HEAD, kernel, f"heads of {size}", f"at most {LARGEST_HEAD}")


def flash_rule(args: Sequence[Any]) -> None:
    half_states("flash attention", args[:3])


def varlen_rule(args: Sequence[Any]) -> None:
    """Torch's `varlen_attn`: flash attention without padding of heads, ends of sequences as int32."""
    name, (query, *ends) = "varlen attention", (args[0], *args[3:5])
    half_states(name, args[:3])
    expect(query.shape[-1] % 8 == 0, name, f"heads of {query.shape[-1]}", "a multiple of 8")
    expect(all(end.dtype is torch.int32 for end in ends), name, f"ends of type {named_types(ends)}", "int32")
    expect(all(state.stride(-1) == 1 for state in args[:3]), name, "heads that are not contiguous", "contiguous ones")


def efficient_rule(args: Sequence[Any]) -> None:
    """Query, key, value and the mask that is added to scores."""
    states = [state for state in args[:4] if state is not None]
    fits = len({state.dtype for state in states}) == 1
    expect(fits, "memory-efficient attention", named_types(states), "one type for query, key, value and mask")
    heads = [state.shape[1] for state in args[:3]]
    expect(len(set(heads)) == 1, "memory-efficient attention", f"{heads} heads", "one number")


def product(name: str, first: int) -> Callable[[Sequence[Any]], None]:
    """The rule of a product of two matrices, the first of which is argument `first`."""

    def rule(args: Sequence[Any]) -> None:
        factors = args[first : first + 2]
        expect(factors[0].dtype is factors[1].dtype, name, f"{named_types(factors)} to multiply", "one type")

    return rule


def written(name: str, into: int, source: int) -> Callable[[Sequence[Any]], None]:
    """The rule of an indexed write: source and destination have one type."""

    def rule(args: Sequence[Any]) -> None:
        pair = (args[into], args[source])
        if isinstance(pair[1], torch.Tensor):
            expect(
                pair[0].dtype is pair[1].dtype,
                name,
                f"{named_types(pair[1:])} into {named_types(pair[:1])}",
                "one type",
            )

    return rule


KERNEL_RULES: dict[Any, Callable[[Sequence[Any]], None]] = {
    ops.aten._scaled_dot_product_flash_attention: flash_rule,
    ops.aten._scaled_dot_product_efficient_attention: efficient_rule,
    ops.torch_attn._varlen_attn: varlen_rule,
    ops.aten.mm: product("a product of matrices", 0),
    ops.aten._grouped_mm: product("a product of experts", 0),
    ops.aten.bmm: product("a product of matrices", 0),
    ops.aten.addmm: product("a product of matrices", 1),
    ops.aten.baddbmm: product("a product of matrices", 1),
    ops.aten.convolution: product("a convolution", 0),
    ops.aten.index_put: written("a write by index", 0, 2),
    ops.aten.index_put_: written("a write by index", 0, 2),
    ops.aten.index_copy: written("index_copy", 0, 3),
    ops.aten.index_copy_: written("index_copy", 0, 3),
    ops.aten.index_add: written("index_add", 0, 3),
    ops.aten.index_add_: written("index_add", 0, 3),
    ops.aten.scatter: written("scatter", 0, 3),
    ops.aten.scatter_: written("scatter", 0, 3),
    ops.aten.masked_scatter: written("masked_scatter", 0, 2),
    ops.aten.masked_scatter_: written("masked_scatter", 0, 2),
}


class TritonHead:
    """Stands for a kernel of TRL's fused head: it checks its tensors and computes nothing."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return self.check

    def check(self, tile: torch.Tensor, stride: int, targets: torch.Tensor, *statistics: Any, **options: Any) -> None:
        """`tile` (tokens, vocabulary) of any float type, int64 `targets`, float32 `statistics`, one a token, all on
        the device."""
        name, sums = "TRL's fused head", [value for value in statistics if isinstance(value, torch.Tensor)]
        tensors = [tile, targets, *sums]
        expect(all(tensor.device.type == "cuda" for tensor in tensors), name, "a tensor on the CPU", "all on the GPU")
        expect(targets.dtype is torch.int64, name, f"targets of type {named_types([targets])}", "int64")
        expect(all(tensor.dtype is torch.float32 for tensor in sums), name, named_types(sums), "float32 statistics")
        expect(all(tensor.stride(-1) == 1 for tensor in tensors), name, "a tensor with gaps", "contiguous ones")
        for tensor in (tile, *sums):  # it writes them
            forget(tensor)
