"""The blank image of passes without one: it reaches every weight that an image reaches, and changes no number."""

import families
import pytest
import torch
from test_families import NAMES, completions, group_prompts, scored
from trl.trainer.utils import add_fused_lm_head

from open_r1.trainer.blank import show_blank
from open_r1.trainer.prompts import prompt_of
from open_r1.trainer.shared_prefix import share_prefixes

TEXT, MIXED = [(0, 7, 2), (0, 9, 1)], [(1, 9, 2), (0, 9, 1)]  # prompts as (images, text tokens, completions)


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    model = families.FAMILIES[request.param]()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    share_prefixes(model)
    return model


def passed(model, groups, shared: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probs and gradients of a forward and backward pass."""
    prompts = group_prompts(model, groups)
    logps = scored(model, prompts, completions(3), [5, 1, 6], shared).logps
    (logps * torch.linspace(-1, 1, logps.numel()).view_as(logps)).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return logps.detach(), found


def blank_of(model) -> dict[str, torch.Tensor]:
    return prompt_of(families.prompt(model, 1, 4, seed=0), None).images


@pytest.mark.parametrize("shared", [True, False], ids=["packed", "rows"])
def test_it_reaches_what_an_image_reaches_and_changes_nothing(model, shared):
    before, plain = passed(model, TEXT, shared)
    _, of_image = passed(model, MIXED, shared)
    handle = show_blank(model.base_model, blank_of(model))
    after, with_blank = passed(model, TEXT, shared)
    handle.remove()
    assert torch.equal(after, before)
    assert set(plain) < set(with_blank) and set(with_blank) == set(of_image)
    for name, gradient in with_blank.items():
        assert torch.equal(gradient, plain.get(name, torch.zeros_like(gradient))), name


def test_the_tower_runs_once_in_a_pass_that_begins_a_sequence_and_not_after(model, monkeypatch):
    backbone, ran = model.base_model, []
    plain = backbone.get_image_features
    backbone.get_image_features = lambda *a, pixel_values, **k: (
        ran.append(1) or plain(*a, pixel_values=pixel_values, **k)
    )
    handle = show_blank(backbone, {"pixel_values": blank_of(model)["pixel_values"], **blank_of(model)})
    for groups in (MIXED, TEXT, MIXED[:1], TEXT[:1]):
        passed(model, groups, shared=True)
    handle.remove()
    assert ran == [1] * 4
