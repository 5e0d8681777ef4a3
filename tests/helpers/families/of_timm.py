"""Families whose vision tower is one of the package timm, which is not installed: configurations, processors."""

from typing import Any

import transformers as hf

from helpers.families.parts import (
    IMAGE,
    SIDE,
    SLIDING,
    SQUARE,
    VOCABULARY,
    Built,
    config,
    ids,
    template,
    text,
    tokenizer,
)


def gemma3n() -> Built:
    words = tokenizer(
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        audio_token="<audio_soft_token>",
        boa_token="<start_of_audio>",
        eoa_token="<end_of_audio>",
    )
    layers = {**SLIDING, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": VOCABULARY}
    layers |= {"num_kv_shared_layers": 2, "laurel_rank": 8, "altup_num_inputs": 2}
    layers |= {"activation_sparsity_pattern": [0.0] * 4, "intermediate_size": [96] * 4}
    audio = {"vocab_size": 8, "vocab_offset": VOCABULARY - 8, "hidden_size": 32, "conf_num_attention_heads": 2}
    audio |= {"conf_num_hidden_layers": 1, "sscp_conv_channel_size": [8, 4], "input_feat_size": 16}
    model = config(
        "gemma3n",
        text(4, **layers),
        {"hidden_size": 2048, "vocab_size": 8, "vocab_offset": VOCABULARY - 16},
        audio_config=audio,
        **ids(words, image_token_id="<image_soft_token>", boi_token_id="<start_of_image>"),
        **ids(words, eoi_token_id="<end_of_image>", audio_token_id="<audio_soft_token>"),
        **ids(words, boa_token_id="<start_of_audio>", eoa_token_id="<end_of_audio>"),
    )
    images = hf.SiglipImageProcessor(size={"height": 768, "width": 768})
    sound = hf.Gemma3nAudioFeatureExtractor()
    return model, hf.Gemma3nProcessor(sound, images, words, chat_template=template("<image_soft_token>"))


def fast_vlm() -> Built:
    """Needs timm to be built."""
    layers = {"inference_mode": True, "layers": [1, 1, 1, 1, 1], "embed_dims": [8, 16, 16, 32, 32]}
    eyes: dict[str, Any] = {"model_type": "timm_wrapper", "architecture": "fastvit_mci3", "hidden_size": 3072}
    eyes |= {"do_pooling": False, "global_pool": "avg", "model_args": layers}
    model = config("fast_vlm", text(model_type="qwen2"), eyes, image_token_index=IMAGE)
    images = hf.CLIPImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 256, "width": 256})
    return model, hf.LlavaProcessor(
        images,
        tokenizer(image_token="<image>"),
        patch_size=64,
        vision_feature_select_strategy="full",
        chat_template=template("<image>\n"),
    )


def perception_lm() -> Built:
    """Needs timm to be built."""
    words = tokenizer(image_token="<|image|>", video_token="<|video|>")
    tower = {"embed_dim": 32, "img_size": [SIDE, SIDE], "depth": 2, "num_heads": 2, "global_pool": ""}
    tower |= {"use_post_transformer_norm": False, "init_values": 0.1, "ref_feat_shape": [4, 4]}
    eyes = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "model_args": tower}
    model = config(
        "perception_lm",
        text(model_type="llama"),
        eyes,
        image_token_id=IMAGE,
        video_token_id=words.video_token_id,
        projector_pooling_ratio=2,
    )
    images = hf.PerceptionLMImageProcessor(tile_size=SIDE, max_num_tiles=4, size=SQUARE)
    return model, hf.PerceptionLMProcessor(
        hf.PerceptionLMVideoProcessor(),
        images,
        words,
        patch_size=14,
        pooling_ratio=2,
        chat_template=template("<|image|>"),
    )


OF_TIMM = {"gemma3n": gemma3n, "fast_vlm": fast_vlm, "perception_lm": perception_lm}
