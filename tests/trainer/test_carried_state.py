"""Layers that carry a state share their prefix exactly: gated delta rules, Mamba 2, short convolutions; float32."""

from copy import deepcopy

import pytest
import torch
from helpers import families
from helpers.families import completions, group_prompts, scored
from helpers.families.tiny import DEFAULT_A
from helpers.trainers import take_gradients
from peft import LoraConfig, get_peft_model

from open_r1.trainer.forward import carried_state
from open_r1.trainer.forward.carried_state import CarriedState, state_layers

# prompts as (images, text tokens, completions), and the lengths of the completions
CASES = {
    "ragged": ([(1, 20, 4), (2, 30, 4)], [5, 1, 12, 7, 12, 2, 9, 4]),
    "text": ([(0, 20, 4), (0, 33, 4)], [5, 1, 12, 7, 12, 2, 9, 4]),
    "more than a chunk": ([(2, 150, 2), (1, 70, 2)], [100, 1, 65, 3]),
    "one group": ([(1, 40, 4)], [5, 1, 12, 7]),
    "prefixes of 1 to 3 tokens": ([(0, 2, 2), (0, 3, 2), (0, 4, 3)], [5, 1, 12, 7, 3, 3, 2]),
    "completions of one token": ([(1, 20, 3), (0, 9, 2)], [1, 1, 1, 1, 1]),
    "G=1 and others": ([(1, 9, 3), (0, 7, 2), (2, 12, 1), (1, 20, 2)], [5, 1, 3, 4, 2, 6, 1, 6]),
}
EACH = ["qwen3_5", "llava_bamba", "llava_lfm2"]  # of each kind of state one
OTHERS = ["qwen3_5_moe", "lfm2_vl", "minicpmv4_6", "llava_qwen3_next", "llava_olmo_hybrid", "llava_falcon_h1"]
OTHERS += ["llava_granitemoehybrid", "llava_zamba2", "llava_nemotron_h", "llava_lfm2_moe"]


def with_small_rates(model):
    """Decay rates A of its states near 0.1, so that states last and rows do not differ by rounding alone."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("A_log"):
                parameter.copy_(torch.linspace(-2.2, -1.8, parameter.numel()))
    return model


@pytest.fixture(scope="module")
def models():
    built = {}
    return lambda name: built.setdefault(name, with_small_rates(families.ready(name)))


def case_of(model, name):
    groups, lengths = CASES[name]
    prompts = group_prompts(model, groups)
    return prompts, completions(len(prompts), max(lengths)), lengths


def gradients(model, logps: torch.Tensor) -> dict[str, torch.Tensor]:
    (logps * torch.linspace(-1, 1, logps.numel()).view_as(logps)).sum().backward()
    return take_gradients(model)


def worst(of_rows: dict[str, torch.Tensor], of_packed: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest relative difference of a tensor's gradients, and its name."""
    assert of_rows.keys() == of_packed.keys()
    scale = max(gradient.norm() for gradient in of_rows.values())
    gaps = {name: (of_packed[name] - rows).norm() / max(rows.norm(), 1e-3 * scale) for name, rows in of_rows.items()}
    return max((float(gap), name) for name, gap in gaps.items())


def check_equal(model, case: str) -> None:
    prompts, completion_ids, lengths = case_of(model, case)
    rows, packed = (scored(model, prompts, completion_ids, lengths, shared).logps for shared in (False, True))
    torch.testing.assert_close(packed, rows, atol=1e-5, rtol=0)
    difference, name = worst(gradients(model, rows), gradients(model, packed))
    assert difference <= 1e-5, name


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("case", CASES)
def test_packed_groups_equal_padded_rows(models, name, case):
    check_equal(models(name), case)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("case", ["text", "prefixes of 1 to 3 tokens"])
def test_packed_groups_of_other_families_equal_padded_rows(models, name, case):
    check_equal(models(name), case)


@pytest.mark.parametrize("name", EACH)
def test_a_prompt_of_one_token_has_no_prefix(models, name):
    model = models(name)
    (prompt, *_) = group_prompts(model, [(0, 8, 1)])
    first = type(prompt)(
        prompt.ids[:1], prompt.positions[..., :1], {k: v[:1] for k, v in prompt.types.items()}, {}, None
    )
    (second,) = group_prompts(model, [(0, 2, 1)])
    for prompts in ([first, first], [first, first, second]):
        batch = (prompts, completions(len(prompts)), [5, 1, 3][: len(prompts)])
        rows, packed = (scored(model, *batch, shared).logps for shared in (False, True))
        torch.testing.assert_close(packed, rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in EACH if "lfm2" not in name])
def test_at_the_default_rates_packed_groups_are_no_further_from_rows_than_rows_alone(name):
    """Large decay rates make states round otherwise for each length of a row, so padding alone changes results."""
    model = families.ready(name + DEFAULT_A)
    prompts, completion_ids, lengths = case_of(model, "ragged")
    rows, packed = (scored(model, prompts, completion_ids, lengths, shared).logps for shared in (False, True))
    alone = torch.cat(
        [
            scored(model, [prompt], completion_ids[i : i + 1], lengths[i : i + 1], False).logps
            for i, prompt in enumerate(prompts)
        ]
    )
    noise = (alone - rows).abs().max()
    assert (packed - rows).abs().max() <= max(2 * noise, 1e-5)
    of_rows = gradients(model, rows)
    noise, _ = worst(of_rows, gradients(model, alone))
    difference, tensor = worst(of_rows, gradients(model, packed))
    assert difference <= max(2 * noise, 1e-5), tensor


@pytest.mark.parametrize(("name", "states"), [("qwen3_5", 2), ("llava_bamba", 2), ("llava_lfm2", 1)])
def test_a_state_that_is_not_handed_on_is_seen(models, monkeypatch, name, states):
    model = models(name)
    prompts, completion_ids, lengths = case_of(model, "ragged")
    rows = scored(model, prompts, completion_ids, lengths, False).logps
    share = CarriedState.share
    for kind in ("conv_states", "recurrent_states")[:states]:

        def forget(self, layout, kind=kind):
            share(self, layout)
            getattr(self, kind).update({i: torch.zeros_like(state) for i, state in getattr(self, kind).items()})

        monkeypatch.setattr(CarriedState, "share", forget)
        packed = scored(model, prompts, completion_ids, lengths, True).logps
        assert (packed - rows).abs().max() > 0.1, kind


@pytest.mark.parametrize("name", EACH)
def test_a_completion_does_not_see_another(models, name):
    model = models(name)
    prompts = group_prompts(model, [(1, 9, 3)])
    completion_ids, changed = completions(3), completions(3)
    changed[1] = completions(1, seed=9)
    before, after = (scored(model, prompts, each, [6, 6, 6], shared=True).logps for each in (completion_ids, changed))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] - after[1]).abs().max() > 1e-3


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["qwen3_5", "lfm2_vl", "llava_zamba2"])
def test_checkpointing_computes_the_same_again(models, name, reentrant):
    model = models(name)
    batch = case_of(model, "ragged")
    expected = gradients(model, scored(model, *batch, shared=True).logps)
    model.train().gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    try:
        logps = scored(model, *batch, shared=True).logps
        assert not any("forward" in vars(mixer) for mixer in state_layers(model))
        assert worst(expected, gradients(model, logps))[0] <= 1e-6
    finally:
        model.disable_input_require_grads()
        model.gradient_checkpointing_disable()
        model.eval()


@pytest.mark.parametrize("name", EACH)
def test_adapters_of_the_mixers_learn_the_same(name):
    model = with_small_rates(families.ready(name))
    config = LoraConfig(r=4, target_modules=r".*language_model.*\.(in_proj\w*|out_proj)", init_lora_weights=False)
    model = get_peft_model(model, config).get_base_model()
    prompts, completion_ids, lengths = case_of(model, "G=1 and others")
    rows, packed = (scored(model, prompts, completion_ids, lengths, shared).logps for shared in (False, True))
    of_rows = gradients(model, rows)
    assert all("lora" in tensor for tensor in of_rows) and of_rows
    assert worst(of_rows, gradients(model, packed))[0] <= 1e-5


def test_a_layer_is_as_before_after_a_call_and_after_an_error(models, monkeypatch):
    model = models("lfm2_vl")
    batch = case_of(model, "one group")
    before = scored(model, *batch, shared=False).logps
    monkeypatch.setattr(carried_state, "split", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scored(model, *batch, shared=True)
    monkeypatch.undo()
    assert not any("forward" in vars(layer) for layer in state_layers(model))
    assert torch.equal(scored(model, *batch, shared=False).logps, before)


def test_a_copy_of_a_model_computes_with_its_own_weights(models):
    model = models("qwen3_5")
    batch = case_of(model, "one group")
    before = scored(model, *batch, shared=True).logps
    copied = deepcopy(model)
    with torch.no_grad():
        for mixer in state_layers(copied):
            mixer.out_proj.weight.zero_()
    assert torch.equal(scored(model, *batch, shared=True).logps, before)
    rows, packed = (scored(copied, *batch, shared).logps for shared in (False, True))
    torch.testing.assert_close(packed, rows, atol=1e-5, rtol=0)
    assert (packed - before).abs().max() > 0.1
