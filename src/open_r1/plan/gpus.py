"""GPUs by the names people type: memory, speed in half precision, bandwidth.

Figures are of the makers' data sheets: memory as it is sold, less the sixteenth that ECC takes of GDDR6 where it is on
by default (T4, A10, L4, L40S; NVIDIA's CUDA C++ Best Practices Guide); dense tensor-core operations with float32 sums,
not those "with sparsity"; NVIDIA Turing, Volta, Ampere, Ada, Hopper and Blackwell data sheets and architecture papers.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from open_r1.errors import UsageError


@dataclass(frozen=True)
class Gpu:
    """A GPU: GiB of memory that CUDA offers, 10^12 dense operations a second in half precision, GB/s of memory
    bandwidth; without `bfloat16` its half precision is float16."""

    memory: float
    teraflops: float
    bandwidth: float
    bfloat16: bool = True


KNOWN_GPUS: dict[str, Gpu] = {
    "t4": Gpu(15, 65, 320, bfloat16=False),
    "v100-16": Gpu(16, 125, 900, bfloat16=False),
    "v100-32": Gpu(32, 125, 900, bfloat16=False),
    "3090": Gpu(24, 71, 936),
    "4090": Gpu(24, 165.2, 1008),
    "5090": Gpu(32, 209.5, 1792),
    "a10": Gpu(22.5, 125, 600),
    "l4": Gpu(22.5, 121, 300),
    "a6000": Gpu(48, 154.8, 768),
    "rtx-6000-ada": Gpu(48, 364.2, 960),
    "l40s": Gpu(45, 362, 864),
    "a100-40": Gpu(40, 312, 1555),
    "a100-80": Gpu(80, 312, 2039),
    "h100-pcie": Gpu(80, 756, 2000),
    "h100": Gpu(80, 989, 3350),
    "h200": Gpu(141, 989, 4800),
    "b200": Gpu(180, 2250, 7700),
}


def gpu_of(name: str) -> Gpu:
    """The GPU of this name, in any case. Raises UsageError with the nearest names."""
    if name.lower() in KNOWN_GPUS:
        return KNOWN_GPUS[name.lower()]
    holding = [known for known in KNOWN_GPUS if name.lower() in known]
    near = holding or get_close_matches(name.lower(), KNOWN_GPUS, n=3)
    raise UsageError(f"--gpu: got {name}, expected one of {', '.join(near or KNOWN_GPUS)}; or give --gpu_memory")
