"""Decoding over prompts kept once equals attention over repeated prompts; packed linear layers equal plain ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel

from open_r1.rollout.generation import prefill
from open_r1.rollout.packed_linears import can_pack, packed_linears
from open_r1.rollout.prompt_cache import select_rows
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.shared_prompt import (
    SharedPromptLayer,
    attend_to_prompts,
    attention_to_prompts,
    share_prompts,
    why_prompts_are_repeated,
)

TOLERANCE = 1e-5
EXACT = {"atol": TOLERANCE, "rtol": 0}
SIZES = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}


def tiny(kind: str = "qwen3", **more) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, num_attention_heads=4, num_key_value_heads=2, **more)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def prefilled(model: PreTrainedModel) -> tuple[DynamicCache, torch.Tensor]:
    """The cache of prompts of 6 and 3 tokens without their last, and their mask."""
    prompts = [Prompt(torch.arange(3, 3 + n), torch.arange(n), {}, {}) for n in (6, 3)]
    with torch.no_grad():
        cache = prefill(model.base_model, prompts)
    return cache, torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])


@pytest.mark.parametrize("prompt_of_row", [[0, 0, 1, 1], [0, 0, 0, 1]], ids=["equal groups", "unequal"])
@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [1, 3], [2, 3], [0]])
def test_attention_is_that_of_repeated_prompts(prompt_of_row, kept):
    cache, mask = prefilled(tiny())
    share_prompts(cache, prompt_of_row, mask)
    generator = torch.Generator().manual_seed(1)
    for rows in ([0, 1, 2, 3], kept):
        select_rows(cache, torch.tensor(rows))
        layer, module = cache.layers[0], nn.Module()
        new = torch.randn(2, len(rows), 2, 1, 8, generator=generator)
        query = torch.randn(len(rows), 4, 1, 8, generator=generator)
        keys, values = layer.update(new[0], new[1])
        ours, _ = attend_to_prompts(module, query, keys, values, None)
        keys, values, seen = layer.whole()
        plain = scaled_dot_product_attention(query, keys, values, attn_mask=seen, enable_gqa=True)
        torch.testing.assert_close(ours, plain.transpose(1, 2), **EXACT)
        assert keys.shape[2] == layer.get_seq_length() == 5 + layer.keys.shape[2]
    assert len(layer.prompt_keys) == len({prompt_of_row[row] for row in kept})


def test_a_model_that_changes_keys_after_its_cache_ends_the_rollout(monkeypatch):
    model = tiny()
    cache, mask = prefilled(model)
    share_prompts(cache, [0, 0, 1, 1], mask)
    plain = SharedPromptLayer.update
    monkeypatch.setattr(SharedPromptLayer, "update", lambda *args: tuple(x.clone() for x in plain(*args)))
    with attention_to_prompts(model.base_model, cache), pytest.raises(RuntimeError, match="--prefill_once false"):
        model(torch.tensor([[3]] * 4), past_key_values=cache, position_ids=torch.full((4, 1), 5))
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("model", "rows", "reason"),
    [
        (tiny, 4, None),
        (tiny, 3, "groups are too small to gain from it"),
        (lambda: tiny("exaone4", sliding_window=4, layer_types=["sliding_attention", "full_attention"]), 8, "Sliding"),
    ],
    ids=["shared", "small groups", "sliding window"],
)
def test_prompts_are_shared_where_it_gains(model, rows, reason):
    model = model()
    found = why_prompts_are_repeated(model.base_model, prefilled(model)[0], rows)
    assert found is None if reason is None else reason in found


def test_prompts_are_repeated_in_16_bits():
    model = tiny()
    cache, _ = prefilled(model)
    with torch.autocast("cpu"):
        assert "16 bits" in why_prompts_are_repeated(model.base_model, cache, 8)
    for layer in cache.layers:
        layer.keys = layer.keys.bfloat16()
    assert "16 bits" in why_prompts_are_repeated(model.base_model, cache, 8)


def test_packed_linear_layers_are_the_plain_ones_and_leave_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 48, bias=False))
    for rows in (1, 8, 33):
        states = torch.randn(rows, 2, 64)
        plain = model(states)
        with torch.no_grad(), packed_linears(model):
            assert all("forward" in vars(layer) for layer in model)
            torch.testing.assert_close(model(states), plain, **EXACT)
    assert not any("forward" in vars(layer) for layer in model)


def test_layers_in_halves_or_under_autocast_stay_plain():
    layer = nn.Linear(4, 4)
    assert can_pack(layer) and not can_pack(nn.Linear(4, 4, dtype=torch.bfloat16))
    with torch.autocast("cpu"):
        assert not can_pack(layer)
