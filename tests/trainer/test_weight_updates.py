"""Trained weights that do not move are named with the reason, or end the run."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import families, small_net
from helpers.small_net import Net, warnings

from open_r1.errors import UsageError
from open_r1.trainer.checks.weight_updates import fingerprint, unmoved_warning, vision_is_idle


@pytest.fixture
def train(tmp_path: Path) -> Any:
    return partial(small_net.train, tmp_path)


@pytest.mark.slow
def test_weights_without_gradient_are_named_once_with_the_reason(train, caplog):
    train(Net())
    (text,) = warnings(caplog, "weight_updates")
    assert text.startswith("1 of 3 trained parameters learned nothing in 2 steps. No gradient reached: idle.weight.")
    assert "--freeze_vision_modules" not in text and "precision" not in text  # it is no vision tower


@pytest.mark.parametrize("reached", [(), ("model.visual.merger",)])
def test_to_freeze_the_vision_tower_is_advised_where_no_row_reaches_it(reached):
    model = families.tiny("qwen2_5_vl")
    names = [name for name, _ in model.named_parameters()]
    had = ["visual" not in name or name.startswith(reached) for name in names]
    idle = vision_is_idle(model, names, had)
    said = unmoved_warning(names, had, had, idle)
    assert idle == ("--freeze_vision_modules" in said) == (not reached)
    assert ("No gradient reached: model.visual. The loss" in said) == (not reached)


@pytest.mark.slow
def test_a_weight_that_decays_and_learns_nothing_is_named(train, caplog):
    net = Net(lambda loss, step: loss)
    net.fault = lambda loss, step: loss + 0 * net.idle.weight.sum()
    before = net.idle.weight.detach().clone()
    train(net, weight_decay=0.1)
    assert not torch.equal(net.idle.weight, before)
    assert "No gradient reached: idle.weight." in warnings(caplog, "weight_updates")[0]


@pytest.mark.slow
def test_frozen_weights_are_not_named(train, caplog):
    net = Net()
    net.idle.requires_grad_(False)
    train(net)
    assert warnings(caplog, "weight_updates") == []


@pytest.mark.slow
def test_a_weight_whose_gradient_is_lost_in_rounding_is_told_apart(train, caplog):
    net = Net()
    net.layers[1].to(torch.bfloat16).weight.data.fill_(1.0)  # moves in steps of 0.004 and more
    net.idle.requires_grad_(False)
    train(net, learning_rate=1e-4)
    (text,) = warnings(caplog, "weight_updates")
    assert text.startswith("1 of 2 trained parameters learned nothing in 2 steps. A gradient came, but the weight is")
    assert "what it was: layers.1.weight." in text and "--dtype float32" in text


@pytest.mark.slow
def test_a_run_in_which_nothing_can_move_ends(train):
    net = Net().to(torch.bfloat16)
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
    with pytest.raises(UsageError, match=r"step 1: got no weight that moved.*use --dtype float32"):
        train(net, learning_rate=1e-5)


@pytest.mark.slow
def test_steps_without_gradient_or_learning_rate_are_waited_through(train, caplog):
    train(Net(lambda loss, step: loss * (step > 2)), steps=3)  # one step with a gradient: not yet told
    assert warnings(caplog, "weight_updates") == []
    train(Net(lambda loss, step: loss * (step > 2)), steps=4, lr_scheduler_type="linear", warmup_steps=2)
    assert len(warnings(caplog, "weight_updates")) == 1


def test_fingerprints_see_one_bit_and_changes_that_cancel():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn):
        weights = torch.full((6,), 1.5).to(dtype)
        other = weights.clone()
        other.view(torch.uint8)[0] ^= 1
        assert fingerprint(weights) == fingerprint(weights.clone()) != fingerprint(other)
    step = torch.tensor([1.0, -1.0, -1.0, 1.0]) * 1e-3
    assert fingerprint(torch.full((4,), 1.5) + step) != fingerprint(torch.full((4,), 1.5))
    large = torch.zeros(3_000_000)
    for place in (0, 1_048_576, 2_999_999):
        other = large.clone()
        other[place] = 1e-30
        assert fingerprint(other) != fingerprint(large)
