"""How each model family writes boxes, with the source that says so. (torch-free)

A family that nothing was found for has no space, and asks for `--box_space`. To add one: a line in `CONVENTIONS`, by
its `config.model_type`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BoxConvention:
    """What is published of a family's boxes.

    `space`: a key of `coordinates.SPACES`; None where none is published. `form`: a box as the family writes it.
    `source`: who says so.
    """

    space: str | None
    form: str
    source: str


def _unpublished(source: str = "none found in papers, model cards and cookbooks", form: str = "not documented"):
    return BoxConvention(None, form, source)


_QWEN3 = '{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}'
_QWEN3_VL = BoxConvention("relative_1000", _QWEN3, "QwenLM/Qwen3-VL, cookbooks/2d_grounding.ipynb")
_QWEN3_5 = BoxConvention("relative_1000", _QWEN3, "QwenLM/Qwen3.8-Flash-Next#4, which covers 3.5")
_GLM_V = BoxConvention(
    "relative_1000", "<|begin_of_box|>[[x1, y1, x2, y2]]<|end_of_box|>", "zai-org/GLM-V, README, Grounding"
)
_GEMINI = '{"box_2d": [y1, x1, y2, x2], "label": "cat"}'
_GEMMA4 = BoxConvention("yx_1000", _GEMINI, "huggingface/blog, gemma4.md, written with Google")
_LLAVA = BoxConvention("relative_1", "[x1, y1, x2, y2]", "LLaVA-1.5, arXiv 2310.03744")
_DEEPSEEK_VL = _unpublished("none for DeepSeek-VL; its successor, DeepSeek-VL2, writes 0 to 999 in <|det|>")

CONVENTIONS: dict[str, BoxConvention] = {
    "qwen2_vl": BoxConvention(
        "relative_1000", "<|box_start|>(x1,y1),(x2,y2)<|box_end|>", "Qwen2-VL, arXiv 2409.12191"
    ),
    "qwen2_5_vl": BoxConvention("resized", _QWEN3, "Qwen2.5-VL, arXiv 2502.13923; QwenLM/Qwen3-VL#940"),
    "qwen2_5_omni_thinker": BoxConvention("resized", _QWEN3, "as Qwen2.5-VL: modelscope/ms-swift, templates/qwen.py"),
    "qwen3_vl": _QWEN3_VL,
    "qwen3_vl_moe": _QWEN3_VL,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "gemma3": BoxConvention("yx_1000", _GEMINI, "google/gemma-3-4b-it, discussion 38: Google's staff, 'likely'"),
    "gemma4": _GEMMA4,
    "gemma4_unified": _GEMMA4,
    "internvl": BoxConvention(
        "relative_1000",
        "<ref>cat</ref><box>[[x1, y1, x2, y2]]</box>",
        "internvl.readthedocs.io, chat_data_format, grounding-detection-data",
    ),
    "glm4v": _GLM_V,
    "glm4v_moe": _GLM_V,
    "glm46v": _GLM_V,
    "minicpmv4_6": BoxConvention(
        "relative_1000", "<ref>cat</ref><box>x1 y1 x2 y2</box>", "OpenBMB/MiniCPM-V#982, of MiniCPM-V 4.5"
    ),
    "kimi_k25": BoxConvention(
        "relative_1", '{"bbox_2d": [x1, y1, x2, y2]}', "MoonshotAI/Kimi-VL#52 and #56, users of Kimi-VL"
    ),
    "lfm2_vl": BoxConvention(
        "relative_1",
        '[{"label": "cat", "bbox": [x1, y1, x2, y2]}]',
        "Liquid4All/leap-finetune, cookbook/visual-grounding, of LFM2.5-VL",
    ),
    "llava": _LLAVA,
    "llava_next": _LLAVA,
    "ernie4_5_vl_moe": BoxConvention("relative_1000", "[x1, y1, x2, y2]", "PaddlePaddle/ERNIE#1364"),
    "deepseek_ocr2": BoxConvention(
        "relative_999",
        "<|ref|>cat<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>",
        "deepseek-ai/DeepSeek-VL2#100, of its grounding; deepseek-ai/DeepSeek-OCR",
    ),
    **dict.fromkeys(("deepseek_vl", "deepseek_vl_hybrid"), _DEEPSEEK_VL),
    "mistral3": _unpublished("none for open weights; docs.mistral.ai shows boxes of Mistral Large 4 alone"),
    "video_llama_3": _unpublished("DAMO-NLP-SG/VideoLLaMA3#50 and #76 ask, unanswered"),
    "paligemma": _unpublished(
        "PaliGemma, arXiv 2407.07726: 1024 bins, y first; not among the spaces, as it cannot be trained here",
        "<loc0001><loc0002><loc0003><loc0004> cat",
    ),
    **dict.fromkeys(
        (
            "aria",
            "aya_vision",
            "cohere2_vision",
            "exaone4_5",
            "gemma3n",
            "granite4_vision",
            "hunyuan_vl",
            "idefics3",
            "llama4",
            "llava_onevision",
            "minimax_m3_vl",
            "muse_glimmer",
            "ovis2",
            "smolvlm",
            "step3p7",
        ),
        _unpublished(),
    ),
}
CONVENTIONS |= {"internvl_chat": CONVENTIONS["internvl"]}  # a name that users type


def convention_of(family: str) -> BoxConvention:
    """The convention of a `config.model_type`; one without space for a family that has no line.

    >>> convention_of("gemma4").space, convention_of("no such family").space
    ('yx_1000', None)
    """
    return CONVENTIONS.get(family, _unpublished("the family has no line in data/geometry/conventions.py"))


def published_form(family: str) -> str:
    """What is published of a family's boxes, in words.

    >>> published_form("ernie4_5_vl_moe")
    'published is relative_1000, [x1, y1, x2, y2] (PaddlePaddle/ERNIE#1364)'
    >>> published_form("mistral3")
    'no form is published (none for open weights; docs.mistral.ai shows boxes of Mistral Large 4 alone)'
    """
    known = convention_of(family)
    return f"published is {known.space}, {known.form} ({known.source})" if known.space else _none_published(known)


def _none_published(known: BoxConvention) -> str:
    form = "no form" if known.form == "not documented" else f"no space of {known.form}"
    return f"{form} is published ({known.source})"
