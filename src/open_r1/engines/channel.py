"""The way that weights travel from the trainer to a server's workers: a process group of their own.

NCCL between GPUs, gloo between CPUs; the trainer's own process group does not know of it.
"""

from typing import Any

import torch


def channel(host: str, port: int, rank: int, ranks: int, device: torch.device) -> Any:
    """The process group that weights travel over; the trainer is rank 0. Returns when all `ranks` have joined."""
    from vllm.distributed.utils import stateless_init_torch_distributed_process_group  # vLLM takes seconds to import

    backend = "nccl" if device.type == "cuda" else "gloo"
    return stateless_init_torch_distributed_process_group(host, port, rank, ranks, backend)


def broadcast(group: Any, tensor: torch.Tensor) -> torch.Tensor:
    """From rank 0 to all others; returns the tensor when it is there."""
    group.broadcast(tensor, 0).wait()
    return tensor
