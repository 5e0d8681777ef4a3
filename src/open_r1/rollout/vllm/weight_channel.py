"""The way that weights travel from the trainer to a server's workers: a process group of their own.

NCCL between GPUs, gloo between CPUs; the trainer's own process group does not know of it. Both sides listen on the
address by which they reach each other alone, so on loopback where they share a machine.
"""

import socket
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore


def meeting_point(host: str, port: int, leads: bool, seconds: float) -> TCPStore:
    """Where both sides find each other: the trainer, which leads, listens on host:port for as long as it lives.

    Raises RuntimeError where the port is taken, or nobody listens there within `seconds`.
    """
    given = {"timeout": timedelta(seconds=seconds), "wait_for_workers": False}
    if not leads:
        return TCPStore(host, port, **given)
    try:
        listening = socket.create_server(
            (host, port), family=address_family(host)
        )  # torch's own listens on all addresses
    except OSError as error:
        raise RuntimeError(f"{host}:{port} cannot be listened on ({error})") from error
    return TCPStore(host, port, is_master=True, master_listen_fd=listening.detach(), **given)


def channel(point: TCPStore, name: str, rank: int, ranks: int, device: torch.device, seconds: float) -> Any:
    """The process group that weights travel over, the trainer being rank 0; each meeting has a `name` of its own.

    Whoever waits longer than `seconds` for the others, here or in a broadcast, raises RuntimeError.
    """
    patience, store = timedelta(seconds=seconds), PrefixStore(name, point)
    if device.type == "cuda":
        from torch.distributed import ProcessGroupNCCL  # not in a build for CPUs

        return ProcessGroupNCCL(store, rank, ranks, patience)
    options = ProcessGroupGloo._Options()
    options._timeout = patience
    options._devices = [ProcessGroupGloo.create_device(hostname=address_towards(point.host))]
    return ProcessGroupGloo(store, rank, ranks, options)


def address_towards(host: str) -> str:
    """The address of this machine as `host` reaches it.

    >>> address_towards("127.0.0.1")
    '127.0.0.1'
    """
    with socket.socket(address_family(host), socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def address_family(host: str) -> socket.AddressFamily:
    """IPv4 or IPv6, as the name of a host resolves."""
    return socket.getaddrinfo(host, None)[0][0]


def broadcast(group: Any, tensor: torch.Tensor) -> torch.Tensor:
    """From rank 0 to all others; returns the tensor when it is there."""
    group.broadcast(tensor, 0).wait()
    return tensor
