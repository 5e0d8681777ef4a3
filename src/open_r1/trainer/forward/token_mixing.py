"""Finds out, before training, whether every layer of a model that mixes tokens takes the layout of packed groups.

A packed group is one sequence, so a layer that mixes its tokens without the layout would mix completions, silently.
Known to take it: attention through transformers' registry, and layers whose state `trainer.forward.carried_state`
carries. The model runs on some random tokens, as in training, with stand-ins for these that mix nothing, so that any
mixing that is left shows: tokens in another order give other results, or another token or one that is NaN changes
others. A stand-in also refuses what the packed attention would leave out. Layers of one kind are alike, so the first,
the second and the last of each run. Not seen: what mixes over more than TOKENS tokens, or beside images alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from open_r1.trainer.distributed import gathered
from open_r1.trainer.forward.carried_state import decoder_layers
from open_r1.trainer.forward.head_input import head_input_kept
from open_r1.trainer.forward.mask_rules import mask_with_rule
from open_r1.trainer.forward.stand_ins import Mixing, Trial, forward_of, stand_in_attention, stand_ins
from open_r1.trainer.forward.state_trial import why_state_is_lost
from open_r1.trainer.forward.trial_model import as_in_training, each_kind, text_attention, watched

STAND_IN = "token_wise"  # name in transformers' attention registry
TOKENS = 40
POISONED = (1, 18)  # places of tokens that are NaN, one a row
REPLACED = 6  # place of a token that another stands for
ORDER = [(11 * place + 5) % TOKENS for place in range(TOKENS)]
ORDER_TOLERANCE = {4: 1e-5, 2: 5e-2}  # bytes of a number -> relative difference of a token in two orders
MIXES = "mixes tokens"


def why_tokens_mix(model: PreTrainedModel) -> str | None:
    """Which layer would mix the completions of a packed group, or None where each takes the layout."""
    AttentionInterface.register(STAND_IN, stand_in_attention)
    AttentionMaskInterface.register(STAND_IN, mask_with_rule)
    try:
        with torch.no_grad(), as_in_training(model), text_attention(model, STAND_IN):
            trial_calls(model)
    except Mixing as reason:
        return str(reason)
    except Exception as error:  # of a model's own code, on inputs that it does not expect
        return f"{failing_module(error)} does not take a packed group: {type(error).__name__}: {error}"
    return None


def failing_module(error: Exception) -> str:
    """The class of the innermost module whose method raised an error."""
    callers = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
    return ["the model", *(type(caller).__name__ for caller in callers if isinstance(caller, torch.nn.Module))][-1]


def trial_calls(model: PreTrainedModel) -> None:
    """Two calls of the model on a few tokens. Raises Mixing."""
    layers, trial = decoder_layers(model), Trial()
    inside = {p for layer in layers for p in layer.parameters()} | set(model.get_input_embeddings().parameters())
    outside = [p for p in model.get_decoder().parameters() if p not in inside]
    orders, poisoned = trial_orders(model.device)
    rows = torch.ones(1, 1, 1, 1, device=model.device)
    if not embeds_each_alone(model, orders):
        raise Mixing(f"{type(model.get_input_embeddings()).__name__} mixes tokens")
    with gathered(outside), stand_ins(layers, trial), random_embeddings(model):
        with each_kind(layers, trial):
            states = hidden_states(model, orders, trial, attention_mask=rows)
        with each_kind(layers, trial), watched(model):
            spoilt = hidden_states(model, poisoned, trial).isnan().any(dim=-1)
    if idle := set(layers) - trial.called:
        raise Mixing(f"{type(idle.pop()).__name__} takes no part in a pass over text alone")
    if reason := why_spread(spoilt) or why_values_differ(states):
        raise Mixing(f"{type(model.get_decoder()).__name__} mixes tokens" if reason is MIXES else reason)
    for layer, inputs in trial.states.values():
        with gathered(layer.parameters()):
            if reason := why_state_is_lost(layer, inputs):
                raise Mixing(reason)


def embeds_each_alone(model: PreTrainedModel, orders: torch.Tensor) -> bool:
    """Whether tokens in two orders (2.., TOKENS) have the same embeddings."""
    embedding = model.get_input_embeddings()
    with gathered(embedding.parameters()):
        first, second = embedding(text_tokens(model).to(orders.device)[orders[:2]])
    return torch.equal(second, first[ORDER])


def trial_orders(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of tokens: (3, TOKENS) in order, in another, and with one replaced; (P, TOKENS) with one that is NaN."""
    places = torch.arange(TOKENS, device=device)
    replaced, poisoned = places.clone(), places.repeat(len(POISONED), 1)
    replaced[REPLACED] = REPLACED + TOKENS // 2
    poisoned[range(len(POISONED)), list(POISONED)] = TOKENS
    return torch.stack([places, places[ORDER], replaced]), poisoned


def why_spread(spoilt: torch.Tensor) -> str | None:
    """Why a NaN did not stay with its token, from where hidden states are NaN (P, TOKENS), or None."""
    if (spoilt.sum(dim=-1) > 1).any():
        return MIXES
    stayed = spoilt[range(len(POISONED)), list(POISONED)].all()
    return None if stayed else "the decoder changes the order of tokens, or hides one that is NaN"


def why_values_differ(states: torch.Tensor) -> str | None:
    """Why a token's states (3, TOKENS, D) differ in another order or beside another token, or None."""
    first, second, replaced = states.float()
    tolerance = ORDER_TOLERANCE[states.dtype.itemsize] * first.norm(dim=-1).mean()
    others = [place for place in range(TOKENS) if place != REPLACED]
    if not (replaced - first)[others].norm(dim=-1).max() <= tolerance:
        return MIXES
    if not (second - first[ORDER]).norm(dim=-1).max() <= tolerance:
        return "a token's hidden state depends on its place in the sequence, not on its position alone"
    return None


def hidden_states(model: PreTrainedModel, order: torch.Tensor, trial: Trial, **options: Any) -> torch.Tensor:
    """(N, TOKENS, D) of the model without its head, for numbers of tokens in an order (N, TOKENS)."""
    ids = text_tokens(model).to(order.device)[order]
    positions = order % min(TOKENS, getattr(model.config.get_text_config(), "max_position_embeddings", None) or TOKENS)
    call = {"input_ids": ids, "position_ids": positions, "use_cache": False, "shared_prefix": trial}
    with head_input_kept(model):
        return model.base_model(**call, **options).last_hidden_state


def text_tokens(model: PreTrainedModel) -> torch.Tensor:
    """(TOKENS + 1,) ids that no field of the configuration names, as it names image tokens; the last one is NaN."""
    configs = [model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)]
    named = {value for config in configs if config for value in vars(config).values() if isinstance(value, int)}
    return torch.tensor([token for token in range(3, 4 + len(named) + TOKENS) if token not in named][: TOKENS + 1])


@contextmanager
def random_embeddings(model: PreTrainedModel) -> Iterator[None]:
    """Inside this context the trial's tokens have random embeddings, the last of them NaN."""
    embedding, ids = model.get_input_embeddings(), text_tokens(model).to(model.device)
    shape = (TOKENS + 1, model.config.get_text_config().hidden_size)
    table = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    table[-1] = float("nan")
    with forward_of(embedding, lambda tokens: table[(tokens[..., None] == ids).int().argmax(dim=-1)]):
        yield
