"""Iterate over the policy's weights under their published names: gathered under ZeRO-3, adapters merged."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from open_r1.models.model_parts import bare_model
from open_r1.rollout.vllm.checkpoint_names import Weights, as_published

Gather = Callable[[list[torch.nn.Parameter]], AbstractContextManager[Any]]
Shape = tuple[str, torch.dtype, tuple[int, ...]]


def policy_weights(model: torch.nn.Module, gather: Gather, merged: bool = True) -> Weights:
    """(published name, tensor) of every weight, a tied one once. All ranks must iterate to the end: gathering is
    collective.

    `gather` is a context in which ZeRO-3's parameters are whole. A LoRA weight is merged into a copy: merging and
    unmerging in place, as TRL 1.16 does, leaves a rounding error in the base weights each time. Not `merged`: the
    weights below the adapters.
    """
    base = bare_model(model)
    return as_published(base, _gathered(base, gather, merged), [name for name, _ in _shapes(base)])


def weight_shapes(model: torch.nn.Module) -> list[Shape]:
    """(name, dtype, whole shape) of each weight of `policy_weights`, in the same order, without gathering."""
    base = bare_model(model)
    shapes = _shapes(base)
    published = as_published(base, shapes, [name for name, _ in shapes])
    return [(name, weight.dtype, tuple(weight.shape)) for name, weight in published]


def _gathered(base: torch.nn.Module, gather: Gather, merged: bool) -> Weights:
    """(name, tensor) of every parameter and saved buffer, while it is whole."""
    seen_ids: set[int] = set()
    for name, module in _modules(base):
        adapted = isinstance(module, BaseTunerLayer)
        with gather(list(module.parameters(recurse=adapted))):
            for leaf, weight in _adapted(module, merged) if adapted else _new_weights(module, seen_ids):
                yield f"{name}.{leaf}" if name else leaf, weight.data


def _adapted(layer: BaseTunerLayer, merged: bool) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters of a layer with an adapter, with or without it."""
    return merged_parameters(layer) if merged else list(layer.get_base_layer().named_parameters())


def _shapes(base: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """(name, empty tensor on no device) of each of them, in the order of `_gathered`."""
    seen_ids: set[int] = set()
    return [
        (f"{name}.{leaf}" if name else leaf, torch.empty(whole_shape(weight), dtype=weight.dtype, device="meta"))
        for name, module in _modules(base)
        for leaf, weight in _new_weights(
            module.get_base_layer() if isinstance(module, BaseTunerLayer) else module, seen_ids
        )
    ]


def whole_shape(weight: torch.Tensor) -> tuple[int, ...]:
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


def _new_weights(module: torch.nn.Module, seen_ids: set[int]) -> list[tuple[str, torch.Tensor]]:
    """A module's own parameters, and buffers that are saved, whose `id` is not in `seen_ids`; adds them to it."""
    unsaved = module._non_persistent_buffers_set
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    new = [(name, weight) for name, weight in own if name not in unsaved and id(weight) not in seen_ids]
    seen_ids.update(id(weight) for _, weight in new)
    return new
