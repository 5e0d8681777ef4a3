"""Families that cut a picture into tiles, written one after another, most of them before or behind the whole."""

from typing import Any

import transformers as hf

from helpers.families.llava import SIGLIP
from helpers.families.parts import (
    IMAGE,
    SIDE,
    SLIDING,
    SQUARE,
    VOCABULARY,
    Built,
    Fields,
    config,
    ids,
    template,
    text,
    tokenizer,
    vision,
)
from helpers.families.qwen import state_text

PLACES = [f"{row}_col_{column}" for row in range(1, 4) for column in range(1, 4)]


def tiles(**more: Any) -> hf.GotOcr2ImageProcessor:
    """Up to four tiles of a picture, and the whole."""
    return hf.GotOcr2ImageProcessor(size=SQUARE, max_patches=4, crop_to_patches=True, **more)


def internvl() -> Built:
    words = tokenizer(
        context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
        video_token="<video>",
    )
    model = config("internvl", text(model_type="qwen3"), vision(), image_token_id=IMAGE, image_seq_length=4)
    return model, hf.InternVLProcessor(
        tiles(min_patches=1),
        words,
        hf.InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n", "<video>\n"),
    )


def idefics_words() -> hf.PreTrainedTokenizerFast:
    places = [f"<row_{place}>" for place in PLACES]
    return tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>", *places)


def idefics_images(kind: type) -> Any:
    return kind(max_image_size={"longest_edge": SIDE}, size={"longest_edge": 2 * SIDE})


def idefics3() -> Built:
    model = config("idefics3", text(model_type="llama"), vision(), image_token_id=IMAGE, scale_factor=2)
    images = idefics_images(hf.Idefics3ImageProcessor)
    return model, hf.Idefics3Processor(images, idefics_words(), image_seq_len=4, chat_template=template("<image>"))


def smolvlm() -> Built:
    model = config("smolvlm", text(model_type="llama"), vision(), image_token_id=IMAGE, scale_factor=2)
    images, videos = idefics_images(hf.SmolVLMImageProcessor), idefics_images(hf.SmolVLMVideoProcessor)
    tags = template("<image>", "<video>")
    return model, hf.SmolVLMProcessor(images, idefics_words(), videos, image_seq_len=4, chat_template=tags)


def lfm2_vl(kind: str = "lfm2", **more: Any) -> Built:
    """Layers of short convolutions around one of attention."""
    words = tokenizer(
        "<image>",
        *[f"<|img_row_{place}|>" for place in PLACES],
        image_token="<image>",
        image_start_token="<|image_start|>",
        image_end_token="<|image_end|>",
        image_thumbnail_token="<|img_thumbnail|>",
    )
    layers = {"layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3}
    layers |= {"block_ff_dim": 96, "block_multiple_of": 8}
    eyes = {"model_type": "siglip2_vision_model", "num_patches": 16, "patch_size": 16, "vision_use_head": False}
    model = config(
        "lfm2_vl",
        text(3, model_type=kind, **layers, **more),
        vision(**eyes),
        image_token_id=words.image_token_id,
        projector_hidden_size=48,
    )
    limits = {"tile_size": 64, "max_tiles": 4, "min_image_tokens": 2, "max_image_tokens": 8}
    images = hf.Lfm2VlImageProcessor(**limits, encoder_patch_size=16, size={"height": 64, "width": 64})
    return model, hf.Lfm2VlProcessor(images, words, chat_template=template("<image>"))


def minicpmv4_6(words: Fields) -> Built:
    names = tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    model = config(
        "minicpmv4_6",
        words,
        vision(num_hidden_layers=3, image_size=112),
        insert_layer_id=1,
        image_size=112,
        **ids(names, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    )
    images = hf.MiniCPMV4_6ImageProcessor(scale_resolution=112, max_slice_nums=4)
    videos = hf.MiniCPMV4_6VideoProcessor(scale_resolution=112, max_slice_nums=1)
    tags = template("<|image_pad|>", "<|video_pad|>")
    return model, hf.MiniCPMV4_6Processor(images, videos, names, chat_template=tags)


def llama4() -> Built:
    """Attention within chunks of 64 tokens."""
    lines = ["<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>"]
    words = tokenizer("<|patch|>", *lines, image_token="<|image|>")
    routed = {"intermediate_size_mlp": 96, "num_local_experts": 4, "num_experts_per_tok": 1}
    routed |= {"interleave_moe_layer_step": 2, "attention_chunk_size": 64}
    eyes = {"vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64, "intermediate_size": 128}
    model = config(
        "llama4",
        text(4, **routed),
        vision(**eyes),
        **ids(words, image_token_index="<|patch|>", boi_token_index="<|image_start|>"),
        **ids(words, eoi_token_index="<|image_end|>"),
    )
    images = hf.Llama4ImageProcessor(size=SQUARE, max_patches=4)
    return model, hf.Llama4Processor(images, words, chat_template=template("<|image|>"))


def ovis2() -> Built:
    """A tile is a few words of a visual vocabulary."""
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    words = tokenizer("<IMG_ATOM>", *marks, image_token="<image>")
    model = config(
        "ovis2",
        text(model_type="qwen2"),
        vision(vocab_size=64, hidden_stride=2),
        image_token_id=IMAGE,
        visual_indicator_token_ids=words.convert_tokens_to_ids(marks),
        vocab_size=VOCABULARY,
        hidden_size=64,
    )
    images = hf.Ovis2ImageProcessor(size=SQUARE, max_patches=4, crop_to_patches=True)
    return model, hf.Ovis2Processor(images, words, image_seq_length=4, chat_template=template("<image>\n"))


def cohere2_vision() -> Built:
    words = tokenizer(
        image_token="<|IMG_PATCH|>",
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    model = config(
        "cohere2_vision",
        text(4, model_type="cohere2", **SLIDING),
        vision(**SIGLIP),
        image_token_id=IMAGE,
        alignment_intermediate_size=64,
    )
    images = hf.Cohere2VisionImageProcessor(size=SQUARE, max_patches=4, patch_size=2)
    return model, hf.Cohere2VisionProcessor(images, words, chat_template=template("<|IMG_PATCH|>"))


def aya_vision() -> Built:
    words = tokenizer(
        "<|IMG_PATCH|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_LINE_BREAK|>", image_token="<image>"
    )
    model = config("aya_vision", text(4, model_type="cohere2", **SLIDING), vision(**SIGLIP), image_token_index=IMAGE)
    return model, hf.AyaVisionProcessor(
        tiles(), words, patch_size=14, img_size=SIDE, downsample_factor=2, chat_template=template("<image>")
    )


def mllama() -> Built:
    """Text layers that look at the image by cross attention."""
    words = tokenizer(image_token="<|image|>")
    eyes = {"num_global_layers": 1, "attention_heads": 2, "vision_output_dim": 96, "max_num_tiles": 4}
    eyes |= {"intermediate_layers_indices": [0, 1]}
    looking = text(3, cross_attention_layers=[1])
    model = config("mllama", looking, vision(**eyes), image_token_index=IMAGE)
    images = hf.MllamaImageProcessor(size=SQUARE, max_image_tiles=4)
    return model, hf.MllamaProcessor(images, words, chat_template=template("<|image|>"))


TILES = {
    "internvl": internvl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "lfm2_vl": lfm2_vl,
    "minicpmv4_6": lambda: minicpmv4_6(state_text(model_type="qwen3_5_text")),
    "minicpmv4_6_qwen3": lambda: minicpmv4_6(text(model_type="qwen3")),
    "llama4": llama4,
    "ovis2": ovis2,
    "cohere2_vision": cohere2_vision,
    "aya_vision": aya_vision,
    "mllama": mllama,
}
