"""What tells a decoder layer from others: layers of one kind are alike, and one is tried for all."""

from types import FunctionType, MethodType
from typing import Any

import torch

OF_MODULES = set(vars(torch.nn.Module()))  # attributes that each module has


def kind_of_layer(layer: torch.nn.Module, number: int | None = None) -> tuple[Any, ...]:
    """What tells a layer from others: its modules' classes, settings and shapes; its own number is no difference."""
    number = getattr(layer, "layer_idx", None) if number is None else number

    def setting(value: Any, name: str = "") -> Any:
        if type(value) is int and value == number and ("layer" in name or name.endswith(("idx", "index"))):
            return "number"
        if isinstance(value, (list, tuple, set)):
            return type(value), tuple(map(setting, value))
        if isinstance(value, dict):
            return tuple((key, setting(part)) for key, part in value.items())
        if isinstance(value, (FunctionType, MethodType)):  # equal where code and what it is bound to are
            return value.__code__, type(getattr(value, "__self__", None)), closure(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return type(value), value
        return type(value)

    def closure(function: Any) -> Any:
        return tuple(setting(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ())

    return tuple(
        (
            name,
            type(module),
            tuple((key, setting(value, key)) for key, value in vars(module).items() if key not in OF_MODULES),
            tuple((key, getattr(p, "ds_shape", p.shape)) for key, p in module.named_parameters(recurse=False)),
            tuple((key, b.shape) for key, b in module.named_buffers(recurse=False)),
        )
        for name, module in layer.named_modules()
    )
