"""One prefill a prompt gives `generate`'s tokens with each kind of cache layer; other kinds say why they cannot."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from open_r1.rollout.generation import generate_groups
from open_r1.rollout.prompt_cache import growing_cache, select_rows, why_no_prefill
from open_r1.rollout.prompts import Prompt

VOCABULARY, END = 64, 2
TEXT = {
    **{"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END, "tie_word_embeddings": False},
}
DELTA = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "mamba_n_groups": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8}
KINDS = {
    "qwen3": {},
    "exaone4": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4,
        "sliding_window": 6,
    },
    "gemma4_text": {
        **{"layer_types": ["sliding_attention", "full_attention"] * 2, "num_hidden_layers": 4, "sliding_window": 6},
        **{"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY},
        "global_head_dim": 16,
    },
    "deepseek_v3": {
        **{**LATENT, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1},
        **{"moe_intermediate_size": 24, "first_k_dense_replace": 1, "num_key_value_heads": 4, "head_dim": 4},
    },
    "qwen3_next": {**DELTA, **EXPERTS, "layer_types": ["linear_attention"] * 2 + ["full_attention"]},
    "olmo_hybrid": {**DELTA, "layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3, "block_multiple_of": 8},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "bamba": {**MAMBA, "attn_layer_indices": [1], "num_key_value_heads": 2},
}


@pytest.fixture(params=KINDS)
def model(request) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **TEXT | KINDS[request.param])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 0.3 if parameter.dim() > 1 else parameter + noise * 0.1)
    return model


def prompts(*lengths: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]
    return [Prompt(row, torch.arange(len(row)), {}, {}) for row in ids]


def ended(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens


@pytest.mark.parametrize("lengths", [(11, 2, 23, 6), (2, 2)], ids=["ragged", "prefixes of one token"])
def test_a_rollout_with_one_prefill_is_generates(model, lengths):
    assert why_no_prefill(model, None) is None
    heads = prompts(*lengths)
    greedy = GenerationConfig(
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=0,
        suppress_tokens=[0, 1],
        repetition_penalty=1.2,
        sequence_bias={(END,): 2.0},  # so that rows leave the batch
    )
    ours = generate_groups(model, model.base_model, [p for p in heads for _ in range(3)], greedy, [END])
    for number, prompt in enumerate(heads):
        plain = model.generate(input_ids=prompt.ids[None], generation_config=greedy)[0, len(prompt.ids) :].tolist()
        assert ours[3 * number : 3 * number + 3] == [ended(plain)] * 3


def test_a_layer_with_keys_and_a_state_repeats_both():
    config = AutoConfig.for_model("falcon_h1", **TEXT | KINDS["falcon_h1"])
    cache = growing_cache(config)
    for layer in cache.layers:
        layer.update(*torch.arange(3.0).view(3, 1, 1, 1).expand(2, 3, 2, 4, 8))
        layer.update_conv_state(torch.arange(3.0).view(3, 1, 1).expand(3, 5, 4))
        layer.update_recurrent_state(torch.arange(3.0).view(3, 1).expand(3, 7))
    select_rows(cache, torch.tensor([2, 2, 0, 1]))
    for layer in cache.layers:
        kept = (layer.keys, layer.values, layer.conv_states[0], layer.recurrent_states[0])
        assert [states.flatten(1)[:, -1].tolist() for states in kept] == [[2.0, 2.0, 0.0, 1.0]] * 4


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (["full_attention", "deepseek_sparse_attention"], "the cache has layers of kind deepseek_sparse_attention"),
        (["full_attention", "of_next_year"], "the cache has layers of kind of_next_year"),
        (["linear_attention"], "no layer counts its tokens"),
    ],
)
def test_a_cache_that_cannot_be_repeated_says_why(kinds, reason):
    text = SimpleNamespace(layer_types=kinds, num_hidden_layers=len(kinds))
    config = SimpleNamespace(get_text_config=lambda decoder: text)
    assert why_no_prefill(SimpleNamespace(config=config), None) == reason
