"""Completions with pictures and text of tools, in float32: packed and padded passes equal each conversation alone.

A test's tolerance is 1e-5: absolute for log-probs and entropies in nats, relative for each weight's gradient.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import families
from helpers.families.exactness import difference
from helpers.families.rows import NATIVE_VIDEOS, NO_TOOL_PICTURES, ROW_BY_ROW, TRAINED
from helpers.families.tool_turns import CLIP_TOOL_GROUPS, passed_alone, passed_with_turns, scores_of, tool_rows
from helpers.trainers import take_gradients
from peft import LoraConfig, get_peft_model

from open_r1.errors import UsageError
from open_r1.rollout.batching import merge_images
from open_r1.rollout.prompts import rotary_positions
from open_r1.rollout.tool_pictures import why_no_tool_pictures
from open_r1.rollout.vision_features import with_features
from open_r1.trainer.tool_turns import refuse_one_turn

TOLERANCE = 1e-5
ILL_CONDITIONED = {"granite4_vision": 5e-5}  # as in tests/models/test_families.py
WITH_TOOLS = [name for name in TRAINED if name not in NO_TOOL_PICTURES]
QUICK = {"qwen2_5_vl", "qwen3_vl", "qwen3_5", "smolvlm", "gemma3"}  # of each kind: the rest is slow


def every(names):
    """A test for each of these families, slow for those outside QUICK."""
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in names]
    )


@pytest.fixture(scope="module")
def qwen():
    return families.ready("qwen2_5_vl")


def assert_same(one, other, name: str = "") -> None:
    found = difference(one, other)
    assert max(found.logps, found.entropies) <= TOLERANCE, found
    assert found.gradient <= ILL_CONDITIONED.get(name, TOLERANCE), found


@every(WITH_TOOLS)
def test_packed_and_padded_turns_equal_each_conversation_alone(name):
    model = families.ready(name)
    rows = tool_rows(model)
    alone = passed_alone(model, rows)
    assert float(alone.scores.logps.detach().abs().max()) > 1
    assert_same(alone, passed_with_turns(model, rows, shared=False), name)
    if name not in ROW_BY_ROW:
        assert_same(alone, passed_with_turns(model, rows, shared=True), name)
    assert not alone.scores.logps[~rows.scored].any() and alone.scores.logps[rows.scored].all()


@every([name for name in NATIVE_VIDEOS if name in WITH_TOOLS])
def test_turns_beside_videos_equal_each_conversation_alone(name):
    model = families.ready(name)
    rows = tool_rows(model, CLIP_TOOL_GROUPS)
    alone = passed_alone(model, rows)
    assert_same(alone, passed_with_turns(model, rows, shared=False), name)
    if name not in ROW_BY_ROW:
        assert_same(alone, passed_with_turns(model, rows, shared=True), name)


@every(WITH_TOOLS)
def test_positions_go_on_inside_a_completion_as_the_model_counts_the_whole_row(name):
    model = families.tiny(name)
    rope, rows = families.rules_of(model).rope, tool_rows(model)
    for prompt, turns, ids, length in zip(rows.prompts, rows.turns, rows.completion_ids, rows.lengths, strict=True):
        if turns is not None:
            types = {key: torch.cat([of, turns.types[key]])[None] for key, of in prompt.types.items()}
            images = merge_images([prompt, turns], packed=True)
            whole = rotary_positions(torch.cat([prompt.ids, ids[:length]])[None], types | images, rope)
            continued = torch.cat([prompt.positions, prompt.positions[..., -1:] + 1 + turns.positions], dim=-1)
            torch.testing.assert_close(continued, whole, atol=0, rtol=0)


@pytest.mark.parametrize("name", NO_TOOL_PICTURES)
def test_a_family_whose_pictures_depend_on_each_other_is_refused_with_the_reason(name):
    reason = why_no_tool_pictures(families.processor_of(name), families.rules_of(families.tiny(name)))
    assert NO_TOOL_PICTURES[name] in str(reason), reason


def test_a_run_with_tools_is_refused_for_such_a_family_unless_its_tools_give_text_alone():
    processor, fields = families.processor_of("hunyuan_vl"), families.rules_of(families.tiny("hunyuan_vl"))
    optimizations, loader = SimpleNamespace(off={"prefill_once": None}), SimpleNamespace(template={})
    parts = {"processing_class": processor, "fields": fields, "optimizations": optimizations, "loader": loader}
    parts |= {"engine": None}  # transformers samples
    refuse_one_turn(SimpleNamespace(args=SimpleNamespace(max_tool_images=0), **parts))
    with pytest.raises(UsageError, match=r"HunYuanVLProcessor: the positions .* --max_tool_images 0"):
        refuse_one_turn(SimpleNamespace(args=SimpleNamespace(max_tool_images=1), **parts))


@every(WITH_TOOLS)
def test_a_family_takes_pictures_of_tools(name):
    assert why_no_tool_pictures(families.processor_of(name), families.rules_of(families.tiny(name))) is None


@pytest.mark.parametrize("name", ["qwen2_5_vl", pytest.param("qwen3_vl", marks=pytest.mark.slow)])
def test_positions_of_one_dimension_would_be_wrong(name):
    model = families.ready(name)
    rows = tool_rows(model)
    flat = [t and replace(t, positions=torch.arange(t.positions.shape[1]).expand(3, -1)) for t in rows.turns]
    with torch.no_grad():
        for shared in (True, False):
            before, after = (scores_of(model, r, shared).logps for r in (rows, replace(rows, turns=flat)))
            assert (before - after).abs().max() > 0.02


@pytest.mark.parametrize("name", ["gemma3", pytest.param("gemma4_unified", marks=pytest.mark.slow)])
def test_a_picture_of_a_tool_that_did_not_see_itself_would_be_wrong(name):
    model = families.ready(name)
    rows = tool_rows(model)
    blind = [t and replace(t, types={key: torch.zeros_like(of) for key, of in t.types.items()}) for t in rows.turns]
    with torch.no_grad():
        before, after = (scores_of(model, r, shared=True).logps for r in (rows, replace(rows, turns=blind)))
    assert (before - after).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", pytest.param("qwen3_5", marks=pytest.mark.slow)])
def test_a_completion_does_not_see_the_turns_of_another(name):
    model = families.ready(name)
    rows, changed = tool_rows(model), 3  # two pictures, and an answer of text
    ids, pixels = rows.completion_ids.clone(), rows.turns[changed].images["pixel_values"]
    said = rows.scored[changed]
    ids[changed, said] = families.TEXT + (ids[changed, said] + 7 - families.TEXT) % 200
    turns = list(rows.turns)
    turns[changed] = replace(turns[changed], images={**turns[changed].images, "pixel_values": pixels.flip(0) + 0.5})
    with torch.no_grad():
        before, after = (
            scores_of(model, r, shared=True).logps for r in (rows, replace(rows, completion_ids=ids, turns=turns))
        )
    others = [row for row in range(len(ids)) if row != changed]
    assert torch.equal(before[others], after[others])
    assert (before[changed] - after[changed]).abs().max() > 1e-3


def test_without_turns_nothing_changes(qwen):
    rows = tool_rows(qwen, [(1, 9, [(5,), (3,)]), (0, 7, [(1,)])])
    assert rows.turns == [None] * 3
    for shared in (True, False):
        none, empty = (passed_with_turns(qwen, r, shared) for r in (rows, replace(rows, turns=())))
        assert torch.equal(none.scores.logps, empty.scores.logps)
        assert all(torch.equal(gradient, empty.gradients[name]) for name, gradient in none.gradients.items())


@pytest.mark.parametrize("shared", [True, False], ids=["packed", "rows"])
def test_rows_left_out_leave_the_others_as_they_are(qwen, shared):
    rows, out = tool_rows(qwen), {1, 4, 6}
    prompts = [None if row in out else prompt for row, prompt in enumerate(rows.prompts)]
    with torch.no_grad():
        whole, part = (scores_of(qwen, r, shared) for r in (rows, replace(rows, prompts=prompts)))
    kept = [row for row in range(len(prompts)) if row not in out]
    torch.testing.assert_close(part.logps[kept], whole.logps[kept], atol=TOLERANCE, rtol=0)
    assert not part.logps[sorted(out)].any() and not part.entropies[sorted(out)].any()


@pytest.mark.parametrize(
    "name", ["qwen2_5_vl", *(pytest.param(n, marks=pytest.mark.slow) for n in ("qwen3_vl", "gemma3"))]
)
def test_features_of_a_frozen_tower_give_the_same_log_probs(name, monkeypatch):
    model = families.ready(name)
    backbone, rows = model.base_model, tool_rows(model)
    seen = {id(prompt): with_features(backbone, prompt) for prompt in rows.prompts}
    kept = replace(
        rows,
        prompts=[seen[id(prompt)] for prompt in rows.prompts],
        turns=[turns and with_features(backbone, turns) for turns in rows.turns],
    )
    mixed = replace(kept, turns=rows.turns)  # not all have them: the tower computes all
    towers = []
    tower = backbone.vision_tower if name == "gemma3" else backbone.visual
    tower.register_forward_hook(lambda *_: towers.append(1))
    with torch.no_grad():
        for shared in (True, False):
            expected = scores_of(model, rows, shared).logps
            for given, calls in ((kept, 0), (mixed, 1)):
                towers.clear()
                torch.testing.assert_close(scores_of(model, given, shared).logps, expected, atol=TOLERANCE, rtol=0)
                assert len(towers) == calls  # one vision call a pass


def test_gradient_checkpointing_changes_nothing():
    model = families.ready("qwen2_5_vl")
    rows = tool_rows(model)
    plain = passed_with_turns(model, rows, shared=True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert_same(plain, passed_with_turns(model, rows, shared=True))


def test_adapters_learn_from_turns_as_from_each_conversation_alone():
    model = families.ready("qwen2_5_vl")
    rows = tool_rows(model)
    torch.manual_seed(0)
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    )
    alone = passed_alone(adapted, rows)
    assert len(alone.gradients) and all("lora" in name for name in alone.gradients)
    for shared in (True, False):
        assert_same(alone, passed_with_turns(adapted, rows, shared))
    take_gradients(model)
