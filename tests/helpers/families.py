"""Tiny random vision-language models, one per family, and inputs for one conversation as its processor gives them.

Nothing is read from disk or a hub: models come from configurations, inputs from a seed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from open_r1.rollout.prompts import Prompt, prompt_from_fields
from open_r1.trainer.forward.log_probs import Scores, score
from open_r1.trainer.forward.shared_prefix import share_prefixes

VOCABULARY = 128
PAD, BOS, EOS, IMAGE, VIDEO, START, END, NEWLINE, FAKE, GLOBAL = range(10)
ROW_COLUMN = 10  # <row_1_col_1>, <row_1_col_2>, <row_2_col_1>, ... of idefics3 and smolvlm, four of them
TEXT = 16  # this and every greater id is ordinary text
SIDE, PATCH = 28, 7  # pixels of a square image or tile, and of a vision patch

Batch = dict[str, torch.Tensor]
Images = tuple[Batch, list[list[int]]]  # the processor's fields, and each image's run of tokens


def _text(layers: int = 2, **more: Any) -> dict[str, Any]:
    """A text configuration's fields: four heads of 16, two of keys and values."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        **more,
    }


def _vision(**more: Any) -> dict[str, Any]:
    """A plain vision tower's fields: two layers over 4 x 4 patches."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**tower, "image_size": SIDE, "patch_size": PATCH, **more}


def _tiny(family: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> PreTrainedModel:
    """The family's image-text-to-text model, its weights wide enough that outputs depend on what goes in."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, text_config=text, vision_config=vision, pad_token_id=PAD, **more)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 0.2 if parameter.dim() > 1 else parameter + noise * 0.1)
    return model


def _qwen(family: str, section: list[int], vision: dict[str, Any], layers: int = 2, **text: Any) -> PreTrainedModel:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section}
    special = {"image_token_id": IMAGE, "video_token_id": VIDEO}
    special |= {"vision_start_token_id": START, "vision_end_token_id": END}
    return _tiny(
        family,
        _text(layers, rope_parameters=rope, **text),
        {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
        **special,
    )


def _qwen2_vl() -> PreTrainedModel:
    return _qwen("qwen2_vl", [2, 3, 3], {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2})


def _qwen2_5_vl() -> PreTrainedModel:
    """The first vision block attends within windows of 2 x 2 merged patches, the second to the whole image."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    return _qwen("qwen2_5_vl", [2, 3, 3], vision | {"window_size": 4 * PATCH, "fullatt_block_indexes": [1]})


def _qwen3_vl(family: str = "qwen3_vl", **text: Any) -> PreTrainedModel:
    """Both vision layers feed a text layer of their own; the third text layer gets none."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    return _qwen(family, [4, 2, 2], vision, layers=3, **text)


def _qwen3_vl_moe() -> PreTrainedModel:
    return _qwen3_vl("qwen3_vl_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48)


def _internvl() -> PreTrainedModel:
    return _tiny("internvl", _text(model_type="qwen3"), _vision(), image_token_id=IMAGE, image_seq_length=4)


def _idefics(family: str) -> PreTrainedModel:
    return _tiny(family, _text(model_type="llama"), _vision(), image_token_id=IMAGE, scale_factor=2)


def _llava_onevision() -> PreTrainedModel:
    return _tiny(
        "llava_onevision",
        _text(model_type="qwen2"),
        _vision(model_type="siglip_vision_model", patch_size=2 * PATCH, vision_use_head=False),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[SIDE, SIDE], [2 * SIDE, 2 * SIDE]],
    )


def _gemma3() -> PreTrainedModel:
    """Text layers that see 8 tokens back, with one between them that sees all."""
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    text = _text(len(layers), layer_types=layers, sliding_window=8, query_pre_attn_scalar=16)
    tokens = {"image_token_index": IMAGE, "boi_token_index": START, "eoi_token_index": END}
    return _tiny("gemma3", text, _vision(vision_use_head=False), mm_tokens_per_image=4, **tokens)


def _aria() -> PreTrainedModel:
    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    text = _text(model_type="aria_text", **experts)
    return _tiny("aria", text, _vision(), image_token_index=IMAGE, projector_patch_to_query_dict={16: 4})


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl_moe,
    "internvl": _internvl,
    "smolvlm": lambda: _idefics("smolvlm"),
    "idefics3": lambda: _idefics("idefics3"),
    "llava_onevision": _llava_onevision,
    "gemma3": _gemma3,
    "aria": _aria,
}


def _draw(options: list[Any], count: int, random: torch.Generator) -> list[Any]:
    """`count` of the options in random order; none comes again before all have come."""
    order: list[int] = []
    while len(order) < count:
        order += torch.randperm(len(options), generator=random).tolist()
    return [options[i] for i in order[:count]]


def _pixels(*shape: int, random: torch.Generator) -> torch.Tensor:
    return torch.rand(*shape, generator=random) * 2 - 1


def _qwen_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [patches of all images, 3 * 2 * PATCH * PATCH], image_grid_thw [images, 3]; 1 to 16 tokens each."""
    grids = [(1, height, width) for height in (2, 4, 6, 8) for width in (2, 4, 6, 8)]
    grid = torch.tensor(_draw(grids, count, random))
    pixels = _pixels(int(grid.prod(-1).sum()), 3 * 2 * PATCH * PATCH, random=random)
    runs = [[START, *[IMAGE] * tokens, END] for tokens in (grid.prod(-1) // 4).tolist()]
    return {"pixel_values": pixels, "image_grid_thw": grid}, runs


def _internvl_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [tiles of all images, 3, SIDE, SIDE]; 1, 3 or 4 tiles an image, 4 tokens each."""
    tiles = _draw([1, 3, 4], count, random)
    runs = [[START, *[IMAGE] * 4 * n, END] for n in tiles]
    return {"pixel_values": _pixels(sum(tiles), 3, SIDE, SIDE, random=random)}, runs


def _idefics_run(rows: int, columns: int) -> list[int]:
    """The rows of tiles, each ended by a new line, then the whole image; 4 image tokens a frame."""
    run: list[int] = []
    for row in range(rows):
        for column in range(columns):
            run += [FAKE, ROW_COLUMN + 2 * row + column, *[IMAGE] * 4]
        run += [NEWLINE]
    return [*run, *([NEWLINE] if rows else []), FAKE, GLOBAL, *[IMAGE] * 4, FAKE]


def _idefics_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [1, frames, 3, SIDE, SIDE], pixel_attention_mask [1, frames, SIDE, SIDE]; 1 or 3 an image."""
    splits = _draw([(0, 0), (1, 2), (2, 1)], count, random)
    frames = sum(rows * columns + 1 for rows, columns in splits)
    pixels = _pixels(1, frames, 3, SIDE, SIDE, random=random)
    fields = {"pixel_values": pixels, "pixel_attention_mask": torch.ones(1, frames, SIDE, SIDE)}
    return fields, [_idefics_run(*split) for split in splits]


def _llava_onevision_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [images, crops, 3, SIDE, SIDE], image_sizes [images, 2], batch_num_images [1].

    An image that is alone comes whole and cropped (2 or 5 crops), its borders removed again and each of its rows
    ended by a newline feature; several in one conversation come whole only, each ended by one.
    """
    sizes = _draw([(SIDE, SIDE), (SIDE, 2 * SIDE), (2 * SIDE, SIDE)], count, random)
    height, width = sizes[0]
    crops = 1 if count > 1 else 2 if height == width else 5
    tokens = 5 if count > 1 else 4 + height // (2 * PATCH) * (width // (2 * PATCH) + 1)
    fields = {
        "pixel_values": _pixels(count, crops, 3, SIDE, SIDE, random=random),
        "image_sizes": torch.tensor(sizes),
        "batch_num_images": torch.tensor([count]),
    }
    return fields, [[IMAGE] * tokens] * count


def _gemma3_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [images, 3, SIDE, SIDE]; 4 tokens each."""
    fields = {"pixel_values": _pixels(count, 3, SIDE, SIDE, random=random)}
    return fields, [[NEWLINE, START, *[IMAGE] * 4, END, NEWLINE]] * count


def _aria_images(count: int, random: torch.Generator) -> Images:
    """pixel_values [images, 3, SIDE, SIDE], padded where pixel_mask [images, SIDE, SIDE] is false; 4 tokens each."""
    mask = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for i, (height, width) in enumerate(_draw([(28, 28), (20, 28), (28, 12)], count, random)):
        mask[i, :height, :width] = True
    pixels = _pixels(count, 3, SIDE, SIDE, random=random).masked_fill(~mask[:, None], -1.0)
    return {"pixel_values": pixels, "pixel_mask": mask}, [[START, *[IMAGE] * 4, END]] * count


IMAGES: dict[str, Callable[[int, torch.Generator], Images]] = {
    "qwen2_vl": _qwen_images,
    "qwen2_5_vl": _qwen_images,
    "qwen3_vl": _qwen_images,
    "qwen3_vl_moe": _qwen_images,
    "internvl": _internvl_images,
    "smolvlm": _idefics_images,
    "idefics3": _idefics_images,
    "llava_onevision": _llava_onevision_images,
    "gemma3": _gemma3_images,
    "aria": _aria_images,
}
# Fields [1, P] that are 1 at image tokens and 0 elsewhere.
QWEN = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"]
TYPE_IDS = dict.fromkeys(QWEN, "mm_token_type_ids") | {"gemma3": "token_type_ids"}


def _interleaved(text: list[int], runs: list[list[int]], random: torch.Generator) -> Iterator[int]:
    """The runs in order, with at least one text token before, between and after them."""
    cuts = sorted((torch.randperm(len(text) - 1, generator=random)[: len(runs)] + 1).tolist())
    for run, start, end in zip(runs, [0, *cuts], cuts, strict=False):
        yield from text[start:end]
        yield from run
    yield from text[cuts[-1] if cuts else 0 :]


def prompt(model: PreTrainedModel, images: int, text: int, seed: int) -> Batch:
    """One conversation: input_ids [1, P] with `text` ordinary tokens around its `images`, and the processor's fields.

    There is no attention_mask. Without images there are no pixel fields; type ids are then zeros.
    """
    if text <= images:
        raise ValueError(f"{images} images need {images + 1} text tokens or more around them, not {text}")
    family = model.config.model_type
    random = torch.Generator().manual_seed(seed)
    fields, runs = IMAGES[family](images, random) if images else ({}, [])
    words = torch.randint(TEXT, VOCABULARY, (text,), generator=random).tolist()
    ids = torch.tensor([list(_interleaved(words, runs, random))])
    types = {TYPE_IDS[family]: (ids == IMAGE).long()} if family in TYPE_IDS else {}
    return {"input_ids": ids, **types, **fields}


def ready(family: str) -> PreTrainedModel:
    """The family's model as the trainer makes it: with the fused head, its groups sharing prefixes."""
    model = FAMILIES[family]()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    share_prefixes(model)
    return model


NAMES = list(FAMILIES)
# prompts as (images, text tokens, completions); G = 1, text only, several images, and one-token completions
GROUPS = [(1, 9, 3), (0, 7, 2), (2, 12, 1), (1, 20, 2)]


def group_prompts(model, groups=GROUPS) -> list[Prompt]:
    rope = getattr(model.base_model, "get_rope_index", None)
    return [
        row
        for seed, (images, text, rows) in enumerate(groups)
        for row in [prompt_from_fields(prompt(model, images, text, seed), rope)] * rows
    ]


def completions(rows: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(TEXT, 128, (rows, width), generator=generator)


def scored(model, prompts, completion_ids, lengths, shared: bool) -> Scores:
    return score(model, model.base_model, prompts, completion_ids, lengths, shared=shared, entropy=True)
