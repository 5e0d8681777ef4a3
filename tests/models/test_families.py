"""Every family and variant, in float32, vision tower included: packed groups equal padded rows, rollouts `generate`'s.

A test's tolerance is 1e-5: absolute for log-probs and entropies in nats, relative for each weight's gradient.
"""

import re
from dataclasses import replace

import pytest
import torch
from helpers import families
from helpers.families import GROUPS, completions, group_prompts, scored
from helpers.families.exactness import LENGTHS, difference, logps_alone, passed
from helpers.families.rows import NO_PREFILL, NO_ROUTER_LOSS, NOT_BUILT, PACKED, REFUSED, ROW_BY_ROW, TRAINED
from helpers.repository import REPO
from transformers import GenerationConfig

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.models.refusals import why_untrainable
from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompt_cache import why_no_prefill
from open_r1.rollout.vision_features import with_features
from open_r1.trainer.forward.router_loss import why_no_router_loss
from open_r1.trainer.forward.shared_prefix import why_no_shared_prefix

TOLERANCE = 1e-5
EXACT = {"atol": TOLERANCE, "rtol": 0}
ILL_CONDITIONED = {"granite4_vision": 5e-5}  # its projector amplifies rounding in the gradients of small weights


@pytest.fixture(scope="module")
def model(request):
    return families.ready(request.param)


QUICK = {*families.NAMES, "qwen3_5", "gemma4_vision", "lfm2_vl", "minicpmv4_6", "qwen2_5_omni_thinker", "mistral3"}


def every(names, core=False):
    """A test for each of these families; one that is not `core` is slow for those outside QUICK."""
    slow = [] if core else [pytest.mark.slow]
    cases = [pytest.param(name, marks=[] if name in QUICK else slow) for name in names]
    return pytest.mark.parametrize("model", cases, indirect=True)


@every(PACKED, core=True)
def test_packed_groups_equal_padded_rows_and_each_row_alone(model):
    rows, packed, alone = passed(model, shared=False), passed(model, shared=True), logps_alone(model)
    found = difference(rows, packed)
    assert max(found.logps, found.entropies) <= TOLERANCE, found
    assert found.gradient <= ILL_CONDITIONED.get(model.config.name_or_path, TOLERANCE), found
    torch.testing.assert_close(rows.scores.logps, alone, **EXACT)
    torch.testing.assert_close(packed.scores.logps, alone, **EXACT)


@every(PACKED)
def test_a_completion_does_not_see_another(model):
    prompts = group_prompts(model, [(1, 9, 3)])
    completion_ids, changed = completions(3), completions(3)
    changed[1] = completions(1, seed=9)
    before, after = (scored(model, prompts, each, [6, 6, 6], shared=True).logps for each in (completion_ids, changed))
    # a mixture of experts computes the tokens of an expert together, so that some processors round otherwise
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], atol=1e-6, rtol=0)
    assert (before[1] - after[1]).abs().max() > 1e-3


@every(TRAINED)
def test_the_image_matters(model):
    (prompt, *_) = group_prompts(model, [(1, 9, 1)])
    pixels = prompt.images["pixel_values"]
    noise = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0))  # some models take no mean brightness
    other = replace(prompt, images={**prompt.images, "pixel_values": pixels + noise})
    before, after = (scored(model, [p, p], completions(2), [6, 6], shared=False).logps for p in (prompt, other))
    assert (before - after).abs().max() > 1e-3


@every(TRAINED)
def test_features_computed_once_give_the_same_log_probs(model):
    prompts = group_prompts(model)
    completion_ids = completions(len(prompts))
    with_vision = {id(prompt): with_features(model.base_model, prompt) for prompt in prompts}
    for shared in (True, False) if why_no_shared_prefix(model) is None else (False,):
        before = scored(model, prompts, completion_ids, LENGTHS, shared)
        after = scored(model, [with_vision[id(prompt)] for prompt in prompts], completion_ids, LENGTHS, shared)
        torch.testing.assert_close(after.logps, before.logps, **EXACT)


def sampling(**options) -> GenerationConfig:
    """Generation of ordinary tokens, and of the one that ends."""
    ends = {"eos_token_id": families.EOS, "pad_token_id": families.PAD}
    banned = [i for i in range(families.TEXT) if i != families.EOS]
    return GenerationConfig(max_new_tokens=8, do_sample=False, suppress_tokens=banned, **ends, **options)


@every([name for name in TRAINED if name not in NO_PREFILL])
def test_a_greedy_rollout_is_generates(model):
    greedy = sampling(repetition_penalty=1.3)
    ours = generate_groups(model, model.base_model, group_prompts(model), greedy, [families.EOS])
    plain = []
    for seed, (images, text, rows) in enumerate(GROUPS):
        fields = families.prompt(model, images, text, seed)
        mask = torch.ones_like(fields["input_ids"])
        out = model.generate(**fields, attention_mask=mask, generation_config=greedy)
        said = out[0, fields["input_ids"].shape[1] :].tolist()
        plain += [said[: said.index(families.EOS) + 1] if families.EOS in said else said] * rows
    assert ours == plain


@every(ROW_BY_ROW, core=True)
def test_what_cannot_be_packed_says_why(model):
    assert ROW_BY_ROW[model.config.name_or_path] in str(why_no_shared_prefix(model))


@every(NO_PREFILL, core=True)
def test_what_cannot_roll_out_from_one_prefill_says_why(model):
    assert NO_PREFILL[model.config.name_or_path] in str(why_no_prefill(model, None))


@every([*NO_ROUTER_LOSS, "qwen3_vl_moe"])
def test_a_balancing_loss_that_cannot_be_computed_says_why(model):
    assert why_no_router_loss(model) == NO_ROUTER_LOSS.get(model.config.name_or_path)


def test_dropout_outside_the_text_model_is_no_shared_prefix():
    model = families.tiny("granite4_vision")
    assert why_no_shared_prefix(model) is None
    model.base_model.spatial_projectors[0].dropout.p = 0.1
    assert "dropout" in str(why_no_shared_prefix(model))


def test_a_family_is_refused_with_its_reason_or_not_at_all():
    for name in families.FAMILIES:
        reason = why_untrainable(families.config_of(name))
        assert (reason is None) == (name in TRAINED) and REFUSED.get(name, "") in str(reason), name


def test_every_family_of_the_table_has_a_builder_and_every_builder_a_row():
    built = {families.config_of(name).model_type for name in families.FAMILIES}
    assert set(CONVENTIONS) - {"internvl_chat"} - set(families.PROCESSORS) - NOT_BUILT <= built
    assert set(families.FAMILIES) == {*TRAINED, *REFUSED} and set(ROW_BY_ROW) <= set(TRAINED)


def test_the_measured_table_names_every_family_that_is_packed():
    page = (REPO / "assets" / "docs" / "speed.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(PACKED)
