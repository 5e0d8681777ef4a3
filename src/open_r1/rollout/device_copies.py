"""Copies to a device that the host need not wait for."""

from collections.abc import Mapping

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`. To CUDA it goes from pinned memory: from other memory even a copy that is asked not to
    block makes the host wait."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, non_blocking=True)


def fields_to_device(fields: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """A copy of named tensors on a device, each as `to_device` makes it."""
    return {name: to_device(value, device) for name, value in fields.items()}
