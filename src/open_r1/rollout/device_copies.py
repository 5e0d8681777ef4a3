"""Copies to a device that the host need not wait for."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`. To CUDA it goes from pinned memory: from other memory even a copy that is asked not to
    block makes the host wait."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, non_blocking=True)
