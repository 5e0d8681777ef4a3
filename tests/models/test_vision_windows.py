"""Vision attention over all windows in one call equals transformers' calls one by one; also by the flash kernel."""

from inspect import signature

import pytest
import torch
from helpers.families.table import BUILDERS
from helpers.families.tiny import tiny
from helpers.trainers import flash_on_cpu

from open_r1.models.vision_windows import WINDOWS, join_windows, window_modules

LENGTHS = [16, 16, 0, 4, 9, 16]  # of windows, in patches
BATCHED = ("hunyuan_vl", "minicpmv4_6", "minicpmv4_6_qwen3")  # their towers hand the sequence on as a batch of one
DEFAULT = ["qwen2_5_vl", "glm4v"]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS if name not in DEFAULT]


def attention_of(module: torch.nn.Module, model: torch.nn.Module) -> torch.Tensor:
    """The output (L, D) of a vision attention module for random patches in windows of LENGTHS."""
    torch.manual_seed(0)
    width = next(p.shape[-1] for p in module.parameters() if p.ndim == 2)
    heads = next(value for name, value in vars(module).items() if name in ("num_heads", "num_attention_heads"))
    states = torch.randn(sum(LENGTHS), width)
    angles = torch.rand(sum(LENGTHS), width // heads)
    ends = torch.tensor([0, *LENGTHS]).cumsum(0, dtype=torch.int32)
    known = {"cu_seqlens": ends, "max_seqlen": max(LENGTHS), "position_embeddings": (angles.cos(), angles.sin())}
    given = {name: value for name, value in known.items() if name in signature(module.forward).parameters}
    if model.name_or_path == "hunyuan_vl":
        given["attention_mask"] = None  # of its tower, handed on among keyword arguments
    output = module(states[None] if model.name_or_path in BATCHED else states, **given)
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", [*DEFAULT, *OTHERS])
def test_one_call_equals_a_call_for_each_window(name, monkeypatch):
    model = tiny(name).eval()
    modules = list(window_modules(model))
    if not modules:
        pytest.skip("its tower takes pictures as a batch")
    before = modules[0].config._attn_implementation
    cut = attention_of(modules[0], model)
    join_windows(model)
    assert before == "sdpa" and modules[0].config._attn_implementation == WINDOWS
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    torch.testing.assert_close(attention_of(modules[0], model), cut, atol=1e-6, rtol=1e-6)
    seen = flash_on_cpu(monkeypatch, torch.float32)
    torch.testing.assert_close(attention_of(modules[0], model), cut, atol=1e-6, rtol=1e-6)
    assert seen == [torch.float32]


def test_attention_that_the_user_names_stays(monkeypatch):
    model = tiny("qwen2_5_vl")
    model.set_attn_implementation("eager")
    join_windows(model)
    assert model.config.vision_config._attn_implementation == "eager"


def test_windows_of_one_size_are_one_call(monkeypatch):
    model, calls = tiny("qwen2_5_vl"), []
    join_windows(model)
    attend = torch.nn.functional.scaled_dot_product_attention
    count = lambda *args, **options: calls.append(args[0].shape[0]) or attend(*args, **options)  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", count)
    attention_of(next(window_modules(model)), model)
    assert calls == [2, 1, 1, 1]
