"""The policy's weights under the names of its checkpoint, one at a time: gathered under ZeRO-3, adapters merged."""

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
    """(name, tensor) of every parameter, a tied one once. All ranks must exhaust it: gathering is collective.

    `gather` holds parameters whole while they are read. A LoRA weight is merged into a copy: merging and unmerging in
    place, as TRL 1.16 does, leaves a rounding error in the base weights each time.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    seen: set[int] = set()
    for name, module in _modules(base):
        adapted = isinstance(module, BaseTunerLayer)
        with gather(list(module.parameters(recurse=adapted))):
            for leaf, weight in merged(module) if adapted else _unseen(module, seen):
                yield f"{name}.{leaf}" if name else leaf, weight.data


def shapes(model: torch.nn.Module) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    """(name, dtype, whole shape) of what `policy_weights` yields, in its order, without gathering anything."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    seen: set[int] = set()
    return [
        (f"{name}.{leaf}" if name else leaf, weight.dtype, whole_shape(weight))
        for name, module in _modules(base)
        for leaf, weight in _unseen(module.get_base_layer() if isinstance(module, BaseTunerLayer) else module, seen)
    ]


def whole_shape(weight: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter, also where ZeRO-3 holds a shard of it here."""
    return tuple(getattr(weight, "ds_shape", weight.shape))


def merged(layer: BaseTunerLayer) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters of a layer with its active adapters merged; the layer itself stays bit for bit as it was."""
    base = layer.get_base_layer()
    kept = {name: parameter.data for name, parameter in base.named_parameters()}
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            parameter.data = kept[name].clone()
        layer.merge()
        result = [(name, torch.nn.Parameter(p.data, requires_grad=False)) for name, p in base.named_parameters()]
        layer.merged_adapters.clear()
        for name, parameter in base.named_parameters():
            parameter.data = kept[name]
    return result


def _modules(base: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Modules of the model as they were before adapters wrapped them, with their names then."""
    if isinstance(base, ModulesToSaveWrapper):
        base = base.modules_to_save[base.active_adapters[0]]
    yield prefix, base
    if isinstance(base, BaseTunerLayer):
        return
    for name, child in base.named_children():
        yield from _modules(child, f"{prefix}.{name}" if prefix else name)


def _unseen(module: torch.nn.Module, seen: set[int]) -> list[tuple[str, torch.nn.Parameter]]:
    """A module's own parameters but those in `seen`, the ids of parameters so far, which grows."""
    new = [(name, weight) for name, weight in module.named_parameters(recurse=False) if id(weight) not in seen]
    seen.update(id(weight) for _, weight in new)
    return new
