"""Qwen's families and those built like them: images resized by area, rotary positions of three channels."""

from typing import Any

import transformers as hf
from transformers import ProcessorMixin

from helpers.families.parts import BY_AREA, Built, Fields, config, experts, ids, rope, template, text, tokenizer

TAG, VIDEO_TAG = ("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>")
EYES = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
WIDE = {**EYES, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
WINDOWS = {**WIDE, "window_size": 56, "fullatt_block_indexes": [1]}  # the first block sees windows, the second all
STATES = {  # layers that carry a state: gated delta rule
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


def words() -> hf.PreTrainedTokenizerFast:
    return tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
        audio_token="<|AUDIO|>",
        audio_bos_token="<|audio_bos|>",
        audio_eos_token="<|audio_eos|>",
    )


def tokens() -> dict[str, int]:
    return ids(
        words(),
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )


def processor(kind: type[ProcessorMixin], video: type, patch: int = 14) -> ProcessorMixin:
    images = hf.Qwen2VLImageProcessor(size=BY_AREA, patch_size=patch)
    tags = template(TAG, VIDEO_TAG if patch == 14 else "<|video_pad|>")  # the processor of Qwen3-VL frames each grid
    return kind(images, words(), video(patch_size=patch, size=BY_AREA), chat_template=tags)


def qwen2_vl() -> Built:
    eyes = {**EYES, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    model = config("qwen2_vl", text(rope_parameters=rope(2, 3, 3)), eyes, **tokens())
    return model, processor(hf.Qwen2VLProcessor, hf.Qwen2VLVideoProcessor)


def qwen2_5_vl() -> Built:
    model = config("qwen2_5_vl", text(rope_parameters=rope(2, 3, 3)), WINDOWS, **tokens())
    return model, processor(hf.Qwen2_5_VLProcessor, hf.Qwen2VLVideoProcessor)


def qwen3_vl(kind: str = "qwen3_vl", **more: Any) -> Built:
    """Both vision layers feed a text layer of their own; the third text layer gets none."""
    eyes = {**WIDE, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    rotary = rope(4, 2, 2, mrope_interleaved=True)
    model = config(kind, text(3, rope_parameters=rotary, **more), eyes, **tokens())
    return model, processor(hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor, patch=16)


def state_text(**more: Any) -> Fields:
    """A layer that carries a state, then one of attention, whose rotary positions turn a quarter of a head."""
    rotary = rope(2, 1, 1, mrope_interleaved=True, partial_rotary_factor=0.25)
    return text(**{**STATES, "head_dim": 32, "rope_parameters": rotary, **more})


def qwen3_5(kind: str = "qwen3_5", **more: Any) -> Built:
    eyes = {**WIDE, "patch_size": 16, "num_position_embeddings": 16}
    model = config(kind, state_text(**more), eyes, **tokens())
    return model, processor(hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor, patch=16)


def qwen4_exp() -> Built:
    """States, and attention that chooses few of the earlier tokens."""
    more = {"hc_count": 2, "hc_lowrank": 8, "ple_embed_dim": 16, "ngram_vocab_size_base": 1000, "split_ngram_parts": 4}
    more |= {"heads_per_ngram": 2, "make_ngram_vocab_size_divisible_by": 8, "indexer_n_heads": 2}
    more |= {"indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 64, "indexer_compress_ratio": 1}
    return qwen3_5("qwen4_exp", **SHARED_EXPERTS, **more)


SHARED_EXPERTS = experts(shared_expert_intermediate_size=48)


def qwen2_5_omni_thinker() -> Built:
    audio = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    audio |= {"d_model": 32, "n_window": 10, "output_dim": 64}
    model = hf.Qwen2_5OmniThinkerConfig(
        text_config=text(rope_parameters=rope(2, 3, 3)),
        vision_config=WINDOWS,
        audio_config=audio,
        **ids(
            words(),
            image_token_index="<|image_pad|>",
            video_token_index="<|video_pad|>",
            audio_token_index="<|AUDIO|>",
            audio_start_token_id="<|audio_bos|>",
            audio_end_token_id="<|audio_eos|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    images, videos = hf.Qwen2VLImageProcessor(size=BY_AREA), hf.Qwen2VLVideoProcessor(size=BY_AREA)
    sound = hf.WhisperFeatureExtractor()
    return model, hf.Qwen2_5OmniProcessor(images, videos, sound, words(), chat_template=template(TAG, VIDEO_TAG))


def exaone4_5() -> Built:
    mixed = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8}
    eyes = {**WINDOWS, "num_key_value_heads": 2}
    model = config("exaone4_5", text(4, model_type="exaone4", **mixed), eyes, **tokens())
    return model, processor(hf.Exaone4_5_Processor, hf.Qwen2VLVideoProcessor)


def video_llama_3() -> Built:
    from helpers.families.parts import vision

    model = config("video_llama_3", text(model_type="qwen2"), vision(), **tokens())
    images = hf.VideoLlama3ImageProcessor(size=BY_AREA, merge_size=2)
    videos = hf.VideoLlama3VideoProcessor(size=BY_AREA)
    tags = template("<|image_pad|>", "<|video_pad|>")
    return model, hf.VideoLlama3Processor(images, words(), videos, chat_template=tags)


QWEN = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": lambda: qwen3_vl("qwen3_vl_moe", **experts()),
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": lambda: qwen3_5("qwen3_5_moe", **SHARED_EXPERTS),
    "qwen4_exp": qwen4_exp,
    "qwen2_5_omni_thinker": qwen2_5_omni_thinker,
    "exaone4_5": exaone4_5,
    "video_llama_3": video_llama_3,
}
