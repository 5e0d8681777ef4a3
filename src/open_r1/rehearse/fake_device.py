"""The dispatch of a rehearsal: what is on the CPU runs as it is, what is on `cuda` on fake tensors, with the books.

Fake tensors have a shape, a type and a device, and no memory. All tensors that come from or go to the CPU are real
there, so the code around the model works on real rows, lengths and files.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import ops
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from open_r1.rehearse.kernel_rules import KERNEL_RULES
from open_r1.rehearse.ledger import Ledger
from open_r1.rehearse.places import place_of_call
from open_r1.rehearse.quantized_kernels import kernels_of
from open_r1.rehearse.synchronisations import Synchronisations
from open_r1.rehearse.values import (
    UnknownNumbers,
    follow,
    for_real,
    is_small,
    known,
    mapped,
    remember,
    stand_in,
    tensors_within,
)
from open_r1.rehearse.work import Work

SHAPED_BY_NUMBERS = {  # the shape of what these return depends on numbers, for which the host waits
    ops.aten.nonzero,
    ops.aten._unique2,
    ops.aten.unique_consecutive,
    ops.aten.unique_dim,
    ops.aten.bincount,
    ops.aten.masked_select,
    ops.aten.repeat_interleave,
}
WRITES = {ops.aten.index_put, ops.aten.index_put_, ops.aten._index_put_impl_}
WAITS = {ops.aten.multinomial.default: 2}  # it asks whether its numbers are probabilities
PINNED_MARK = "_pinned"  # the attribute of a real tensor in pinned memory


class FakeDevice(TorchDispatchMode):
    """Counts bytes (`ledger`), waits of the host (`synchronisations`) and kernels (`work`) of `cuda`.

    `guesses`: places where code read a number that is unknown, -> how often.
    """

    def __init__(self, fakes: FakeTensorMode):
        super().__init__()
        self.fakes = fakes
        self.ledger, self.synchronisations, self.work = Ledger(), Synchronisations(), Work()
        self.guesses: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # torch would wrap each dispatch, and nothing is compiled here
        return False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Inside this context bytes, waits and kernels are those of a phase."""
        with self.ledger.within(name):
            yield

    @property
    def now(self) -> str:
        return self.ledger.phase

    def wait(self, what: str, device: torch.device, times: int = 1) -> None:
        """The host waits for a device, if that is the fake one."""
        if device.type == "cuda":
            self.synchronisations.wait(what, self.now, times)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is ops.prim.device.default:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        options = dict(kwargs or {})
        tensors = tensors_within(args, options)
        goes_to, on_device = options.get("device"), any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if not on_device and (goes_to is None or torch.device(goes_to).type != "cuda"):
            return self.on_cpu(func, args, options)
        packet = func.overloadpacket
        if packet is ops.aten._to_copy:
            self.count_copy(tensors[0], goes_to, options)
            if goes_to is not None and torch.device(goes_to).type == "cpu":
                return self.on_cpu(func, (self.leave(tensors[0]),), options)
        if packet is ops.aten.copy_ and isinstance(args[1], FakeTensor) != isinstance(args[0], FakeTensor):
            return self.copy_between(*args)
        if func is ops.aten._local_scalar_dense.default:
            return self.number(args[0])
        if packet in (ops.aten.equal, ops.aten.allclose):
            return self.are_equal(func, *args, **options)
        if len(tensors) > 1:
            self.count_indices(tensors)
        args, options = mapped(self.enter, tuple(args)), mapped(self.enter, options)
        if kernels := kernels_of(packet, args):
            with self:
                return kernels(*args, **options)
        if packet in SHAPED_BY_NUMBERS and options.get("output_size") is None:
            return self.shaped_by_numbers(func, args, options)
        if packet is ops.aten.index:
            args = (args[0], self.places_of_masks(args[1]))
        if packet in WRITES and args[2].numel() > 1 and any(map(is_mask, args[1])):
            self.wait("write by a mask", args[0].device)
        if func in WAITS:
            self.wait(packet.__name__, tensors[0].device, WAITS[func])
        return self.run(func, args, options)

    def on_cpu(self, func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """An operation on real tensors; memory of the CPU is pinned by name alone."""
        if func.overloadpacket is ops.aten.is_pinned:
            return getattr(args[0], PINNED_MARK, False)
        with _disable_current_modes():
            if func.overloadpacket in (ops.aten._pin_memory, ops.aten.pin_memory):
                pinned = args[0].clone()
                setattr(pinned, PINNED_MARK, True)
                return pinned
            return func(*args, **options)

    def run(self, func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """An operation on fake tensors."""
        rule = KERNEL_RULES.get(func.overloadpacket)
        if rule:
            rule(args)
        result = FAKES.get(func.overloadpacket, func)(*args, **options)
        outputs = [tensor for tensor in tensors_within(result) if isinstance(tensor, FakeTensor)]
        for tensor in outputs:
            if tensor.device.type == "cuda":
                self.ledger.add(tensor)
        self.work.add(self.now, func, args, options, result)
        follow(func, args, options, outputs)
        return result

    # ------------------------------------------------------------------------------- between the host and the device

    def enter(self, tensor: torch.Tensor) -> torch.Tensor:
        """A real tensor as a fake one that is still on the CPU."""
        if isinstance(tensor, FakeTensor) or tensor.device.type != "cpu":
            return tensor
        with _disable_current_modes():
            real = tensor.detach()
            fake = self.fakes.from_tensor(real, static_shapes=True)
        remember(fake, real)
        return fake

    def leave(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake tensor as a real one on the CPU; numbers that are unknown are stood in for."""
        real = known(tensor)
        if real is None:
            self.guesses[str(place_of_call())] += 1
            return stand_in(tensor)
        with _disable_current_modes():
            return real.clone()

    def count_copy(self, tensor: torch.Tensor, goes_to: Any, options: Mapping[str, Any]) -> None:
        """Count a copy between the CPU and the device."""
        if goes_to is None or torch.device(goes_to).type == tensor.device.type:
            return
        if tensor.device.type == "cuda":
            self.wait("copy to the host", tensor.device)
        else:
            blocking = not options.get("non_blocking")
            self.synchronisations.copy(self.now, blocking, getattr(tensor, PINNED_MARK, False))

    def copy_between(self, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        """`target.copy_(source)` between the CPU and the device."""
        self.count_copy(source, target.device, {"non_blocking": non_blocking})
        if target.device.type == "cpu":
            with _disable_current_modes():
                return target.copy_(self.leave(source))
        self.run(ops.aten.copy_.default, (target, self.enter(source)), {})
        if is_small(target):
            with _disable_current_modes():
                remember(target, source.detach().to(target.dtype).expand(target.shape).clone())
        return target

    def count_indices(self, tensors: Sequence[torch.Tensor]) -> None:
        """Count tensors of the CPU, but single numbers, that an operation of the device moves there itself."""
        for tensor in tensors:
            if not isinstance(tensor, FakeTensor) and tensor.dim() and tensor.dtype in (torch.long, torch.bool):
                self.synchronisations.copy(self.now, blocking=True, pinned=False)

    # --------------------------------------------------------------------------------------- what depends on numbers

    def number(self, tensor: torch.Tensor) -> Any:
        """The number of a tensor of one element."""
        self.wait("reading a number", tensor.device)
        real = self.leave(tensor)
        with _disable_current_modes():
            return real.item()

    def are_equal(self, func: Any, one: torch.Tensor, other: torch.Tensor, *args: Any, **options: Any) -> bool:
        """`torch.equal` and `torch.allclose`; of unknown numbers true."""
        self.wait(f"torch.{func.overloadpacket.__name__}", one.device)
        if known(one) is None or known(other) is None:
            self.guesses[str(place_of_call())] += 1
            return one.shape == other.shape
        return for_real(func, (one, other, *args), options)

    def shaped_by_numbers(self, func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """An operation whose result has a shape that depends on numbers. Raises UnknownNumbers."""
        tensors, name = tensors_within(args, options), func.overloadpacket.__name__
        if func.overloadpacket is ops.aten.masked_select and args[0].shape == args[1].shape:
            return self.run(ops.aten.index.Tensor, (args[0], self.places_of_masks([args[1]])), {})
        self.wait(name, tensors[0].device)
        if any(known(tensor) is None for tensor in tensors):
            raise UnknownNumbers(f"{name} of numbers that a rehearsal does not know, at {place_of_call()}")
        return mapped(lambda real: self.made_of(real, tensors[0].device), for_real(func, args, options))

    def made_of(self, real: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A fake tensor on the device with known numbers."""
        fake = self.run(ops.aten.empty.memory_format, (list(real.shape),), {"dtype": real.dtype, "device": device})
        remember(fake, real)
        return fake

    def places_of_masks(self, indices: Sequence[Any]) -> list[Any]:
        """Indices with each mask replaced by the places where it is true. Raises UnknownNumbers."""
        found: list[Any] = []
        for index in indices:
            if not is_mask(index):
                found.append(index)
                continue
            self.wait("index by a mask", index.device)
            real = known(index)
            if real is None:
                raise UnknownNumbers(f"a mask that a rehearsal does not know, at {place_of_call()}")
            with _disable_current_modes():
                places = real.nonzero().unbind(1)
            found += [self.made_of(place, index.device) for place in places]
        return found


def grouped_product(one: torch.Tensor, other: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """`_grouped_mm` of any type: torch's fake one takes bfloat16 alone, the kernel float32 and float16 too."""
    half = ops.aten._grouped_mm(one.to(torch.bfloat16), other.to(torch.bfloat16), *args, **options)
    return half.to(options.get("out_dtype") or one.dtype)


FAKES = {ops.aten._grouped_mm: grouped_product}  # in place of torch's own


def is_mask(index: torch.Tensor | None) -> bool:
    """Whether an index chooses by true and false."""
    return index is not None and index.dtype in (torch.bool, torch.uint8)
