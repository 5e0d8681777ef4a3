"""GLM, ERNIE and Hunyuan: pictures resized by area, in families whose fields are not Qwen's."""

from typing import Any

import transformers as hf

from helpers.families.parts import BY_AREA, Built, config, experts, ids, rope, template, text, tokenizer, vision
from helpers.families.qwen import EYES, WIDE


def glm_words() -> hf.PreTrainedTokenizerFast:
    frames = ["<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
    return tokenizer("<|image|>", *frames, image_token="<|image|>", video_token="<|video|>")


def glm(kind: str, vision_type: dict[str, str] | None = None, **more: Any) -> Built:
    words = glm_words()
    model = config(
        kind,
        text(rope_parameters=rope(2, 1, 1, partial_rotary_factor=0.5), **more),
        {**WIDE, **(vision_type or {})},
        **ids(words, image_token_id="<|image|>", video_token_id="<|video|>"),
        **ids(words, image_start_token_id="<|begin_of_image|>", image_end_token_id="<|end_of_image|>"),
        **ids(words, video_start_token_id="<|begin_of_video|>", video_end_token_id="<|end_of_video|>"),
    )
    of_46 = kind == "glm46v"
    images = (hf.Glm46VImageProcessor if of_46 else hf.Glm4vImageProcessor)(size=BY_AREA)
    videos = (hf.Glm46VVideoProcessor if of_46 else hf.Glm4vVideoProcessor)(size=BY_AREA)
    processor = hf.Glm46VProcessor if of_46 else hf.Glm4vProcessor
    tags = ("<|begin_of_image|><|image|><|end_of_image|>", "<|begin_of_video|><|video|><|end_of_video|>")
    return model, processor(images, words, videos, chat_template=template(*tags))


def ernie4_5_vl_moe() -> Built:
    """Text and image tokens go to experts of their own; each token's kind is a field of the processor."""
    words = tokenizer(
        image_token="<|IMAGE_PLACEHOLDER|>",
        image_start_token="<|IMAGE_START|>",
        image_end_token="<|IMAGE_END|>",
        video_token="<|VIDEO_PLACEHOLDER|>",
        video_start_token="<|VIDEO_START|>",
        video_end_token="<|VIDEO_END|>",
    )
    routed = {"moe_intermediate_size": [48, 24], "moe_k": 2, "moe_num_experts": 4, "moe_num_shared_experts": 1}
    eyes = {**EYES, "hidden_size": 32, "intermediate_size": 48, "temporal_merge_size": 2}
    del eyes["temporal_patch_size"]
    model = config(
        "ernie4_5_vl_moe",
        text(3, rope_parameters=rope(3, 3, 2), **routed),
        eyes,
        **ids(words, image_token_id="<|IMAGE_PLACEHOLDER|>", video_token_id="<|VIDEO_PLACEHOLDER|>"),
        **ids(words, image_start_token_id="<|IMAGE_START|>", image_end_token_id="<|IMAGE_END|>"),
        **ids(words, video_start_token_id="<|VIDEO_START|>", video_end_token_id="<|VIDEO_END|>"),
    )
    tags = [f"<|{medium}_START|><|{medium}_PLACEHOLDER|><|{medium}_END|>" for medium in ("IMAGE", "VIDEO")]
    images, videos = (
        hf.Ernie4_5_VLMoeImageProcessor(size=BY_AREA),
        hf.Ernie4_5_VLMoeVideoProcessor(size=BY_AREA, draw_on_frames=False),
    )
    return model, hf.Ernie4_5_VLMoeProcessor(images, words, videos, chat_template=template(*tags))


def hunyuan_vl() -> Built:
    """Rotary positions of four channels; lines of an image end with a token of their own."""
    patch, start, end = "<｜hy_place▁holder▁no▁102｜>", "<im_start>", "<im_end>"
    words = tokenizer(patch, "<im_newline>", image_token=patch, image_start_token=start, image_end_token=end)
    eyes = {"patch_size": 16, "out_hidden_size": 64, "text_hidden_size": 64, "max_image_size": 128}
    eyes |= {"min_image_size": 32, "img_max_token_num": 64}
    model = config(
        "hunyuan_vl",
        text(rope_parameters=rope(2, 2, 2, 2)),
        vision(**eyes),
        **ids(words, image_token_id=patch, im_start_id=start, im_end_id=end, im_newline_id="<im_newline>"),
    )
    images = hf.HunYuanVLImageProcessor(size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})
    return model, hf.HunYuanVLProcessor(images, words, chat_template=template(f"{start}{patch}{end}"))


GLM = {
    "glm4v": lambda: glm("glm4v"),
    "glm4v_moe": lambda: glm("glm4v_moe", **experts("n_routed_experts")),
    "glm46v": lambda: glm("glm46v", {"model_type": "glm4v_vision"}, model_type="glm4v_text"),
    "ernie4_5_vl_moe": ernie4_5_vl_moe,
    "hunyuan_vl": hunyuan_vl,
}
