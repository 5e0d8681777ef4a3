"""A model as its trial needs it: in training, its attention a stand-in, layers of each kind computed, NaN watched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from open_r1.models.text_attention import set_text_attention
from open_r1.trainer.distributed import gathered
from open_r1.trainer.forward.carried_state import decoder_layers
from open_r1.trainer.forward.layer_kinds import kind_of_layer
from open_r1.trainer.forward.stand_ins import Mixing, Trial, forward_of


@contextmanager
def each_kind(layers: Sequence[torch.nn.Module], trial: Trial) -> Iterator[None]:
    """Inside this context the first, second and last layers of a kind compute, and others return what these did."""
    kinds: dict[tuple[Any, ...], list[torch.nn.Module]] = {}
    for number, layer in enumerate(layers):
        kinds.setdefault(kind_of_layer(layer, number), []).append(layer)
    with ExitStack() as stack:
        for alike in kinds.values():
            results: list[Any] = []
            for layer in alike:
                tried = layer in (*alike[:2], alike[-1])
                stack.enter_context(forward_of(layer, partial(once, layer, layer.forward, trial, tried, results)))
        yield


def once(
    layer: torch.nn.Module,
    forward: Callable[..., Any],
    trial: Trial,
    tried: bool,
    results: list[Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """A layer's result, computed if it is `tried`, else that of the one of its kind before it."""
    trial.called.add(layer)
    trial.options |= {name for name, value in kwargs.items() if not torch.is_tensor(value)}
    if tried:
        with gathered(layer.parameters()):
            results[:] = [forward(*args, **kwargs)]
    return results[0]


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the innermost module that spreads NaN from token to token raises Mixing."""

    def spoilt(values: Any) -> float:
        if isinstance(values, dict):
            values = list(values.values())
        if isinstance(values, (list, tuple)):
            return max(map(spoilt, values), default=0.0)
        is_number = torch.is_tensor(values) and values.is_floating_point() and values.numel()
        return float(values.isnan().float().mean()) if is_number else 0.0

    def look(name: str, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        before = max(spoilt(args), spoilt(kwargs))
        if before and spoilt(output) > 1.2 * before:
            raise Mixing(f"{type(module).__name__} ({name}) mixes tokens")

    names = {module: name for name, module in model.named_modules()}
    inside = [module for layer in decoder_layers(model) for module in layer.modules()]
    handles = [m.register_forward_hook(partial(look, names[m]), with_kwargs=True) for m in inside]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def text_attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Inside this context the text model's attention is one of transformers' registry."""
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    before = [(config, config._attn_implementation) for config in configs.values()]
    set_text_attention(model, implementation)
    try:
        yield
    finally:
        for config, own in before:
            config._attn_implementation_internal = own


@contextmanager
def as_in_training(model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the text model is in training mode; what it counts there is taken back."""
    training = {module: module.training for module in model.modules()}
    counted = {buffer: buffer.clone() for buffer in model.get_decoder().buffers()}
    model.train()
    try:
        yield
    finally:
        for module, before in training.items():
            module.training = before
        for buffer, before in counted.items():
            buffer.copy_(before)
