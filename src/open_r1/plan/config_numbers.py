"""Numbers of a configuration, by whichever of their names its model type uses; layers may differ in them."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

from open_r1.errors import UsageError

HIDDEN = ("embed_dim", "hidden_size", "mm_embed_dim", "d_model")  # Qwen2-VL calls its vision tower's width embed_dim
HEADS = ("num_attention_heads", "num_heads", "attention_heads", "encoder_attention_heads")
LAYERS = ("num_hidden_layers", "depth", "num_layers", "encoder_layers")
KV_HEADS = ("num_key_value_heads",)
INTERMEDIATE = ("intermediate_size", "ffn_dim", "mlp_dim", "encoder_ffn_dim")
EXPERTS = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts")  # experts of a token
EXPERT_WIDTH = ("moe_intermediate_size",)
SHARED_EXPERTS = ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts")  # besides those
STATES = {"linear_attention", "conv", "mamba", "mamba2", "moe", "mlp"}  # kinds of layers that keep no keys and values
# side of the square of patches that becomes a token, in the configuration, its vision part or its processor
PATCH_SIDES = ("spatial_merge_size", "merge_size", "merge_kernel_size", "downsample_factor", "hidden_stride")
PATCH_SIDES += ("pooling_kernel_size", "projector_pooling_ratio", "scale_factor")


def setting_of(config: PreTrainedConfig, names: tuple[str, ...], default: int | None = None) -> int:
    """The first of these settings that the configuration has, the largest of lists and of layers; `default` for none.

    Raises UsageError where there is neither.
    """
    for name in names:
        if values := [value for value in _values(config, name) if isinstance(value, int | float)]:
            return int(max(values))
    if default is None:
        raise UsageError(f"{type(config).__name__}: got no {' or '.join(names)}, expected one; this model has no plan")
    return default


def _values(config: Any, name: str) -> Iterator[Any]:
    """The values of a setting: one, those of a list, or those of layers that differ."""
    if config_of_layers := getattr(config, "is_heterogeneous", False) and config.per_layer_config:
        values = [getattr(layer, name, None) for layer in config_of_layers]
    else:
        values = [getattr(config, name, None)]
    for value in values:
        yield from value if isinstance(value, list | tuple) else [value]


def caching_layers(config: PreTrainedConfig, layers: int) -> int:
    """Layers that keep keys and values of their own: neither those that carry a state nor those that share them."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * layers
    shared = getattr(config, "num_kv_shared_layers", None) or 0
    return sum(kind not in STATES for kind in kinds[: len(kinds) - shared])


def key_and_value_size(config: PreTrainedConfig, hidden: int, heads: int) -> int:
    """Numbers of a head's key, or value; of those that are made from a latent the mean of both."""
    if getattr(config, "kv_lora_rank", None):
        key = setting_of(config, ("qk_nope_head_dim",), 0) + setting_of(config, ("qk_rope_head_dim",), 0)
        return -(-(key + setting_of(config, ("v_head_dim",), key)) // 2)
    return setting_of(config, ("head_dim",), hidden // heads)


def feed_forward(config: PreTrainedConfig, hidden: int, experts: bool) -> int:
    """The width of a token's feed-forward part: of all its experts where the model has `experts`."""
    ratio = getattr(config, "mlp_ratio", None) or 0
    width = setting_of(config, INTERMEDIATE, int(hidden * ratio))
    chosen = setting_of(config, EXPERTS, 0) if experts else 0
    if not chosen:
        return width
    each, always = setting_of(config, EXPERT_WIDTH, width), setting_of(config, ("shared_expert_intermediate_size",), 0)
    return each * (chosen + setting_of(config, SHARED_EXPERTS, 0)) + always


def vision_config_of(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a configuration for the vision tower. Raises UsageError where none is named so."""
    named = [name for name in ("vision_config", *config.sub_configs) if "vis" in name or "vq" in name]
    found = next((getattr(config, name) for name in named if getattr(config, name, None) is not None), None)
    if found is None:
        raise UsageError(f"{type(config).__name__}: got no vision_config, expected one; this model has no plan")
    return found


def tower_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """The configuration of a tower, or those of its parts where it is made of several."""
    parts = [getattr(config, name) for name in config.sub_configs if getattr(config, name, None) is not None]
    return parts or [config]


def patches_of_token(config: PreTrainedConfig) -> int:
    """How many vision patches become one token of the language model; 1 where the configuration names no number."""
    vision = vision_config_of(config)
    if hasattr(config, "mm_tokens_per_image"):
        return (side_of(vision.image_size) // side_of(vision.patch_size)) ** 2 // config.mm_tokens_per_image
    for part in (vision, config):
        for name in PATCH_SIDES:
            if side := getattr(part, name, None):
                return side_of(side) ** 2
    return round(1 / getattr(config, "downsample_ratio", 1) ** 2)


def side_of(size: float | list[int] | tuple[int, ...]) -> int:
    """A square's side, however a configuration writes it."""
    return int(size if isinstance(size, int | float) else size[0])
