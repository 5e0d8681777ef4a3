"""Shared prefixes through layers that carry a state: gated delta rules, state-space models, short convolutions.

Such a layer's output for a suffix depends on the prefix only through a recurrent state and the last inputs of a
convolution. Over the layout of `trainer.forward.packing` transformers' own layer runs twice, on the prefixes, then on
the suffixes from the states after their prefixes; what it takes for its cache is a `CarriedState`, which hands the
states on with their gradients. A prefix ends before the prompt's last token, with which each suffix begins, so the
state after it is the one that a suffix needs.

Some decoder layers keep keyword arguments from such a layer, so hooks on the decoder layer hand it the layout, for one
call. Checkpointing repeats that call, hooks included; where it repeats a part of a decoder layer alone, the hooks are
there. `test_carried_state.py` compares with padded rows.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from inspect import getmembers, isfunction, signature, unwrap
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from open_r1.trainer.forward.packing import Layout
from open_r1.trainer.forward.places import gather_tokens, split

CACHES = ("cache_params", "past_key_values")  # names of a layer's argument for its cache
UPDATES = {"update_conv_state", "update_recurrent_state"}  # methods of a cache that only layers with a state call


class CallNames(NamedTuple):
    """Names of the arguments of a layer that carries a state: hidden states (N, L, D), padding (N, L), cache."""

    hidden_states: str
    mask: str
    cache: str


@cache
def call_names(kind: type[torch.nn.Module]) -> CallNames | None:
    """The arguments of layers of this class if they carry a state through transformers' cache, else None."""
    functions = [unwrap(function) for _, function in getmembers(kind, isfunction)]
    if not any(UPDATES & set(function.__code__.co_names) for function in functions):
        return None
    names = list(signature(kind.forward).parameters)[1:]
    masks = [name for name in names if name.endswith("mask")]
    caches = [name for name in names if name in CACHES]
    return CallNames(names[0], masks[0], caches[0]) if masks and caches else None


def state_layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The layers in a module that carry a state."""
    return (layer for layer in module.modules() if call_names(type(layer)))


def calling_layers(layer: torch.nn.Module) -> dict[torch.nn.Module, torch.nn.Module]:
    """For each layer in `layer` that carries a state, the innermost one around it that checkpointing calls again."""
    calling = {}
    for outer in layer.modules():  # outer ones come first
        if outer is layer or isinstance(outer, GradientCheckpointingLayer):
            calling |= dict.fromkeys(state_layers(outer), outer)
    return calling


def decoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The decoder layers of the text model: the members of the lists of modules that it holds itself."""
    lists = (child for child in model.get_decoder().children() if isinstance(child, torch.nn.ModuleList))
    return [layer for members in lists for layer in members]


class CarriedState:
    """The cache of one layer for a call on prefixes and a call on their suffixes; gradients flow through it."""

    record_past = True  # keeps layers from their path for one token, which changes the states in place

    def __init__(self, mask: torch.Tensor | None):
        """`mask` (B, P): the tokens of the prefixes, where some places hold none."""
        self.mask, self.shared = mask, False
        self.conv_states: dict[int, torch.Tensor] = {}
        self.recurrent_states: dict[int, torch.Tensor] = {}

    @property
    def layers(self) -> "CarriedState":
        return self

    def __getitem__(self, layer_idx: int) -> "CarriedState":
        return self

    def has_previous_state(self, *args: Any, **kwargs: Any) -> bool:
        return self.shared

    def update_conv_state(
        self, conv_states: torch.Tensor, layer_idx: int, conv_kernel_size: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """`conv_states` (N, channels, L) behind the inputs of the prefix that the convolution reaches."""
        if self.shared:
            return torch.cat([self.conv_states[state_idx], conv_states], dim=-1)
        if self.mask is not None:
            conv_states = conv_states.masked_fill(~self.mask[:, None], 0)  # where a projection adds a bias to padding
        reach = conv_kernel_size - 1
        padded = torch.nn.functional.pad(conv_states, (max(0, reach - conv_states.shape[-1]), 0))
        self.conv_states[state_idx] = padded[..., padded.shape[-1] - reach :]
        return conv_states

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        if not self.shared:
            self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states

    def share(self, layout: Layout) -> None:
        """From one state a prefix to one a suffix."""
        self.shared = True
        for states in (self.conv_states, self.recurrent_states):
            states.update({index: of_suffixes(state, layout) for index, state in states.items()})


def of_suffixes(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(B, ...) of prefixes -> (R, ...) of their suffixes."""
    if layout.suffixes_per_prefix is None:
        return states.index_select(0, layout.group)
    return states[:, None].expand(-1, layout.suffixes_per_prefix, *states.shape[1:]).flatten(0, 1)


def run_packed(
    forward: Callable[..., torch.Tensor], names: CallNames, layout: Layout, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """A layer's output (1, L, D) for a packed sequence: its `forward` over the prefixes, then over the suffixes.

    Left padding leaves the state of a shorter prefix as it is. Two tokens are the least of a call: layers take another
    path for one, without gradients in some kernels, and leave a mask of one place out.
    """
    hidden_states = signature(forward).bind(*args, **kwargs).arguments[names.hidden_states]
    left, (b, p, _, s) = layout.left_padded, layout.sizes
    before, after = (states.squeeze(2) for states in split(hidden_states, left))
    mask = None if layout.prefix_tokens == b * p else left.real[: b * p].view(b, p)
    outputs = []
    if mask is not None:
        before = before.masked_fill(~mask[..., None], 0)
        if p == 1:
            before, mask = (torch.nn.functional.pad(x, pad) for x, pad in ((before, (0, 0, 1, 0)), (mask, (1, 0))))
    state = CarriedState(mask)
    if p:
        padding = None if mask is None else mask.long()
        first = forward(**{names.hidden_states: before, names.mask: padding, names.cache: state})
        outputs.append(first[:, -p:].flatten(0, 1))
        state.share(layout)
    after = torch.nn.functional.pad(after, (0, 0, 0, int(s == 1)))
    last = forward(**{names.hidden_states: after, names.mask: None, names.cache: state})
    outputs.append(last[:, :s].flatten(0, 1))
    return gather_tokens(torch.cat(outputs)[:, None], left).transpose(0, 1)


class PackedForward(partial):
    """`run_packed` in place of a layer's `forward`, which is its first argument."""


def carry_states(model: PreTrainedModel) -> None:
    """Let layers that carry a state take a packed layout; without one they compute what they did before."""
    for decoder_layer in decoder_layers(model):
        for outer in set(calling_layers(decoder_layer).values()):
            outer.register_forward_pre_hook(hand_layout, with_kwargs=True)
            outer.register_forward_hook(take_back, always_call=True)


def hand_layout(outer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook of a decoder layer: in this call its layers with a state run packed."""
    if isinstance(kwargs.get("shared_prefix"), Layout):
        for layer, calling in calling_layers(outer).items():
            if calling is outer:
                names, layout = call_names(type(layer)), kwargs["shared_prefix"]
                layer.forward = PackedForward(run_packed, layer.forward, names, layout)


def take_back(outer: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
    """Forward hook of a decoder layer, also after an error: its layers with a state are as before the call."""
    for layer, calling in calling_layers(outer).items():
        if calling is outer and isinstance(packed := layer.forward, PackedForward):
            del layer.forward
            if layer.forward != packed.args[0]:  # an instance's own, such as a kernel's
                layer.forward = packed.args[0]
