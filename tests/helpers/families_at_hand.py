"""Tiny processors of many families, built by a script beside this checkout where it is there."""

import importlib.util
from functools import cache
from typing import Any

import pytest

from helpers.repository import REPO

BUILD = REPO.parent / "shared" / "prototypes" / "families" / "build.py"
FAMILIES_AT_HAND = [  # those of the script
    "qwen3_5",
    "gemma4",
    "glm4v",
    "glm46v",
    "mistral3",
    "llava_pixtral",
    "llava",
    "llava_next",
    "granite4_vision",
    "minicpmv4_6",
    "llama4",
    "kimi_k25",
    "ovis2",
    "lfm2_vl",
    "cohere2_vision",
    "aya_vision",
    "paligemma",
    "ernie4_5_vl_moe",
    "deepseek_vl",
    "exaone4_5",
    "video_llama_3",
    "hunyuan_vl",
    "qwen2_5_omni_thinker",
    "mllama",
    "fast_vlm",
    "perception_lm",
    "gemma3n",
]


@cache
def _build() -> Any:
    spec = importlib.util.spec_from_file_location("families_build", BUILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.B


def processor_at_hand(family: str) -> Any:
    """The family's processor; skips the test where the script is not there."""
    if not BUILD.is_file():
        pytest.skip(f"{BUILD.relative_to(REPO.parent)} is not beside this checkout")
    return _build()[family]()[1]
