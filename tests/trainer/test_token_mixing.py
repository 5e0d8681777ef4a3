"""A model with a layer that mixes tokens, but takes no layout, is refused packing, wherever the layer stands."""

from collections.abc import Callable
from functools import partial
from types import MethodType

import pytest
import torch
from helpers import families
from helpers.families.llava import llava
from helpers.families.parts import text
from transformers import AutoModelForImageTextToText, PreTrainedModel
from transformers.masking_utils import create_causal_mask

from open_r1.trainer.forward.layer_kinds import kind_of_layer
from open_r1.trainer.forward.shared_prefix import why_no_shared_prefix

NAMES = (
    [name for name in families.NAMES if name != "smolvlm"]
    + ["gemma4_unified"]
    + ["mistral3_mistral4", "glm4v", "gemma4", "kimi_k25"]
)
HYBRID = ["qwen3_5", "qwen3_5_moe", "lfm2_vl", "minicpmv4_6", "llava_qwen3_next", "llava_olmo_hybrid", "llava_bamba"]
HYBRID += ["llava_falcon_h1", "llava_granitemoehybrid", "llava_zamba2", "llava_nemotron_h", "llava_lfm2_moe"]


def shifted(x: torch.Tensor, tokens: int = 1) -> torch.Tensor:
    """The states of the token before, or of some tokens before, (N, L, D)."""
    return torch.nn.functional.pad(x, (0, 0, tokens, 0))[:, :-tokens]


class Around(torch.nn.Module):
    """A module, and a mixture of the tokens of its input added to its output."""

    def __init__(self, module: torch.nn.Module, mix: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.module, self.mix = module, mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x) + 1e-3 * self.mix(x)


class Convolution(torch.nn.Conv1d):
    def __init__(self):
        super().__init__(64, 64, kernel_size=3, padding=2, groups=64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)


def layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    return model.get_decoder().layers


def change(module: torch.nn.Module, forward: Callable[..., object]) -> None:
    """Let a class of its own with another `forward` be the module's class."""
    kind = type(module)
    module.__class__ = type(f"Other{kind.__name__}", (kind,), {"forward": forward(kind.forward)})


MIXERS = {
    "shift": shifted,
    "cumsum": lambda x: x.cumsum(dim=1),
    "convolution": Convolution(),
    "mean": lambda x: x.mean(dim=1, keepdim=True),
    "attention without the registry": lambda x: (x @ x.transpose(1, 2)).tril().softmax(dim=-1) @ x,
}


@pytest.fixture
def model() -> PreTrainedModel:
    return families.tiny("internvl")


def reason_of(model: PreTrainedModel) -> str:
    reason = why_no_shared_prefix(model)
    assert reason is not None
    return reason


@pytest.mark.parametrize("name", [*NAMES, *HYBRID])
def test_a_family_whose_layers_all_take_the_layout_is_packed(name):
    model = families.tiny(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert why_no_shared_prefix(model) is None
    assert not any("forward" in vars(module) for module in model.modules())  # all stand-ins are gone
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("number", [0, 1])
def test_a_mixer_in_place_of_an_mlp_is_found(model, mixer, number):
    layers(model)[number].mlp = Around(layers(model)[number].mlp, MIXERS[mixer])
    assert "mixes tokens" in reason_of(model)


def test_the_reason_names_the_module(model):
    layers(model)[1].mlp = torch.nn.Sequential(layers(model)[1].mlp, Convolution())
    assert reason_of(model) == "Convolution (model.language_model.layers.1.mlp.1) mixes tokens"


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mixer_in_a_child_of_another_name_is_found(model, mixer):
    def forward(before):
        def run(self, hidden_states, *args, **kwargs):
            return before(self, self.extra(hidden_states), *args, **kwargs)

        return run

    layers(model)[1].extra = Around(torch.nn.Identity(), MIXERS[mixer])
    change(layers(model)[1], forward)
    assert "mixes tokens" in reason_of(model)


def test_a_mixture_in_a_decoder_layers_own_forward_is_found(model):
    def forward(before):
        return lambda self, hidden_states, *args, **kwargs: (
            before(self, hidden_states, *args, **kwargs) + shifted(hidden_states)
        )

    change(layers(model)[1], forward)
    assert reason_of(model) == "OtherQwen3DecoderLayer (model.language_model.layers.1) mixes tokens"


def test_a_mixture_within_attention_is_found(model):
    def forward(before):
        def run(self, hidden_states, *args, **kwargs):
            return before(self, hidden_states + shifted(hidden_states), *args, **kwargs)

        return run

    change(layers(model)[0].self_attn, forward)
    assert reason_of(model) == "OtherQwen3Attention (model.language_model.layers.0.self_attn) mixes tokens"


def test_a_mixture_after_the_layers_is_found(model):
    model.get_decoder().norm = Around(model.get_decoder().norm, shifted)
    assert reason_of(model) == "Qwen3Model mixes tokens"


def test_a_layer_that_differs_in_a_setting_alone_is_tried(model):
    class Sometimes(Around):
        def forward(self, x):
            return super().forward(x) if self.acts else self.module(x)

    for number, layer in enumerate(layers(model)):
        layer.mlp = Sometimes(layer.mlp, shifted)
        layer.mlp.acts = number == 1
    assert kind_of_layer(layers(model)[0], 0) != kind_of_layer(layers(model)[1], 1)
    assert "mixes tokens" in reason_of(model)


def test_the_first_second_and_last_layers_of_a_kind_are_tried():
    model, calls = families.tiny("qwen2_vl", num_hidden_layers=6, layer_types=["full_attention"] * 6), []
    for number, layer in enumerate(layers(model)):
        layer.mlp.register_forward_hook(partial(lambda number, *_: calls.append(number), number))
    assert why_no_shared_prefix(model) is None
    assert calls == [0, 1, 5] * 2  # the tokens in several orders, then some of them NaN


@pytest.mark.parametrize("reach", [4, 12, 30])
def test_a_mixture_over_many_tokens_is_found(model, reach):
    layers(model)[1].mlp = Around(layers(model)[1].mlp, lambda x: shifted(x, reach))
    assert "mixes tokens" in reason_of(model)


def test_a_mixture_that_swallows_nan_is_found_by_value(model):
    layers(model)[1].mlp = Around(layers(model)[1].mlp, lambda x: x.nan_to_num().mean(dim=1, keepdim=True))
    assert reason_of(model) == "Qwen3Model mixes tokens"


def test_a_mixture_in_training_alone_is_found(model):
    class InTraining(Around):
        def forward(self, x):
            return super().forward(x) if self.training else self.module(x)

    layers(model)[1].mlp = InTraining(layers(model)[1].mlp, shifted)
    model.eval()
    assert "mixes tokens" in reason_of(model)
    assert not any(module.training for module in model.modules())


def test_a_mixture_in_the_embedding_is_found(model):
    change(
        model.get_input_embeddings(), lambda before: lambda self, ids: before(self, ids) + shifted(before(self, ids))
    )
    assert reason_of(model) == "OtherEmbedding mixes tokens"


@pytest.mark.parametrize("setting", ["taps", "layer_idx"])
def test_layers_of_one_class_that_differ_in_a_number_are_all_tried(model, setting):
    kind = type(layers(model)[0])

    def forward(self, x, *args, **kwargs):
        acts = 1 in self.taps if setting == "taps" else self.layer_idx == 1
        return kind.forward(self, x, *args, **kwargs) + (shifted(x) if acts else 0)

    other = type("Other", (kind,), {"forward": forward})
    for number, layer in enumerate(layers(model)):
        layer.__class__, layer.taps, layer.layer_idx = other, [number], number
    assert "mixes tokens" in reason_of(model)


@pytest.mark.parametrize("difference", [-1, 1, 12])
def test_a_window_that_is_not_the_masks_is_found(difference):
    model = families.tiny("gemma3")
    for layer in layers(model):
        if layer.self_attn.sliding_window:
            layer.self_attn.sliding_window += difference
    assert reason_of(model) == "Gemma3Attention has a mask that is neither causal nor its own sliding window"


def test_a_place_in_the_sequence_that_is_counted_is_found(model):
    counts = torch.randn(64, 64)
    layers(model)[0].mlp = Around(layers(model)[0].mlp, lambda x: 1e3 * counts[: x.shape[1]])
    assert "place in the sequence" in reason_of(model)


@pytest.mark.parametrize("name", ["internvl", "qwen3_5"])
def test_a_decoder_layer_that_keeps_the_layout_to_itself_is_found(name):
    def forward(before):
        return lambda self, *args, shared_prefix=None, **kwargs: before(self, *args, **kwargs)

    model = families.tiny(name)
    attending = next(layer for layer in layers(model) if hasattr(layer, "self_attn"))
    change(attending, forward)
    assert "is not handed the layout" in reason_of(model)


def test_a_text_model_that_keeps_the_layout_to_itself_is_found():
    def forward(before):
        return lambda self, *args, shared_prefix=None, **kwargs: before(self, *args, **kwargs)

    model = families.tiny("lfm2_vl")
    change(model.get_decoder(), forward)
    assert reason_of(model) == "Lfm2DecoderLayer is not handed the layout of a packed group"


@pytest.mark.parametrize("option", [{"softcap": 50.0}, {"s_aux": torch.ones(4)}, {"position_bias": torch.ones(4, 4)}])
def test_an_option_that_packed_attention_leaves_out_is_found(model, option):
    def forward(before):
        return lambda self, *args, **kwargs: before(self, *args, **kwargs | option)

    change(layers(model)[1].self_attn, forward)
    assert reason_of(model) == f"OtherQwen3Attention takes {next(iter(option))}, which packed attention does not"


def test_attention_to_later_tokens_is_found(model):
    layers(model)[1].self_attn.is_causal = False
    assert reason_of(model) == "Qwen3Attention is not causal"


def test_a_changed_mask_is_found(model):
    def forward(before):
        def run(self, *args, attention_mask=None, **kwargs):
            return before(self, *args, attention_mask=attention_mask.expand(1, 1, 4, 4) * 2, **kwargs)

        return run

    change(layers(model)[0].self_attn, forward)
    assert reason_of(model) == "OtherQwen3Attention changes its mask"


@pytest.mark.parametrize(
    "extra", [lambda b, h, q, k: q // 8192 == k // 8192, lambda b, h, q, k: k > q - 4096], ids=["chunks", "window"]
)
def test_a_mask_that_packed_attention_does_not_have_is_found(model, monkeypatch, extra):
    monkeypatch.setattr(
        "transformers.models.qwen3.modeling_qwen3.create_causal_mask",
        lambda **options: create_causal_mask(**options, and_mask_function=extra),
    )
    assert reason_of(model) == "Qwen3Attention has a mask that is neither causal nor its own sliding window"


def test_a_state_that_the_layer_does_not_take_from_its_cache_is_found():
    """Mamba 1 begins a scan of several tokens without a state."""
    more = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "use_mamba_kernels": False}
    config, _ = llava(text(model_type="jamba", **more, mamba_d_state=8, mamba_dt_rank=4))
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    assert reason_of(model) == "JambaMambaMixer does not take its state from a cache as its own forward leaves it"


@pytest.mark.parametrize("mixer", ["cumsum", "convolution", "far"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_mixture_within_a_layer_with_a_state_is_found(mixer, number):
    model = families.tiny("llava_lfm2")
    conv = layers(model)[number].conv
    conv.out_proj = Around(conv.out_proj, {**MIXERS, "far": lambda x: shifted(x, 12)}[mixer])
    assert "Lfm2ShortConv does not take its state" in reason_of(model)


@pytest.mark.parametrize("name", ["qwen4_exp", "paligemma", "mllama"])
def test_a_family_with_another_attention_is_refused(name):
    assert reason_of(families.tiny(name))


def test_an_error_of_the_model_is_the_reason(model):
    def fail(self, x):
        raise RuntimeError("at four tokens")

    layers(model)[0].mlp.forward = MethodType(fail, layers(model)[0].mlp)
    assert reason_of(model) == "Qwen3MLP does not take a packed group: RuntimeError: at four tokens"
    del layers(model)[0].mlp.forward
    assert why_no_shared_prefix(model) is None


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"model_type": "phimoe"}, "router_jitter_noise"),
        ({"model_type": "llama", "attention_dropout": 0.1}, "attention_d"),
    ],
)
def test_what_draws_at_random_in_training_is_named_with_a_remedy(settings, drawn):
    config, _ = llava(text(**settings))
    reason = why_no_shared_prefix(AutoModelForImageTextToText.from_config(config))
    assert drawn in str(reason) and "set it to 0 in config.json" in str(reason)


def test_functional_dropout_of_the_vision_tower_is_named():
    config, _ = llava(text(model_type="llama"))
    config.vision_config.attention_dropout = 0.1
    assert "of CLIP" in str(why_no_shared_prefix(AutoModelForImageTextToText.from_config(config)))
