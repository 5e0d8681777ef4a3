"""The way that weights travel from the trainer to a server's workers: a process group of their own.

NCCL between GPUs, gloo between CPUs; the trainer's own process group does not know of it.
"""

from datetime import timedelta
from typing import Any

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore


def meeting_point(host: str, port: int, leads: bool, seconds: float) -> TCPStore:
    """Where both sides find each other: the trainer, which leads, listens on host:port for as long as it lives.

    Raises RuntimeError where the port is taken, or nobody listens there within `seconds`.
    """
    patience = timedelta(seconds=seconds)
    return TCPStore(host, port, is_master=leads, timeout=patience, wait_for_workers=False)


def channel(point: TCPStore, name: str, rank: int, ranks: int, device: torch.device, seconds: float) -> Any:
    """The process group that weights travel over, the trainer being rank 0; each meeting has a `name` of its own.

    Whoever waits longer than `seconds` for the others, here or in a broadcast, raises RuntimeError.
    """
    patience, store = timedelta(seconds=seconds), PrefixStore(name, point)
    if device.type == "cuda":
        from torch.distributed import ProcessGroupNCCL  # not in a build for CPUs

        return ProcessGroupNCCL(store, rank, ranks, patience)
    return ProcessGroupGloo(store, rank, ranks, patience)


def broadcast(group: Any, tensor: torch.Tensor) -> torch.Tensor:
    """From rank 0 to all others; returns the tensor when it is there."""
    group.broadcast(tensor, 0).wait()
    return tensor
