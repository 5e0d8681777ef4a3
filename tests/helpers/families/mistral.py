"""Families with Pixtral's pictures of any shape: Mistral 3, LLaVA with its tower, Kimi."""

import transformers as hf

from helpers.families.parts import (
    IMAGE,
    Built,
    Fields,
    config,
    experts,
    ids,
    template,
    text,
    tokenizer,
    vision,
)

LATENT = {  # attention whose keys and values come from a narrow latent, and experts
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    **experts("n_routed_experts", n_shared_experts=1),
}


def pixtral(longest: int, merge: int) -> hf.PixtralProcessor:
    words = tokenizer(image_token="[IMG]", image_break_token="[IMG_BREAK]", image_end_token="[IMG_END]")
    images = hf.PixtralImageProcessor(size={"longest_edge": longest}, patch_size={"height": 14, "width": 14})
    return hf.PixtralProcessor(images, words, patch_size=14, spatial_merge_size=merge, chat_template=template("[IMG]"))


def mistral3(words: Fields) -> Built:
    eyes = vision(model_type="pixtral", head_dim=16, image_size=112)
    model = config("mistral3", words, eyes, image_token_index=IMAGE, spatial_merge_size=2)
    return model, pixtral(longest=112, merge=2)


def llava_pixtral() -> Built:
    eyes = vision(model_type="pixtral", head_dim=16, image_size=112)
    layer = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    model = config("llava", text(model_type="mistral"), eyes, image_token_index=IMAGE, **layer)
    return model, pixtral(longest=56, merge=1)


def kimi_k25() -> Built:
    words = tokenizer(
        "<|media_begin|>",
        "<|media_content|>",
        "<|media_end|>",
        image_token="<|media_pad|>",
        video_token="<|kimi_k25_video_placeholder|>",
    )
    groups = {"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "head_dim": 8}
    eyes = {"patch_size": 14, "pos_emb_height": 8, "pos_emb_width": 8, "pos_emb_time": 4}
    model = config(
        "kimi_k25",
        text(model_type="deepseek_v3", **{**LATENT, **groups}),
        {"num_attention_heads": 2, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, **eyes},
        projection_hidden_size=32,
        **ids(words, image_token_id="<|media_pad|>", video_token_id="<|kimi_k25_video_placeholder|>"),
        **ids(words, vision_start_token_id="<|media_begin|>", vision_end_token_id="<|media_end|>"),
    )
    images, videos = hf.Kimi_K25ImageProcessor(size={"max_height": 8, "max_width": 8}, max_patches=64), None
    tag = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"
    videos = hf.Kimi_K25VideoProcessor(size={"max_height": 8, "max_width": 8}, max_patches=64)
    tags = template(tag, "<|kimi_k25_video_placeholder|>")
    return model, hf.Kimi_K25Processor(images, words, videos, chat_template=tags)


MISTRAL = {
    "mistral3": lambda: mistral3(text(model_type="mistral")),
    "mistral3_mistral4": lambda: mistral3(text(model_type="mistral4", **LATENT)),
    "llava_pixtral": llava_pixtral,
    "kimi_k25": kimi_k25,
}
