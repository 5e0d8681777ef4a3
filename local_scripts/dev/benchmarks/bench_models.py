"""Models of the benchmarks: random weights in the sizes of `SIZES`, of each family of `FAMILIES`.

A family is here if it takes the processor of assets/tiny-vlm, whose image tokens are 28 x 28 pixels.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig, PreTrainedModel

TINY = Path(__file__).resolve().parents[3] / "assets" / "tiny-vlm"  # all use its tokenizer and token ids
TEXT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
VISION = ("hidden_size", "intermediate_size", "depth", "num_heads")
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {  # text, vision, vocabulary
    "tiny": ((192, 512, 4, 6, 2), (96, 192, 3, 3), 512),
    "45m": ((512, 2048, 8, 8, 2), (320, 1280, 6, 5), 4000),
    "3b": ((2048, 11008, 36, 16, 2), (1280, 3420, 32, 16), 151936),  # as Qwen2.5-VL-3B
}
TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
Fields = dict[str, Any]  # of a configuration


def rotary(text: Fields, share: float = 1.0, **more: Any) -> Fields:
    """Rotary positions of a `share` of each head: a quarter of them time, the rest height and width."""
    pairs = round(text["head_dim"] * share) // 2
    side = pairs * 3 // 8
    section = [pairs - 2 * side, side, side]
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section, **more}}


def qwen2_vl(text: Fields, vision: Fields) -> tuple[Fields, Fields]:
    width, inner = vision.pop("hidden_size"), vision.pop("intermediate_size")
    return rotary(text), {"embed_dim": width, "hidden_size": text["hidden_size"], "mlp_ratio": inner // width}


def qwen2_5_vl(text: Fields, vision: Fields) -> tuple[Fields, Fields]:
    """One of four vision layers sees whole pictures, the others windows."""
    whole = [layer for layer in range(vision["depth"]) if layer % 4 == 3 or layer == vision["depth"] - 1]
    return rotary(text), {"out_hidden_size": text["hidden_size"], "fullatt_block_indexes": whole}


def qwen3_vl(text: Fields, vision: Fields) -> tuple[Fields, Fields]:
    """Two layers of the vision tower feed the first layers of the language model."""
    eyes = {"deepstack_visual_indexes": [0, vision["depth"] // 2], "num_position_embeddings": 48**2}
    return rotary(text, mrope_interleaved=True), {"out_hidden_size": text["hidden_size"], **eyes}


def qwen3_5(text: Fields, vision: Fields) -> tuple[Fields, Fields]:
    """Three layers of the gated delta rule, then one of attention, again and again."""
    heads, layers = text["num_attention_heads"], text["num_hidden_layers"]
    states = {
        "layer_types": ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(layers)],
        "linear_num_key_heads": heads // 2,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": text["head_dim"],
        "linear_value_head_dim": text["head_dim"],
    }
    turned = rotary(text, 0.25, mrope_interleaved=True, partial_rotary_factor=0.25)
    return {**states, **turned}, {"out_hidden_size": text["hidden_size"], "num_position_embeddings": 48**2}


FAMILIES: dict[str, Callable[[Fields, Fields], tuple[Fields, Fields]]] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_5": qwen3_5,
}


def configuration(family: str, size: str) -> PreTrainedConfig:
    """The configuration of a family in a size, with the token ids of assets/tiny-vlm."""
    base = AutoConfig.from_pretrained(TINY, trust_remote_code=False)
    text_sizes, vision_sizes, vocabulary = SIZES[size]
    text: Fields = dict(zip(TEXT, text_sizes, strict=True))
    text |= {"head_dim": text["hidden_size"] // text["num_attention_heads"], "vocab_size": vocabulary}
    text |= {"max_position_embeddings": 128000}
    vision: Fields = dict(zip(VISION, vision_sizes, strict=True))
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    more_text, more_vision = FAMILIES[family](text, vision)
    tokens = {name: getattr(base, name) for name in TOKENS}
    parts = {"text_config": text | more_text, "vision_config": vision | more_vision}
    return AutoConfig.for_model(family, **parts, tie_word_embeddings=True, **tokens)


def build_model(size: str, device: str, dtype: str, seed: int, family: str = "qwen2_5_vl") -> PreTrainedModel:
    """A model with random weights."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            configuration(family, size), dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
    for module in model.modules():  # with transformers' 0.02 all log-probs would be nearly equal
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    model.generation_config = GenerationConfig.from_pretrained(TINY)
    return model
