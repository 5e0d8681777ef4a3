"""What of torch and TRL does not work on fake CUDA tensors, and what stands in for it while a rehearsal runs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.cuda.amp.common
import trl.kernels.chunked_logprob as fused_head
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._device import _device_constructors

from open_r1.models import flash_kernel
from open_r1.rehearse.attention import attention_on_cpu, attention_on_cuda
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.kernel_rules import TritonHead
from open_r1.rehearse.quantized_kernels import paged_stand_ins
from open_r1.rehearse.values import forget

AMPERE = (8, 0)  # of an A100; a T4's is (7, 5)
torch_tensor, torch_apply = torch.tensor, torch.nn.Module._apply


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside this context an attribute has another value."""
    own = vars(owner).get(name, owner)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is owner:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def ways_round(device: FakeDevice, kernels: str = "cuda") -> Iterator[None]:
    """Inside this context torch and TRL work on the fake device. `kernels`: "cuda", or "cpu" for those of the CPU,
    whose memory can be measured here."""
    _device_constructors()  # a list that torch makes once: of its own functions, not of those that stand in
    common = sys.modules["torch.cuda.amp.common"]
    attention = {"cuda": attention_on_cuda, "cpu": attention_on_cpu}[kernels]
    stand_ins = [
        (torch.nn.functional, "scaled_dot_product_attention", attention),
        (common, "amp_definitely_not_available", lambda: False),  # else autocast turns itself off
        (torch.cuda, "is_bf16_supported", lambda *args, **options: True),
        (torch.cuda, "get_device_capability", lambda *args: AMPERE),
        (torch.cuda, "synchronize", lambda *args: device.synchronisations.wait("torch.cuda.synchronize", device.now)),
        (torch, "tensor", tensor_of_numbers),
        (torch.nn.Module, "_apply", apply_to_fakes),
        (FakeTensor, "tolist", reading(device, "tolist")),
        (FakeTensor, "numpy", reading(device, "numpy")),
    ]
    if kernels == "cuda":
        stand_ins += [(fused_head, name, TritonHead()) for name in ("_forward_kernel", "_backward_kernel")]
    stand_ins.append((fused_head, "_TRITON_AVAILABLE", kernels == "cuda"))
    stand_ins += paged_stand_ins()
    stand_ins.append((flash_kernel, "has_flash", lambda place: kernels == "cuda" and place.type == "cuda"))
    with ExitStack() as stack:
        for owner, name, value in stand_ins:
            stack.enter_context(replaced(owner, name, value))
        yield


def reading(device: FakeDevice, name: str) -> Callable[..., Any]:
    """A method of tensors that reads all numbers on the host."""

    def read(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        device.wait(name, tensor.device)
        return getattr(device.leave(tensor), name)(*args, **options)

    return read


def tensor_of_numbers(data: Any, *args: Any, device: Any = None, **options: Any) -> torch.Tensor:
    """`torch.tensor`, which reads the elements of a list without asking anyone, and on the thread of a backward pass
    would start CUDA."""
    if isinstance(data, list | tuple):
        data = [part.item() if isinstance(part, FakeTensor) else part for part in data]
    made = torch_tensor(data, *args, **options)
    return made if device is None else made.detach().to(device).requires_grad_(made.requires_grad)


def apply_to_fakes(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True):
    """`Module._apply`, which would exchange the contents of fake parameters: here a module gets new ones, and modules
    that share one share the new one. Weights are unknown from here on."""
    for child in module.children() if recurse else ():
        child._apply(function)
    own, buffers = module._parameters, module._buffers
    if any(isinstance(parameter, FakeTensor) for parameter in own.values()):
        own.update({name: applied(function, parameter) for name, parameter in own.items() if parameter is not None})
        buffers.update({name: function(buffer) for name, buffer in buffers.items() if buffer is not None})
    else:
        torch_apply(module, function, recurse=False)
    for parameter in own.values():
        forget(parameter)
    return module


def applied(function: Callable[[torch.Tensor], torch.Tensor], parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """The parameter that a function makes of one, the same for each module that has it."""
    asked, made = getattr(parameter, "_applied", (None, None))
    if asked is function:
        return made
    with torch.no_grad():
        moved = function(parameter)
    if moved is not parameter:
        made = torch.nn.Parameter(moved, parameter.requires_grad)
        parameter._applied = (function, made)
        return made
    return parameter
