"""The process group that sends weights from the trainer to a server's workers, apart from the trainer's own group.

NCCL between GPUs, gloo between CPUs. Each side listens only on the address by which the other reaches it: on loopback
where they share a machine.
"""

import socket
from datetime import timedelta
from typing import Any

import torch
from accelerate.utils import patch_environment
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore


def open_store(host: str, port: int, listens: bool, seconds: float) -> TCPStore:
    """The store by which both sides find each other: the trainer `listens` on host:port until it exits.

    Raises RuntimeError where the port is taken, or nobody listens there within `seconds`.
    """
    options = {"timeout": timedelta(seconds=seconds), "wait_for_workers": False}
    if not listens:
        return TCPStore(host, port, **options)
    try:  # a socket of our own, as torch's listens on all addresses
        server = socket.create_server((host, port), family=address_family(host))
    except OSError as error:
        raise RuntimeError(f"{host}:{port} cannot be listened on ({error})") from error
    return TCPStore(host, port, is_master=True, master_listen_fd=server.detach(), **options)


def join_channel(store: TCPStore, name: str, rank: int, ranks: int, device: torch.device, seconds: float) -> Any:
    """The process group for weights; the trainer is rank 0, and each new group has another `name`.

    Raises RuntimeError after waiting `seconds` for the others, here or in a broadcast.
    """
    timeout, group_store = timedelta(seconds=seconds), PrefixStore(name, store)
    if device.type == "cuda":
        from torch.distributed import ProcessGroupNCCL  # not in a build for CPUs

        # read by the constructor: waits end at the timeout with an error; else a watchdog ends the whole process
        with patch_environment(TORCH_NCCL_BLOCKING_WAIT="1"):
            return ProcessGroupNCCL(group_store, rank, ranks, timeout)
    options = ProcessGroupGloo._Options()
    options._timeout = timeout
    options._devices = [ProcessGroupGloo.create_device(hostname=address_towards(store.host))]
    return ProcessGroupGloo(group_store, rank, ranks, options)


def address_towards(host: str) -> str:
    """The address by which `host` reaches this machine.

    >>> address_towards("127.0.0.1")
    '127.0.0.1'
    """
    with socket.socket(address_family(host), socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def address_family(host: str) -> socket.AddressFamily:
    """IPv4 or IPv6, as the host's name resolves."""
    return socket.getaddrinfo(host, None)[0][0]


def broadcast(group: Any, tensor: torch.Tensor) -> torch.Tensor:
    """Send a tensor from rank 0 to all others, who overwrite theirs; returns it once it has arrived."""
    group.broadcast(tensor, 0).wait()
    return tensor
