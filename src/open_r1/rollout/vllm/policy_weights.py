"""Iterate over the policy's weights under their checkpoint names: gathered under ZeRO-3, adapters merged."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

Gather = Callable[[list[torch.nn.Parameter]], AbstractContextManager[Any]]
Weights = Iterator[tuple[str, torch.Tensor]]


def policy_weights(model: torch.nn.Module, gather: Gather) -> Weights:
    """(name, tensor) of every parameter, a tied one once. All ranks must iterate to the end: gathering is collective.

    `gather` is a context in which ZeRO-3's parameters are whole. A LoRA weight is merged into a copy: merging and
    unmerging in place, as TRL 1.16 does, leaves a rounding error in the base weights each time.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    seen_ids: set[int] = set()
    for name, module in _modules(base):
        adapted = isinstance(module, BaseTunerLayer)
        with gather(list(module.parameters(recurse=adapted))):
            for leaf, weight in merged_parameters(module) if adapted else _new_parameters(module, seen_ids):
                yield f"{name}.{leaf}" if name else leaf, weight.data


def weight_shapes(model: torch.nn.Module) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    """(name, dtype, whole shape) of each weight of `policy_weights`, in the same order, without gathering."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    seen_ids: set[int] = set()
    return [
        (f"{name}.{leaf}" if name else leaf, weight.dtype, whole_shape(weight))
        for name, module in _modules(base)
        for leaf, weight in _new_parameters(
            module.get_base_layer() if isinstance(module, BaseTunerLayer) else module, seen_ids
        )
    ]


def whole_shape(weight: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a whole parameter, of which ZeRO-3 may hold a shard here."""
    return tuple(getattr(weight, "ds_shape", weight.shape))


def merged_parameters(layer: BaseTunerLayer) -> list[tuple[str, torch.nn.Parameter]]:
    """Copies of a layer's parameters with its active adapters merged; the layer itself stays bitwise the same."""
    base = layer.get_base_layer()
    originals = {name: parameter.data for name, parameter in base.named_parameters()}
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            parameter.data = originals[name].clone()
        layer.merge()
        result = [(name, torch.nn.Parameter(p.data, requires_grad=False)) for name, p in base.named_parameters()]
        layer.merged_adapters.clear()
        for name, parameter in base.named_parameters():
            parameter.data = originals[name]
    return result


def _modules(base: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """(name, module) of the model as they were before adapters wrapped them."""
    if isinstance(base, ModulesToSaveWrapper):
        base = base.modules_to_save[base.active_adapters[0]]
    yield prefix, base
    if isinstance(base, BaseTunerLayer):
        return
    for name, child in base.named_children():
        yield from _modules(child, f"{prefix}.{name}" if prefix else name)


def _new_parameters(module: torch.nn.Module, seen_ids: set[int]) -> list[tuple[str, torch.nn.Parameter]]:
    """A module's own parameters whose `id` is not in `seen_ids`; adds them to it."""
    new = [(name, weight) for name, weight in module.named_parameters(recurse=False) if id(weight) not in seen_ids]
    seen_ids.update(id(weight) for _, weight in new)
    return new
