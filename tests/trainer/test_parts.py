"""A micro-batch computed in parts of a token budget has the loss, metrics and gradients of one pass."""

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from helpers.trainers import batch_of, loss_and_gradients, make_trainer

from open_r1.errors import UsageError
from open_r1.trainer.forward import log_probs
from open_r1.trainer.forward.parts import parts_by_tokens
from open_r1.trainer.forward.router_loss import refuse_parts_of_router_loss


def prompt(tokens: int) -> SimpleNamespace:
    return SimpleNamespace(ids=range(tokens))


def bounds(parts: list[slice]) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in parts]


A, B, C = prompt(10), prompt(20), prompt(5)


@pytest.mark.parametrize(
    ("prompts", "budget", "shared", "expected"),
    [
        ([A, A, B, B, C], 1000, True, [(0, 5)]),
        ([A, A, B, B, C], 37, True, [(0, 2), (2, 5)]),  # 10 + 4, 20 + 4 and 5 + 2
        ([A, A, B, B, C], 38, True, [(0, 4), (4, 5)]),
        ([A, A, B, B, C], 24, True, [(0, 2), (2, 4), (4, 5)]),
        ([B, B, B, B], 24, True, [(0, 2), (2, 4)]),  # one group over the budget is cut by completions
        ([A, B, B, B, C], 24, True, [(0, 1), (1, 3), (3, 4), (4, 5)]),
        ([A, A], 1, True, [(0, 1), (1, 2)]),  # a row is never cut
        ([None, A, None, B, None], 34, True, [(0, 5)]),  # rows left out cost nothing
        ([None, A, None, B, None], 33, True, [(0, 3), (3, 5)]),
        ([A, None, A, None], 5, True, [(0, 2), (2, 4)]),
        ([A, None, A, B], 12, True, [(0, 2), (2, 3), (3, 4)]),
        ([A, A, B, B, C], 46, False, [(0, 2), (2, 4), (4, 5)]),  # (10 + 3) x 2, (20 + 3) x 2, 5 + 3
        ([A, A, B, B, C], 69, False, [(0, 2), (2, 5)]),
    ],
)
def test_parts_are_whole_groups_where_they_fit(prompts, budget, shared, expected):
    assert bounds(parts_by_tokens(prompts, [2] * len(prompts), 3, budget, shared)) == expected


@pytest.fixture(scope="module")
def trainer(tiny, mixed, tmp_path_factory):
    flags = "--beta 0.04 --use_bias_correction_kl true --epsilon 0.1 --num_iterations 2"
    return make_trainer(tiny, mixed, tmp_path_factory.mktemp("parts"), *flags.split())


@pytest.fixture(scope="module")
def batch(trainer):
    """Groups of one image, none, two images and none, of unequal numbers of rows; off-policy by a little."""
    batch = batch_of(trainer, 0, 1, 2, 4)
    rows = torch.tensor([0, 1, 2, 3, 4, 5, 8, 9, 10, 12])  # groups of 4, 2, 3 and 1
    cut = {k: v[rows] if torch.is_tensor(v) and v.ndim else v for k, v in batch.items()}
    cut = {k: [v[i] for i in rows.tolist()] if isinstance(v, list) else v for k, v in cut.items()}
    noise = torch.randn(cut["completion_mask"].shape, generator=torch.Generator().manual_seed(0))
    return cut | {"old_per_token_logps": cut["ref_per_token_logps"] + 0.1 * noise}


def computed(trainer, batch, budget, monkeypatch) -> tuple[torch.Tensor, dict, dict, int]:
    """(loss, gradients, metrics, passes) of a training pass under a budget."""
    trainer.args.tokens_per_forward = budget
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    sizes, plain = [], log_probs.score
    with monkeypatch.context() as patch:
        patch.setattr(log_probs, "score", lambda *a, **k: sizes.append(len(a[2])) or plain(*a, **k))
        loss, gradients = loss_and_gradients(trainer, batch)
    trainer.args.tokens_per_forward = None
    return loss, gradients, {name: values[-1] for name, values in trainer._metrics["train"].items()}, len(sizes)


def assert_same(trainer, batch, budget, monkeypatch, passes: int) -> None:
    loss, gradients, metrics, once = computed(trainer, batch, None, monkeypatch)
    loss_in_parts, gradients_in_parts, metrics_in_parts, several = computed(trainer, batch, budget, monkeypatch)
    assert once == 1 and several == passes and gradients.keys() == gradients_in_parts.keys()
    torch.testing.assert_close(loss_in_parts, loss, atol=1e-6, rtol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_in_parts[name], gradient, atol=1e-5, rtol=1e-4)
    assert metrics_in_parts == pytest.approx(metrics, abs=1e-5, nan_ok=True) and "entropy" in metrics
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())


LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


@pytest.mark.parametrize("loss", [*LOSSES[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in LOSSES[2:])])
def test_every_loss_is_that_of_one_pass(trainer, batch, monkeypatch, loss):
    monkeypatch.setattr(trainer, "loss_type", loss)
    assert_same(trainer, batch, 180, monkeypatch, passes=8)  # four parts, each computed again in the backward pass


@pytest.mark.parametrize(
    "changes",
    [
        {"top_entropy_quantile": 0.5, "_entropy_bonus_enabled": True, "entropy_coef": 0.1},
        pytest.param({"importance_sampling_level": "sequence"}, marks=pytest.mark.slow),
    ],
    ids=["entropies", "sequences"],
)
def test_what_looks_at_all_rows_is_that_of_one_pass(trainer, batch, monkeypatch, changes):
    for name, value in changes.items():
        monkeypatch.setattr(trainer, name, value)
    assert_same(trainer, batch, 180, monkeypatch, passes=8)


@pytest.mark.parametrize("shared", [True, False], ids=["packed", "rows"])
def test_a_group_over_the_budget_and_rows_without_signal(trainer, batch, monkeypatch, shared):
    off = {**trainer.optimizations.off, "skip_zero_advantages": None}
    off["shared_prefix"] = off["shared_prefix"] if shared else "compared"
    monkeypatch.setattr(trainer, "optimizations", dataclasses.replace(trainer.optimizations, off=off))
    advantages = batch["advantages"].clone()
    advantages[[1, 4, 9]] = 0.0
    monkeypatch.setattr(trainer, "beta", 0.0)
    assert_same(trainer, batch | {"advantages": advantages}, 100, monkeypatch, passes=12 if shared else 14)


def test_without_gradients_a_pass_is_made_once(trainer, batch, monkeypatch):
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    rows = (trainer.model, batch["prompts"], batch["completion_ids"], lengths)
    with torch.no_grad():
        whole = trainer.score_in_parts(*rows).logps
        monkeypatch.setattr(trainer.args, "tokens_per_forward", 180)
        torch.testing.assert_close(trainer.score_in_parts(*rows).logps, whole, atol=1e-5, rtol=0)


def test_a_balancing_loss_is_refused():
    refuse_parts_of_router_loss(0.1, None)
    with pytest.raises(UsageError, match=r"--tokens_per_forward: got 9, but the router's balancing loss \(0.1\)"):
        refuse_parts_of_router_loss(0.1, 9)
