"""A vision-language model's sizes from its configuration: it is built on torch's `meta` device, without weights."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from open_r1.models.configuration import empty_model, read_config
from open_r1.models.lora import linear_layers
from open_r1.models.model_parts import vision_parts
from open_r1.models.quantization import weight_count
from open_r1.plan.config_numbers import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    caching_layers,
    feed_forward,
    key_and_value_size,
    setting_of,
    side_of,
    tower_configs,
    vision_config_of,
)

ADAPTER = ".lora_"  # in names of an adapter's layers
GATES = ("gate_proj", "gate_up_proj", ".w3.", "input_linear")  # in names of weights of a gated feed-forward part


@dataclass(frozen=True)
class Tower:
    """Sizes of a stack of transformer layers.

    `caching_layers`: those that keep keys and values in a rollout, `cached` numbers for each token; `gated`: its
    feed-forward part multiplies two projections; `intermediate`: the width of all experts of a token.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    gated: bool
    parameters: int
    caching_layers: int
    cached: int


@dataclass(frozen=True)
class Dims:
    """Sizes of a model. `text.parameters` counts the embeddings too, `vision.parameters` the projector."""

    name: str
    text: Tower
    vision: Tower
    vocab: int
    patch: int  # pixels of a patch's side
    linears: tuple[tuple[int, int], ...]  # (inputs, outputs) of the language model's linear layers, for LoRA
    tied: bool = False  # the head's weight is that of the embeddings

    @property
    def parameters(self) -> int:
        return self.text.parameters + self.vision.parameters

    def lora(self, rank: int) -> int:
        """Parameters of adapters of this rank on all linear layers of the language model."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def dims_of(model: PreTrainedModel) -> Dims:
    """Sizes of a model without its LoRA adapters; it may be on the `meta` device.

    Raises UsageError where vision is not a part of its own.
    """
    parts = vision_parts(model)
    own = [(name, p) for name, p in model.named_parameters() if ADAPTER not in name]
    sizes = [(getattr(p, "ds_numel", weight_count(p)), name) for name, p in own]
    seen = [(size, name) for size, name in sizes if is_of(name, parts)]
    said = [(size, name) for size, name in sizes if not is_of(name, parts)]
    text, vision = model.config.get_text_config(), vision_config_of(model.config)
    return Dims(
        name=model.config._name_or_path or model.config.model_type,
        text=tower(text, said),
        vision=towers(vision, seen),
        vocab=text.vocab_size,
        patch=side_of(
            getattr(vision, "patch_size", None) or setting_of(tower_configs(vision)[0], ("patch_size",), 16)
        ),
        linears=tuple(  # those that `--use_peft` adapts by default
            (module.in_features, module.out_features)
            for name, module in linear_layers(model).items()
            if not is_of(f"{name}.", parts) and ADAPTER not in name
        ),
        tied=is_tied(model),
    )


def is_tied(model: PreTrainedModel) -> bool:
    """Whether a model's head has the weight of its embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def is_of(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a parameter of this name is one of the vision tower."""
    return any(part in name for part in parts)


def towers(config: PreTrainedConfig, parameters: list[tuple[int, str]]) -> Tower:
    """Sizes of a vision tower; one made of several has the layers of all, and the sizes of the widest."""
    parts = [tower(part, parameters) for part in tower_configs(config)]
    widest = max(parts, key=lambda part: part.hidden)
    return replace(widest, layers=sum(part.layers for part in parts))


def tower(config: PreTrainedConfig, parameters: list[tuple[int, str]]) -> Tower:
    """Sizes of a tower from its part of the configuration and the sizes and names of its parameters.

    A tower without layers is a projection of patches.
    """
    hidden = setting_of(config, HIDDEN)
    heads, layers = setting_of(config, HEADS, 1), setting_of(config, LAYERS, 0)
    latent, head_dim = setting_of(config, ("kv_lora_rank",), 0), key_and_value_size(config, hidden, heads)
    kv_heads = heads if latent else setting_of(config, KV_HEADS, heads)
    return Tower(
        layers=layers,
        caching_layers=caching_layers(config, layers),
        hidden=hidden,
        intermediate=feed_forward(config, hidden, any("experts" in name for _, name in parameters)),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        cached=latent + setting_of(config, ("qk_rope_head_dim",), 0) if latent else 2 * kv_heads * head_dim,
        gated=any(gate in name for _, name in parameters for gate in GATES),
        parameters=sum(size for size, _ in parameters),
    )


@cache
def read_dims(name: str) -> tuple[Dims, Any]:
    """(sizes, configuration) of a model folder or hub name; no weights are read."""
    config = read_config(name, remedy="the planner runs none")
    return dims_of(empty_model(config, name)), config
