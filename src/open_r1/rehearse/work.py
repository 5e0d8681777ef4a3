"""The work of each phase: floating-point operations and bytes moved of every kernel, and how many kernels."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.attention.varlen  # registers its operations
from torch import ops
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import flop_registry

from open_r1.rehearse.quantized_kernels import PRODUCT
from open_r1.rehearse.values import known, tensors_within

# these read what they return, not the table; and these run no kernel of the device
GATHERS = {ops.aten.embedding, ops.aten.index, ops.aten.index_select, ops.aten.gather}
NO_KERNEL = {
    *(ops.aten.detach, ops.aten.alias, ops.aten.view, ops.aten._unsafe_view, ops.aten.lift_fresh, ops.aten.split),
    *(ops.aten._reshape_alias, ops.aten.unbind, ops.aten.split_with_sizes, ops.aten._local_scalar_dense),
    *(ops.aten.empty, ops.aten.empty_like, ops.aten.new_empty, ops.aten.empty_strided, ops.aten.new_empty_strided),
}


class Work:
    """Phase -> (floating-point operations, bytes) of a kernel -> how often it ran."""

    def __init__(self) -> None:
        self.kernels: defaultdict[str, Counter[tuple[int, int]]] = defaultdict(Counter)

    def add(self, phase: str, operation: Any, args: Sequence[Any], options: Mapping[str, Any], result: Any) -> None:
        """Count one operation with its result."""
        packet = operation.overloadpacket
        if packet in NO_KERNEL or operation.is_view:
            return
        outputs = tensors_within(result)
        inputs = () if packet in GATHERS else tensors_within(args, options)
        moved = sum(map(bytes_of, (*inputs, *outputs, *(outputs if packet in GATHERS else ()))))
        self.kernels[phase][operations_of(operation, args, options, result), moved] += 1

    def operations(self, phase: str) -> int:
        """Floating-point operations of a phase."""
        return sum(operations * count for (operations, _), count in self.kernels[phase].items())

    def launches(self, phase: str) -> int:
        """Kernels of a phase."""
        return self.kernels[phase].total()


def bytes_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def operations_of(operation: Any, args: Sequence[Any], options: Mapping[str, Any], result: Any) -> int:
    """Floating-point operations by torch's formulas, where a multiplication and an addition are two; attention is
    counted in full, also where a causal kernel leaves out half of it."""
    packet = operation.overloadpacket
    if packet is ops.aten.addmm:
        return 2 * prod(args[1].shape) * args[2].shape[1]
    if packet is ops.torch_attn._varlen_attn:
        return 4 * args[0].shape[1] * args[0].shape[2] * visible_pairs(args[3], args[4], args[0], args[1])
    if packet is ops.torch_attn._varlen_attn_backward:
        return 10 * args[1].shape[1] * args[1].shape[2] * visible_pairs(args[6], args[7], args[1], args[2])
    if packet is PRODUCT:
        return 2 * prod(args[0].shape) * args[2][0]
    formula = flop_registry.get(packet)
    return formula(*args, **options, out_val=result) if formula else 0


def visible_pairs(query_ends: torch.Tensor, key_ends: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> int:
    """Pairs of a query and a key of one sequence; of all, where the sequences' ends are unknown."""
    ends = (known(query_ends), known(key_ends))
    if ends[0] is None or ends[1] is None:
        return len(query) * len(key)
    with _disable_current_modes():
        lengths = [end.long().diff() for end in ends]
        return int((lengths[0] * lengths[1]).sum())
