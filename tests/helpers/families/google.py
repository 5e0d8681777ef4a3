"""Google's families: layers with a sliding window between those that see all, images that may see themselves."""

from typing import Any

import transformers as hf

from helpers.families.parts import (
    IMAGE,
    SLIDING,
    SQUARE,
    VOCABULARY,
    Built,
    config,
    ids,
    template,
    text,
    tokenizer,
    vision,
)


def gemma3() -> Built:
    words = tokenizer(image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>")
    model = config(
        "gemma3",
        text(4, **SLIDING, query_pre_attn_scalar=16),
        vision(vision_use_head=False),
        mm_tokens_per_image=4,
        **ids(words, image_token_index="<image_soft_token>", boi_token_index="<start_of_image>"),
        **ids(words, eoi_token_index="<end_of_image>"),
    )
    images = hf.Gemma3ImageProcessor(size=SQUARE)
    return model, hf.Gemma3Processor(images, words, template("<start_of_image>"), image_seq_length=4)


def gemma4_words() -> hf.PreTrainedTokenizerFast:
    return tokenizer(
        "<|image|>",
        "<|video|>",
        image_token="<|image|>",
        boi_token="<|image>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )


def gemma4(bidirectional: str | None = None, **more: Any) -> Built:
    """`bidirectional`: "vision" where images see themselves."""
    words = gemma4_words()
    layers = {**SLIDING, "global_head_dim": 32, "vocab_size_per_layer_input": VOCABULARY}
    layers |= {"hidden_size_per_layer_input": 16, "use_bidirectional_attention": bidirectional}
    model = config(
        "gemma4",
        text(4, **{**layers, **more}),
        vision(num_key_value_heads=2, head_dim=16, patch_size=16, pooling_kernel_size=2, position_embedding_size=64),
        **ids(words, image_token_id="<|image|>", boi_token_id="<|image>", eoi_token_id="<image|>"),
        **ids(words, video_token_id="<|video|>", audio_token_id="<|audio|>", boa_token_id="<|audio>"),
        **ids(words, eoa_token_index="<audio|>"),
    )
    images = hf.Gemma4ImageProcessor(pooling_kernel_size=2, max_soft_tokens=70)
    sound, videos = hf.Gemma4AudioFeatureExtractor(), hf.Gemma4VideoProcessor(pooling_kernel_size=2)
    return model, hf.Gemma4Processor(
        sound, images, words, videos, chat_template=template("<|image|>", "<|video|>"), image_seq_length=70
    )


def gemma4_unified() -> Built:
    """Patches without a tower of their own; images see themselves in all layers, beyond the window too."""
    words = gemma4_words()
    model = config(
        "gemma4_unified",
        text(4, **SLIDING, global_head_dim=32, use_bidirectional_attention="vision"),
        {"patch_size": 16, "pooling_kernel_size": 2, "mm_embed_dim": 64, "output_proj_dims": 64, "mm_posemb_size": 64},
        **ids(words, image_token_id="<|image|>", boi_token_id="<|image>", eoi_token_id="<image|>"),
        **ids(words, video_token_id="<|video|>", audio_token_id="<|audio|>", boa_token_id="<|audio>"),
        **ids(words, eoa_token_index="<audio|>"),
    )
    images = hf.Gemma4UnifiedImageProcessor(pooling_kernel_size=2, max_soft_tokens=70)
    sound, videos = hf.Gemma4UnifiedAudioFeatureExtractor(), hf.Gemma4UnifiedVideoProcessor(pooling_kernel_size=2)
    return model, hf.Gemma4UnifiedProcessor(
        sound, images, words, videos, chat_template=template("<|image|>", "<|video|>"), image_seq_length=70
    )


GEMMA4_EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 48}


def paligemma() -> Built:
    words = tokenizer(image_token="<image>")
    images = hf.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(images, words, chat_template=template("<image>"))
    size = len(words) + 8  # the processor adds tokens of places
    model = config(
        "paligemma",
        text(model_type="gemma", vocab_size=size),
        vision(model_type="siglip_vision_model", vision_use_head=False, projection_dim=64),
        image_token_index=IMAGE,
        projection_dim=64,
        hidden_size=64,
        vocab_size=size,
    )
    return model, processor


GOOGLE = {
    "gemma3": gemma3,
    "gemma4": gemma4,
    "gemma4_kvshare": lambda: gemma4(num_kv_shared_layers=2),
    "gemma4_vision": lambda: gemma4("vision", hidden_size_per_layer_input=0),
    "gemma4_cap": lambda: gemma4("vision", final_logit_softcapping=30.0),
    "gemma4_moe": lambda: gemma4("vision", hidden_size_per_layer_input=0, **GEMMA4_EXPERTS),
    "gemma4_unified": gemma4_unified,
    "paligemma": paligemma,
}
