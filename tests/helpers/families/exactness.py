"""How far packed groups and padded rows are from each other and from the model's own forward pass of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from helpers.families.prompts import GROUPS, completions, group_prompts, prompt, scored
from helpers.trainers import take_gradients
from open_r1.trainer.forward.log_probs import Scores

LENGTHS = [5, 1, 3, 4, 2, 6, 1, 6]  # tokens of the completions of `GROUPS`
SMALLEST = 1e-3  # of the largest gradient's norm: the least that a difference is relative to


@dataclass(frozen=True)
class Pass:
    """Scores of completions, and the gradient of each weight."""

    scores: Scores
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of log-probs and of entropies in nats, and the largest relative difference of a
    weight's gradient, with that weight's name."""

    logps: float
    entropies: float
    gradient: float
    worst: str


def gradients(model: PreTrainedModel, scores: Scores) -> dict[str, torch.Tensor]:
    """Gradients of a loss that depends on each log-prob and entropy differently."""
    weights = torch.linspace(-1, 1, scores.logps.numel()).view_as(scores.logps)
    (scores.logps * weights + 0.1 * scores.entropies).sum().backward()
    return take_gradients(model)


def passed(model: PreTrainedModel, shared: bool, groups: Sequence[tuple[Any, ...]] = GROUPS) -> Pass:
    """A forward and a backward pass over the groups."""
    prompts = group_prompts(model, groups)
    scores = scored(model, prompts, completions(len(prompts)), LENGTHS[: len(prompts)], shared)
    return Pass(scores, gradients(model, scores))


def difference(one: Pass, other: Pass) -> Difference:
    """How far `other` is from `one`. Raises ValueError where they reach different weights."""
    if one.gradients.keys() != other.gradients.keys():
        raise ValueError(f"gradients of one alone: {sorted(one.gradients.keys() ^ other.gradients.keys())}")
    largest = max(gradient.norm() for gradient in one.gradients.values())
    relative = {
        name: ((other.gradients[name] - gradient).norm() / max(gradient.norm(), SMALLEST * largest)).item()
        for name, gradient in one.gradients.items()
    }
    worst = max(relative, key=relative.__getitem__)
    logps = (one.scores.logps - other.scores.logps).abs().max().item()
    entropies = (one.scores.entropies - other.scores.entropies).abs().max().item()
    return Difference(logps, entropies, relative[worst], worst)


@torch.no_grad()
def logps_alone(model: PreTrainedModel, groups: Sequence[tuple[Any, ...]] = GROUPS) -> torch.Tensor:
    """Log-probs (rows, tokens) of the completions of the groups by the model's own forward pass of each row alone,
    from what its processor returned; 0 at padding."""
    sets = [
        fields
        for seed, (images, *videos, text, rows) in enumerate(groups)
        for fields in [prompt(model, images, text, seed, *videos)] * rows
    ]
    completion_ids = completions(len(sets))
    logps = torch.zeros(completion_ids.shape)
    for row, (fields, length) in enumerate(zip(sets, LENGTHS[: len(sets)], strict=True)):
        logps[row, :length] = logps_of(model, fields, completion_ids[row, :length])
    return logps


@torch.no_grad()
def logps_of(model: PreTrainedModel, fields: dict[str, torch.Tensor], said: torch.Tensor) -> torch.Tensor:
    """(tokens,) log-probs of what is `said` behind a prompt of these fields, by the model's own forward pass."""
    width = fields["input_ids"].shape[1]
    longer = {
        name: torch.nn.functional.pad(value, (0, len(said)))
        for name, value in fields.items()
        if name.endswith("token_type_ids") and value.shape == (1, width)
    }
    ids = torch.cat([fields["input_ids"], said[None]], dim=1)
    call = {**fields, **longer, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = model(**call, use_cache=False).logits[0, width - 1 : -1]
    return logits.log_softmax(-1).gather(1, said[:, None])[:, 0]
