"""Real numbers beside fake tensors: integers, and small tensors of any type, as far as they are known.

Code reads lengths, masks, positions and advantages on the host; those are computed for real on the CPU. What depends
on weights is unknown, and where code reads it a rehearsal assumes what a healthy run gives: no number is NaN or
infinite, each expert of a mixture gets as many tokens as any other, and every token that is sampled is `token`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import ops
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

SMALL_FLOATS, SMALL_INTEGERS = 1 << 20, 1 << 26  # most elements of a tensor whose numbers are computed
MOVES = {
    ops.aten._to_copy,
    ops.aten.clone,
    ops.aten.cat,
    ops.aten.stack,
    ops.aten.constant_pad_nd,
}  # pixels are known at any size
DRAWN = {
    ops.aten.rand,
    ops.aten.randn,
    ops.aten.rand_like,
    ops.aten.randn_like,
    ops.aten.uniform_,
    ops.aten.normal_,
    ops.aten.native_dropout,
}
KNOWN, WRITTEN = "_known_numbers", "_times_written"  # attributes of a fake tensor, and of its storage

Operation = torch._ops.OpOverload


class UnknownNumbers(RuntimeError):
    """Code reads numbers of the device that a rehearsal does not know."""


def known(tensor: torch.Tensor) -> torch.Tensor | None:
    """The real CPU tensor with a tensor's numbers, or None where they are unknown."""
    if not isinstance(tensor, FakeTensor):
        return tensor
    real, written = vars(tensor).get(KNOWN, (None, 0))
    return None if real is None or written != times_written(tensor) else real


def remember(tensor: FakeTensor, real: torch.Tensor) -> None:
    """Keep `real`, on the CPU, as the numbers of a fake tensor."""
    vars(tensor)[KNOWN] = (real, times_written(tensor))


def forget(tensor: torch.Tensor) -> None:
    """The numbers of a fake tensor, and of all that share its memory, are unknown from here on."""
    if isinstance(tensor, FakeTensor):
        setattr(tensor.untyped_storage(), WRITTEN, times_written(tensor) + 1)


def times_written(tensor: FakeTensor) -> int:
    """How often unknown numbers were written into a tensor's memory."""
    return getattr(tensor.untyped_storage(), WRITTEN, 0)


def is_small(tensor: torch.Tensor) -> bool:
    """Whether a tensor's numbers are computed where they can be."""
    exact = not (tensor.is_floating_point() or tensor.is_complex())
    return tensor.numel() <= (SMALL_INTEGERS if exact else SMALL_FLOATS)


def tensors_within(*values: Any) -> list[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_within(*value)
        elif isinstance(value, dict):
            found += tensors_within(*value.values())
    return found


def mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """`value` with each tensor in its lists, tuples and dicts replaced by `function` of it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)([mapped(function, part) for part in value])
    if isinstance(value, dict):
        return {name: mapped(function, part) for name, part in value.items()}
    return value


def for_real(operation: Operation, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """An operation's result on the CPU, for tensors that are all known."""
    options = mapped(known, dict(options))
    if options.get("device") is not None:
        options["device"] = torch.device("cpu")
    with _disable_current_modes():
        return operation(*mapped(known, tuple(args)), **options)


def follow(operation: Operation, args: Sequence[Any], options: Mapping[str, Any], outputs: Sequence[Any]) -> None:
    """After an operation on fake tensors: what is known of its results."""
    inputs = tensors_within(args, options)
    if operation.overloadpacket in DRAWN or any(known(tensor) is None for tensor in inputs):
        for tensor in overwritten(operation, args, options):
            forget(tensor)
        assume(operation, args, outputs)
    elif operation.is_view or operation.overloadpacket in MOVES or all(map(is_small, outputs)):
        try:
            reals = tensors_within(for_real(operation, args, options))
        except NotImplementedError:  # torch computes it on a GPU alone
            return
        for fake, real in zip(outputs, reals, strict=True):
            if fake.shape == real.shape:
                remember(fake, real)


def overwritten(operation: Operation, args: Sequence[Any], options: Mapping[str, Any]) -> list[torch.Tensor]:
    """The arguments that an operation writes."""
    if not operation._schema.is_mutable:
        return []
    found: list[Any] = []
    for number, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[number] if number < len(args) else options.get(argument.name))
    return tensors_within(*found)


# ------------------------------------------------------------------------------------------- of unknown numbers


def assume(operation: Operation, args: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Keep what a healthy run would give where an operation's result is unknown."""
    rule = ASSUMED.get(operation)
    for fake in outputs if rule else ():
        if not fake.is_floating_point() and is_small(fake):
            with _disable_current_modes():
                real = rule(tuple(fake.shape), args)
                if real is not None:
                    remember(fake, real.to(fake.dtype))


def compares_to_infinity(args: Sequence[Any]) -> bool:
    return len(args) > 1 and isinstance(args[1], float) and math.isinf(args[1])


def spread(shape: tuple[int, ...], args: Sequence[Any]) -> torch.Tensor:
    """Indices of the largest numbers along the last dimension of args[0], the rows taking all places in turn."""
    rows, size = torch.arange(math.prod(shape)), args[0].shape[-1]
    return (rows % size).view(shape)


def first_to_last(shape: tuple[int, ...], args: Sequence[Any]) -> torch.Tensor:
    """Indices along the last dimension, in order."""
    return torch.arange(shape[-1]).expand(shape).clone() if shape else torch.zeros(())


class Token:
    """The token that every sampling gives."""

    def __init__(self) -> None:
        self.id = 0

    def __call__(self, shape: tuple[int, ...], args: Sequence[Any]) -> torch.Tensor:
        return torch.full(shape, self.id % args[0].shape[-1])


TOKEN = Token()
ASSUMED: dict[Any, Callable[[tuple[int, ...], Sequence[Any]], torch.Tensor | None]] = {
    ops.aten.topk.default: spread,
    ops.aten.sort.default: first_to_last,
    ops.aten.sort.stable: first_to_last,
    ops.aten.argsort.default: first_to_last,
    ops.aten.argmax.default: TOKEN,
    ops.aten.multinomial.default: TOKEN,
    ops.aten.max.dim: TOKEN,
    ops.aten.isnan.default: lambda shape, args: torch.zeros(shape),
    ops.aten.isinf.default: lambda shape, args: torch.zeros(shape),
    ops.aten.ne.Tensor: lambda shape, args: torch.zeros(shape) if args[0] is args[1] else None,
    ops.aten.eq.Tensor: lambda shape, args: torch.ones(shape) if args[0] is args[1] else None,
    ops.aten.eq.Scalar: lambda shape, args: torch.zeros(shape) if compares_to_infinity(args) else None,
    ops.aten.ne.Scalar: lambda shape, args: torch.ones(shape) if compares_to_infinity(args) else None,
}


def stand_in(tensor: torch.Tensor) -> torch.Tensor:
    """A real tensor for one whose numbers are unknown: halves, ones, true."""
    with _disable_current_modes():
        return torch.full(tuple(tensor.shape), 0.5 if tensor.is_floating_point() else 1, dtype=tensor.dtype)
