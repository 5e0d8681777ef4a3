"""Tries a layer that carries a state: over a packed group it must give what it gives over each row alone."""

import torch

from open_r1.trainer.forward.carried_state import call_names, run_packed
from open_r1.trainer.forward.packing import lay_out

PREFIXES, SUFFIXES, GROUP = [2, 40], [2, 19, 1], [0, 1, 1]  # tokens; more than convolutions reach
STATE_TOLERANCE = {4: 1e-5, 2: 5e-2}  # bytes of a number -> relative difference


def why_state_is_lost(layer: torch.nn.Module, like: torch.Tensor) -> str | None:
    """Why suffixes do not see their prefix through the layer as they would alone, or None where they do.

    `like` (N, L, D) has the size, type and device of the layer's input.
    """
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(sum(PREFIXES) + sum(SUFFIXES), like.shape[-1], generator=random).to(like)
    poisoned = tokens.clone()
    poisoned[PREFIXES[0]] = float("nan")
    for states in (tokens, poisoned):
        alone, packed = in_rows(layer, states), in_a_group(layer, states)
        difference = (packed.float() - alone.float()).norm() / alone.float().norm()
        if not torch.equal(packed.isnan(), alone.isnan()) or difference > STATE_TOLERANCE[like.dtype.itemsize]:
            return f"{type(layer).__name__} does not take its state from a cache as its own forward leaves it"
    return None


def in_a_group(layer: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The layer's output (sum of SUFFIXES, D) for the suffixes of a packed group."""
    sizes = (torch.tensor(numbers) for numbers in (PREFIXES, SUFFIXES, GROUP))
    layout = lay_out(*sizes, None, states.device)
    return run_packed(layer.forward, call_names(type(layer)), layout, states[None])[0, sum(PREFIXES) :]


def in_rows(layer: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The same output, each suffix behind its own prefix in a call of its own."""
    parts = states.split([*PREFIXES, *SUFFIXES])
    prefixes, suffixes = parts[: len(PREFIXES)], parts[len(PREFIXES) :]
    rows = [torch.cat([prefixes[b], suffix]) for b, suffix in zip(GROUP, suffixes, strict=True)]
    return torch.cat([layer(row[None])[0, -n:] for row, n in zip(rows, SUFFIXES, strict=True)])
