"""CUDA without a device: a context in which tensors on `cuda` are fake and everything else is real.

torch's `FakeTensorMode` gives them shapes, types and a device. What it lacks for a whole training step is added here:
hooks for the backward pass (`shim.cpp`, compiled once), stand-ins (`ways_round`), numbers (`values`), books
(`fake_device`). On exit everything is as before.
"""

import ctypes
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import cpp_extension

from open_r1.errors import UsageError
from open_r1.rehearse.fake_device import FakeDevice
from open_r1.rehearse.ways_round import ways_round

SHIM = Path(__file__).with_name("shim.cpp")
NAME = "open_r1_no_device"


def why_no_backward() -> str | None:
    """What is missing to rehearse a backward pass, with the remedy, or None."""
    compiler = cpp_extension.get_cxx_compiler()
    missing = [] if shutil.which(compiler) else [f"no C++ compiler ({compiler})"]
    missing += [] if cpp_extension.is_ninja_available() else ["no ninja"]
    if not missing:
        return None
    return (
        f"got {' and '.join(missing)}, expected both: without them no backward pass can be rehearsed, "
        "neither its errors nor its memory; install them (apt-get install g++, pip install ninja); "
        "python -m open_r1.plan estimates memory without them"
    )


@cache
def hooks() -> ctypes.CDLL:
    """The compiled shim. Raises UsageError where it cannot be compiled."""
    if reason := why_no_backward():
        raise UsageError(reason)
    try:
        library = cpp_extension.load(NAME, [str(SHIM)], extra_cflags=["-O0"], is_python_module=False)
    except (RuntimeError, OSError) as error:
        text = str(error).splitlines()
        raise UsageError(f"{SHIM.name}: got an error from the C++ compiler: {text[0]}; try another by $CXX") from error
    return ctypes.CDLL(library)


@contextmanager
def fake_cuda(kernels: str = "cuda") -> Iterator[FakeDevice]:
    """Inside this context `cuda` is a fake device, whose books are the context's value; `kernels` as in `ways_round`.

    Raises UsageError without a compiler.
    """
    shim = hooks()
    device = FakeDevice(FakeTensorMode())
    shim.install()
    try:
        with ways_round(device, kernels), device.fakes, device:
            yield device
    finally:
        shim.restore()
