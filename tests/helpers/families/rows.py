"""What is expected of each family and variant: most train, share their prefix and roll out from one prefill.

Families that are refused, and what falls back, stand here with words of the reason.
"""

from helpers.families.table import BUILDERS

REFUSED = {  # before a model is loaded
    "cohere2_vision": "logit_scale",
    "aya_vision": "logit_scale",
    "paligemma": "both directions",
    "mllama": "cross attention",
}
ROW_BY_ROW = {  # no shared prefix
    "llama4": "mask",
    "qwen4_exp": "Indexer does not take a packed group",
}
NO_PREFILL = {"qwen4_exp": "sparse"}  # `generate` reads a prompt for each completion
NO_ROUTER_LOSS = {  # TRL's balancing loss of experts needs what these have not
    "llama4": "Llama4TextConfig has no num_experts",
    "llava_qwen3_next": "LlavaModel returns no router_logits",
    "llava_granitemoehybrid": "GraniteMoeHybridConfig has no num_experts",
}
NOT_BUILT = {"deepseek_ocr2", "deepseek_vl_hybrid", "minimax_m3_vl", "muse_glimmer", "step3p7"}
TRAINED = [name for name in BUILDERS if name not in REFUSED]
PACKED = [name for name in TRAINED if name not in ROW_BY_ROW]
NATIVE_VIDEOS = [  # families whose own processor and chat template take videos; the others show frames as pictures
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen2_5_omni_thinker",
    "exaone4_5",
    "video_llama_3",
    "gemma4",
    "gemma4_kvshare",
    "gemma4_vision",
    "gemma4_cap",
    "gemma4_moe",
    "gemma4_unified",
    "llava_onevision",
    "glm4v",
    "glm4v_moe",
    "glm46v",
    "ernie4_5_vl_moe",
    "internvl",
    "smolvlm",
    "minicpmv4_6",
    "minicpmv4_6_qwen3",
]
BROKEN_VIDEOS = {"kimi_k25", "qwen4_exp"}  # taken by the processor, refused: the model itself fails on them
ONE_BY_ONE = {  # whose processors take no two lengths of videos in a row, or no picture beside one: each is processed
    "internvl",
    "llava_onevision",
    "smolvlm",
    "minicpmv4_6",
    "minicpmv4_6_qwen3",
    *(name for name in BUILDERS if name.startswith("gemma4")),
}
NO_TOOL_PICTURES = {  # in completions
    "llava_onevision": "the tokens of a picture depend on the pictures beside it",  # one alone is cut into tiles
    "minicpmv4_6": "the tokens of a picture depend on the pictures beside it",  # they are numbered
    "minicpmv4_6_qwen3": "the tokens of a picture depend on the pictures beside it",
    "hunyuan_vl": "the positions of a picture depend on the pictures before it",
}
