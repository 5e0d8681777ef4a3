"""A vision-language model's sizes from its configuration: it is built on torch's `meta` device, without weights."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from transformers import PreTrainedModel

from open_r1.errors import UsageError
from open_r1.models.configuration import empty_model, read_config
from open_r1.models.families import family_of
from open_r1.models.lora import linear_layers

TILES = 12  # most tiles an image of a model that cuts images into tiles, plus one of the whole image


@dataclass(frozen=True)
class Tower:
    """Sizes of a stack of transformer layers.

    `gated`: its feed-forward part multiplies two projections; `intermediate`: the width of all experts of a token.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    gated: bool
    parameters: int


@dataclass(frozen=True)
class Dims:
    """Sizes of a model. `text.parameters` counts the embeddings too, `vision.parameters` the projector."""

    name: str
    text: Tower
    vision: Tower
    vocab: int
    patch: int  # pixels of a patch's side
    linears: tuple[tuple[int, int], ...]  # (inputs, outputs) of the language model's linear layers, for LoRA

    @property
    def parameters(self) -> int:
        return self.text.parameters + self.vision.parameters

    def lora(self, rank: int) -> int:
        """Parameters of adapters of this rank on all linear layers of the language model."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def dims_of(model: PreTrainedModel) -> Dims:
    """Sizes of a model, which may be on the `meta` device. Raises UsageError for an unknown family."""
    parts = family_of(model).vision
    sizes = [(getattr(p, "ds_numel", p.numel()), any(x in n for x in parts)) for n, p in model.named_parameters()]
    gates = [name for name, _ in model.named_modules() if name.endswith("gate_proj")]
    gated = [any(part in name for part in parts) for name in gates]
    text, vision = model.config.get_text_config(), model.config.vision_config
    return Dims(
        name=model.config._name_or_path or model.config.model_type,
        text=tower(text, sum(n for n, is_vision in sizes if not is_vision), gated=False in gated),
        vision=tower(vision, sum(n for n, is_vision in sizes if is_vision), gated=True in gated),
        vocab=text.vocab_size,
        patch=square_side(vision.patch_size),
        linears=tuple(  # those that `--use_peft` adapts by default
            (module.in_features, module.out_features)
            for name, module in linear_layers(model).items()
            if not any(part in f"{name}." for part in parts)
        ),
    )


def tower(config: Any, parameters: int, gated: bool) -> Tower:
    """Sizes of a tower from its part of the configuration."""
    hidden = first_setting(config, "embed_dim", "hidden_size")  # Qwen2-VL calls its vision tower's width embed_dim
    heads = first_setting(config, "num_attention_heads", "num_heads")
    intermediate = getattr(config, "intermediate_size", None) or int(hidden * config.mlp_ratio)
    if experts := getattr(config, "num_experts_per_tok", None):
        intermediate = experts * (getattr(config, "moe_intermediate_size", None) or intermediate)
    return Tower(
        layers=first_setting(config, "num_hidden_layers", "depth"),
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or hidden // heads,
        gated=gated,
        parameters=parameters,
    )


def first_setting(config: Any, *names: str) -> int:
    """The first of these settings that the configuration has. Raises UsageError where it has none."""
    values = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
    if not values:
        raise UsageError(f"{type(config).__name__}: got no {' or '.join(names)}, expected one; this model has no plan")
    return values[0]


def square_side(size: int | list[int] | tuple[int, ...]) -> int:
    """A square's side, however a configuration writes it."""
    return size if isinstance(size, int) else size[0]


@cache
def read_dims(name: str) -> tuple[Dims, Any]:
    """(sizes, configuration) of a model folder or hub name; no weights are read."""
    config = read_config(name, remedy="the planner runs none")
    return dims_of(empty_model(config, name)), config


def per_image(config: Any, max_pixels: int, tokens: int | None = None, tiles: int = TILES) -> tuple[int, int]:
    """(patches, tokens) of the largest image: of `tokens` where given; of `max_pixels` where images are resized by
    area, of `tiles` tiles and the whole image where they are cut, else of the family's one size. Raises UsageError
    where that is unknown.
    """
    vision, per_token = config.vision_config, patches_per_token(config)
    patch = square_side(vision.patch_size)
    if tokens is None and hasattr(vision, "spatial_merge_size"):
        tokens = max_pixels // patch**2 // per_token
    elif tokens is None and (config.model_type == "internvl" or hasattr(config, "mm_tokens_per_image")):
        pieces = tiles + 1 if config.model_type == "internvl" and tiles > 1 else 1
        tokens = pieces * (square_side(vision.image_size) // patch) ** 2 // per_token
    if tokens is None:
        raise UsageError(
            f"--image_tokens: got nothing, expected the tokens of an image, as {config.model_type} resizes in its own "
            f"way; python -m open_r1.check --model counts prompts"
        )
    return tokens * per_token, tokens


def patches_per_token(config: Any) -> int:
    """How many vision patches become one token of the language model."""
    vision = config.vision_config
    if merge := getattr(vision, "spatial_merge_size", None):
        return merge**2
    if hasattr(config, "mm_tokens_per_image"):
        return (square_side(vision.image_size) // square_side(vision.patch_size)) ** 2 // config.mm_tokens_per_image
    return round(1 / getattr(config, "downsample_ratio", 1 / getattr(config, "scale_factor", 1)) ** 2)
