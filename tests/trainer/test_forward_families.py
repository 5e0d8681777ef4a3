"""Shared prefixes give every family the log-probs and gradients of padded rows, in float32, vision tower included."""

import pytest
import torch
from helpers import families
from helpers.families import GROUPS, NAMES, completions, group_prompts, scored
from helpers.trainers import take_gradients
from transformers import GenerationConfig

from open_r1.models.families import FAMILIES
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.vision_features import with_features
from open_r1.trainer.forward.log_probs import Scores

LENGTHS = [5, 1, 3, 4, 2, 6, 1, 6]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return families.ready(request.param)


def gradients(model, result: Scores) -> dict[str, torch.Tensor]:
    weights = torch.linspace(-1, 1, result.logps.numel()).view_as(result.logps)
    (result.logps * weights + 0.1 * result.entropies).sum().backward()
    return take_gradients(model)


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:1], GROUPS[1:2], GROUPS[2:3]], ids=["mixed", "one", "text", "G=1"])
def test_packed_groups_equal_padded_rows(model, groups):
    prompts = group_prompts(model, groups)
    completion_ids, lengths = completions(len(prompts)), LENGTHS[: len(prompts)]
    rows, packed = (scored(model, prompts, completion_ids, lengths, shared) for shared in (False, True))
    torch.testing.assert_close(packed.logps, rows.logps, atol=1e-5, rtol=0)
    torch.testing.assert_close(packed.entropies, rows.entropies, atol=1e-5, rtol=0)
    of_rows, of_packed = gradients(model, rows), gradients(model, packed)
    assert of_rows.keys() == of_packed.keys()
    scale = max(gradient.norm() for gradient in of_rows.values())
    for name, gradient in of_rows.items():
        difference = (of_packed[name] - gradient).norm()
        assert difference <= 1e-5 * max(gradient.norm(), 1e-3 * scale), name


def test_a_completion_does_not_see_another(model):
    prompts = group_prompts(model, [(1, 9, 3)])
    completion_ids, changed = completions(3), completions(3)
    changed[1] = completions(1, seed=9)
    before, after = (scored(model, prompts, each, [6, 6, 6], shared=True).logps for each in (completion_ids, changed))
    # a mixture of experts computes the tokens of an expert together, so that some processors round otherwise
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], atol=1e-6, rtol=0)
    assert (before[1] - after[1]).abs().max() > 1e-3


def test_the_image_matters(model):
    (prompt, *_) = group_prompts(model, [(1, 9, 1)])
    brighter = {**prompt.images, "pixel_values": prompt.images["pixel_values"] + 1}
    other = Prompt(prompt.ids, prompt.positions, prompt.types, brighter)
    before, after = (scored(model, [p, p], completions(2), [6, 6], shared=True).logps for p in (prompt, other))
    assert (before - after).abs().max() > 1e-3


def test_features_computed_once_give_the_same_log_probs(model):
    prompts = group_prompts(model)
    completion_ids = completions(len(prompts))
    with_vision = {id(prompt): with_features(model.base_model, prompt) for prompt in prompts}
    for shared in (True, False):
        before = scored(model, prompts, completion_ids, LENGTHS, shared)
        after = scored(model, [with_vision[id(prompt)] for prompt in prompts], completion_ids, LENGTHS, shared)
        torch.testing.assert_close(after.logps, before.logps, atol=1e-5, rtol=0)


def config(**sampling) -> GenerationConfig:
    banned = [i for i in range(families.TEXT) if i != 2]
    return GenerationConfig(max_new_tokens=8, eos_token_id=2, pad_token_id=0, suppress_tokens=banned, **sampling)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_greedy_rollout_is_generates(model, penalty):
    prompts, greedy = group_prompts(model), config(do_sample=False, repetition_penalty=penalty)
    ours = generate_groups(model, model.base_model, prompts, greedy, [2])
    plain = []
    for seed, (images, text, rows) in enumerate(GROUPS):
        fields = families.prompt(model, images, text, seed)
        mask = torch.ones_like(fields["input_ids"])
        out = model.generate(**fields, attention_mask=mask, generation_config=greedy)
        completion_ids = out[0, fields["input_ids"].shape[1] :].tolist()
        plain += [completion_ids[: completion_ids.index(2) + 1] if 2 in completion_ids else completion_ids] * rows
    assert ours == plain


def test_every_family_of_the_table_has_a_tiny_model_and_images_here():
    assert set(families.FAMILIES) == set(families.IMAGES) == set(FAMILIES)
