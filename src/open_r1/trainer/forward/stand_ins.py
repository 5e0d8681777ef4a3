"""Stand-ins for attention and for layers with a state that mix no tokens, for the trial of a model's layers.

They refuse what the packed attention would leave out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import torch

from open_r1.trainer.forward.carried_state import call_names, calling_layers
from open_r1.trainer.forward.layer_kinds import kind_of_layer
from open_r1.trainer.forward.mask_rules import why_other_mask

POSITIONS = {"position_ids", "position_embeddings", "past_key_values", "cache_position"}  # read before attention


class Mixing(Exception):
    """Why groups of a model cannot be packed."""


@dataclass
class Trial:
    """Stands where a layout would in the trial calls of a model.

    `called` are the decoder layers that were called; `options` the names of what they were handed besides tensors;
    `states` layers that carry a state, one of each kind, and their inputs (N, L, D).
    """

    prefix_tokens = 0
    called: set[torch.nn.Module] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    states: dict[tuple[Any, ...], tuple[torch.nn.Module, torch.Tensor]] = field(default_factory=dict)


def stand_in_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    shared_prefix: Trial | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """In place of attention: by query (N, H, L, E) and key (N, K, L, E) a token scales its own value (N, K, L, D)."""
    name = type(module).__name__
    if not isinstance(shared_prefix, Trial):
        raise Mixing(f"{name} is not handed the layout of a packed group")
    if key.shape[2] != query.shape[2]:
        raise Mixing(f"{name} sees {key.shape[2]} keys from {query.shape[2]} tokens: cross attention")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise Mixing(f"{name} is not causal")
    for option, given in kwargs.items():
        if option not in POSITIONS | shared_prefix.options and given is not None and not isinstance(given, bool):
            raise Mixing(f"{name} takes {option}, which packed attention does not")
    if reason := why_other_mask(module, attention_mask, sliding_window):
        raise Mixing(reason)
    heads = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(heads, dim=1), value.repeat_interleave(heads, dim=1)
    scale = 1 + 4 * (query[..., ::2].mean(dim=-1, keepdim=True) + key[..., ::2].mean(dim=-1, keepdim=True))
    return (scale * value).transpose(1, 2).contiguous(), None


@contextmanager
def stand_ins(layers: Sequence[torch.nn.Module], trial: Trial) -> Iterator[None]:
    """Inside this context layers that carry a state hand each token on, and are noted in the trial."""
    calling = {state: outer for layer in layers for state, outer in calling_layers(layer).items()}
    handles = [layer.register_forward_pre_hook(check_layout, with_kwargs=True) for layer in set(calling.values())]
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        for state in calling:
            stack.enter_context(forward_of(state, partial(stand_in_state, state, state.forward, trial)))
        yield


def check_layout(layer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook: raises Mixing if a layer that calls one with a state has no layout for it."""
    if not isinstance(kwargs.get("shared_prefix"), Trial):
        raise Mixing(f"{type(layer).__name__} is not handed the layout of a packed group")


def stand_in_state(
    layer: torch.nn.Module, forward: Callable[..., torch.Tensor], trial: Trial, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """In place of a layer with a state: its input (N, L, D)."""
    names, given = call_names(type(layer)), signature(forward).bind(*args, **kwargs).arguments
    more = set(given) - {*names, "kwargs"}
    if unknown := [name for name in more if given[name] is not None]:
        raise Mixing(f"{type(layer).__name__} takes {', '.join(sorted(unknown))}, which is not cut for packed groups")
    trial.states.setdefault(kind_of_layer(layer), (layer, given[names.hidden_states]))
    return given[names.hidden_states]


@contextmanager
def forward_of(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside this context a module has another `forward`."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
