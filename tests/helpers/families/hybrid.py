"""Text models that carry a state, in composite models: gated delta rule, Mamba 2, short convolutions."""

from typing import Any

from helpers.families.llava import llava
from helpers.families.parts import Fields, experts, rope, text
from helpers.families.qwen import SHARED_EXPERTS, STATES

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 16}


def delta(kind: str, **more: Any) -> Fields:
    """Layers of the gated delta rule around one of attention."""
    rotary = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    return text(model_type=kind, **STATES, rope_parameters=rotary, **more)


def mamba(kind: str, **more: Any) -> Fields:
    """A layer of Mamba 2, then one of attention."""
    return text(model_type=kind, **MAMBA, **more)


NEMOTRON = {
    "layers_block_type": ["mamba", "attention"],
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 16,
    "n_groups": 2,
    "chunk_size": 16,
}
ZAMBA = {
    "layers_block_type": ["mamba", "hybrid"],
    "n_mamba_heads": 8,
    "mamba_d_state": 16,
    "chunk_size": 16,
    "num_key_value_heads": 4,
}


def of(words: Fields) -> Any:
    """A builder of LLaVA with this text model."""
    return lambda: llava(words)


HYBRID = {
    "llava_olmo_hybrid": of(delta("olmo_hybrid", linear_allow_neg_eigval=True)),
    "llava_qwen3_next": of(delta("qwen3_next", **SHARED_EXPERTS)),
    "llava_qwen3_5": of(text(model_type="qwen3_5_text", **STATES, rope_parameters=rope(4, 2, 2))),
    "llava_bamba": of(mamba("bamba", attn_layer_indices=[1])),
    "llava_falcon_h1": of(mamba("falcon_h1", mamba_d_ssm=128)),
    "llava_granitemoehybrid": of(mamba("granitemoehybrid", layer_types=["mamba", "attention"])),
    "llava_zamba2": of(text(model_type="zamba2", **ZAMBA)),
    "llava_nemotron_h": of(text(model_type="nemotron_h", **NEMOTRON)),
    "llava_lfm2": of(text(3, model_type="lfm2", layer_types=["conv", "full_attention", "conv"], block_ff_dim=96)),
    "llava_lfm2_moe": of(
        text(3, model_type="lfm2_moe", layer_types=["conv", "full_attention", "conv"], num_dense_layers=1, **experts())
    ),
}
