"""LLaVA and its kin: a square picture or crops of it, features in the place of one tag."""

import transformers as hf

from helpers.families.parts import IMAGE, SIDE, SQUARE, Built, Fields, config, template, text, tokenizer, vision

PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]  # shapes of an image that is cut into crops
CLIP = {"model_type": "clip_vision_model", "projection_dim": 32}
SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False}
OF_CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
CUT = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}


def llava(words: Fields | None = None) -> Built:
    """16 tokens of a square image."""
    model = config(
        "llava", words or text(model_type="llama"), vision(**CLIP), image_token_index=IMAGE, image_seq_length=16
    )
    images = hf.CLIPImageProcessor(**CUT)
    return model, hf.LlavaProcessor(
        images, tokenizer(image_token="<image>"), chat_template=template("<image>\n"), **OF_CLIP
    )


def llava_next() -> Built:
    model = config(
        "llava_next",
        text(model_type="mistral"),
        vision(**CLIP),
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
    )
    images = hf.LlavaNextImageProcessor(**CUT, image_grid_pinpoints=PINPOINTS)
    return model, hf.LlavaNextProcessor(
        images, tokenizer(image_token="<image>"), chat_template=template("<image>\n"), **OF_CLIP
    )


def llava_onevision() -> Built:
    """4 tokens of a tile; one picture alone comes whole and cut, several come whole only."""
    words = tokenizer(image_token="<image>", video_token="<video>")
    pinpoints = [[SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    model = config(
        "llava_onevision",
        text(model_type="qwen2"),
        vision(**SIGLIP, patch_size=SIDE // 2),
        image_token_index=IMAGE,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    images = hf.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=pinpoints)
    return model, hf.LlavaOnevisionProcessor(
        images,
        words,
        hf.LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<image>", "<video>"),
    )


def granite4_vision() -> Built:
    """Features of two depths, each for a text layer of its own, through a small transformer of queries."""
    queries = {"model_type": "blip_2_qformer", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    queries |= {"num_attention_heads": 2, "encoder_hidden_size": 32}
    queries |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    depths = {"deepstack_layer_map": [[-2, 0]], "spatial_vision_layer": -1, "spatial_target_layers": [1, 2]}
    model = config(
        "granite4_vision",
        text(3, model_type="granite"),
        vision(model_type="siglip_vision_model"),
        image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS,
        qformer_config=queries,
        projector_dropout=0.0,
        downsample_rate="2/4",
        vision_feature_select_strategy="full",
        **depths,
    )
    images = hf.LlavaNextImageProcessor(**CUT, image_grid_pinpoints=PINPOINTS)
    return model, hf.Granite4VisionProcessor(
        images,
        tokenizer(image_token="<image>"),
        patch_size=14,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        downsample_rate="2/4",
        chat_template=template("<image>\n"),
    )


def deepseek_vl() -> Built:
    words = tokenizer(image_token="<image_placeholder>")
    model = config("deepseek_vl", text(model_type="llama"), vision(**SIGLIP), image_token_id=IMAGE)
    images = hf.DeepseekVLImageProcessor(size=SQUARE)
    return model, hf.DeepseekVLProcessor(
        images, words, num_image_tokens=16, chat_template=template("<image_placeholder>")
    )


def aria() -> Built:
    """4 queries look at the patches of an image, padded to a square."""
    routed = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    words = text(model_type="aria_text", **routed)
    eyes = vision(image_size=980, patch_size=196)  # the processor knows no smaller image
    model = config("aria", words, eyes, image_token_index=IMAGE, projector_patch_to_query_dict={25: 4})
    images = hf.AriaImageProcessor()
    return model, hf.AriaProcessor(
        images, tokenizer(image_token="<|img|>"), chat_template=template("<|img|>"), size_conversion={980: 4}
    )


LLAVA = {
    "llava": llava,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "granite4_vision": granite4_vision,
    "deepseek_vl": deepseek_vl,
    "aria": aria,
}
