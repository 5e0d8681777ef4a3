"""The dummy image of passes without one: it gives a gradient to each weight of an image, and changes no number."""

import pytest
import torch
from helpers import families
from helpers.families import NAMES, completions, group_prompts, scored
from helpers.trainers import take_gradients
from transformers import AutoProcessor, GenerationConfig

from open_r1.models.model_parts import vision_parts
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompts import prompt_from_fields
from open_r1.trainer.forward.dummy_image import add_dummy_image, dummy_image

TEXT, MIXED = [(0, 7, 2), (0, 9, 1)], [(1, 9, 2), (0, 9, 1)]  # prompts as (images, text tokens, completions)


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return families.ready(request.param)


def passed(model, groups, shared: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probs and gradients of a forward and backward pass."""
    prompts = group_prompts(model, groups)
    logps = scored(model, prompts, completions(3), [5, 1, 6], shared).logps
    (logps * torch.linspace(-1, 1, logps.numel()).view_as(logps)).sum().backward()
    return logps.detach(), take_gradients(model)


def dummy_of(model) -> dict[str, torch.Tensor]:
    return prompt_from_fields(families.prompt(model, 1, 4, seed=0), families.rules_of(model)).images


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["packed", "rows"])
def test_it_reaches_what_an_image_reaches_and_changes_nothing(model, shared):
    before, plain = passed(model, TEXT, shared)
    _, of_image = passed(model, MIXED, shared)
    handle = add_dummy_image(model.base_model, dummy_of(model))
    after, with_dummy = passed(model, TEXT, shared)
    handle.remove()
    assert torch.equal(after, before)
    assert set(plain) < set(with_dummy) and set(with_dummy) == set(of_image)
    for name, gradient in with_dummy.items():
        assert torch.equal(gradient, plain.get(name, torch.zeros_like(gradient))), name


def test_the_tower_runs_once_in_a_pass_that_begins_a_sequence_and_not_after(model):
    passed(model, MIXED, shared=True)  # a family's first pass tries what its pictures see
    backbone, ran = model.base_model, []
    tower = next(m for name, m in model.named_modules() if f"{name}." in vision_parts(model))
    counted = tower.register_forward_pre_hook(lambda *_: ran.append(1))
    handle = add_dummy_image(backbone, dummy_of(model))
    for groups in (MIXED, TEXT):
        passed(model, groups, shared=True)
    assert len(ran) == 2
    generate_groups(
        model, backbone, group_prompts(model, TEXT), GenerationConfig(max_new_tokens=4, pad_token_id=0), [2]
    )
    assert len(ran) == 3  # the prefill, and no step after it
    handle.remove()
    counted.remove()


def test_the_dummy_image_is_small(tiny):
    processor = AutoProcessor.from_pretrained(tiny)
    assert dummy_image(processor, prompt_fields(processor))["image_grid_thw"].tolist() == [
        [1, 4, 4]
    ]  # 56 / 14 patches a side
