"""A vision-language model's sizes from its configuration: it is built on torch's `meta` device, without weights."""

from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import Any

from PIL import Image
from transformers import AutoProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.models.configuration import empty_model, one_line, read_config
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
    patches_of_token,
    setting_of,
    side_of,
    tower_configs,
    vision_config_of,
)

TIME_TOKENS = 10  # of a frame's time as text, "<12.5 seconds>", and of its marks
TILES = 12  # most tiles an image of a model that cuts images into tiles, plus one of the whole image
LARGE_SHAPES = (
    (2048, 2048),
    (4096, 1024),
    (1024, 4096),
)  # (width, height) in pixels of pictures whose tokens are counted
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


def per_image(
    config: PreTrainedConfig, max_pixels: int, tokens: int | None = None, tiles: int = TILES, name: str | None = None
) -> tuple[int, int]:
    """(patches, tokens) of the largest image: of `tokens` where given; of `max_pixels` where images are resized by
    area, of `tiles` tiles and the whole image where they are cut, of the family's one size, else what the processor
    of the model `name` counts. Raises UsageError where that is unknown.
    """
    vision, per_token = vision_config_of(config), patches_of_token(config)
    if tokens is None and hasattr(vision, "spatial_merge_size"):
        tokens = max_pixels // side_of(vision.patch_size) ** 2 // per_token
    elif tokens is None and (config.model_type == "internvl" or hasattr(config, "mm_tokens_per_image")):
        pieces = tiles + 1 if config.model_type == "internvl" and tiles > 1 else 1
        tokens = pieces * (side_of(vision.image_size) // side_of(vision.patch_size)) ** 2 // per_token
    elif tokens is None:
        tokens = counted_tokens(config, name)
    return tokens * per_token, tokens


def per_video(
    config: PreTrainedConfig, frames: int, max_pixels: int, tokens: int | None = None, name: str | None = None
) -> tuple[int, int]:
    """(patches, tokens) of the longest video: of `frames` frames of `max_pixels`, which make tokens in pairs where the
    vision tower takes pairs, each with the tokens of its time. Raises UsageError as `per_image`."""
    pairs = ceil(frames / getattr(vision_config_of(config), "temporal_patch_size", 1))
    patches, seen = per_image(config, max_pixels, tokens, 1, name)
    return pairs * patches, pairs * (seen + TIME_TOKENS)


def counted_tokens(config: PreTrainedConfig, name: str | None) -> int:
    """The most tokens that the processor of the model `name` makes of an image. Raises UsageError without one."""
    why = f"{config.model_type} resizes in its own way"
    if name is not None:
        try:
            return largest_image(AutoProcessor.from_pretrained(name, trust_remote_code=False))
        except (OSError, ValueError, ImportError) as error:
            why += f", and its processor cannot be read ({one_line(error)})"
    raise UsageError(
        f"--image_tokens: got nothing, expected the tokens of an image, as {why}; python -m open_r1.check --model "
        "counts prompts"
    )


def largest_image(processor: ProcessorMixin) -> int:
    """The most tokens that a processor makes of large pictures of three shapes."""

    def length(pictures: list[Image.Image]) -> int:
        parts = [*({"type": "image", "image": each} for each in pictures), {"type": "text", "text": "."}]
        fields = processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        return fields["input_ids"].shape[1]

    return max(length([Image.new("RGB", size)]) for size in LARGE_SHAPES) - length([])
