"""What cannot be trained is refused by its configuration, with a reason that holds; nothing else is."""

import inspect
import re
import subprocess

import pytest
import torch
from helpers import families
from helpers.preloaded import python
from helpers.repository import REPO
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as IMAGE_TEXT
from trl.trainer.utils import add_fused_lm_head

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.errors import UsageError
from open_r1.models.configuration import read_config
from open_r1.models.refusals import (
    LOGIT_SCALINGS,
    UPSTREAM,
    missing_package,
    package_of,
    refuse_untrainable,
    why_untrainable,
)

BY_RULE = {  # of transformers 5.17's image-text models, by what their default configuration tells
    "blip-2": "pixel_values",
    "florence2": "encoder",
    "idefics": "cross attention",
    "instructblip": "pixel_values",
    "instructblipvideo": "pixel_values",
    "mllama": "cross attention",
    "pix2struct": "encoder",
    "pp_formulanet": "encoder",
    "t5gemma2": "encoder",
    "udop": "encoder",
    "cohere2_vision": "logit_scale",
    "aya_vision": "logit_scale",
}
WITHOUT_DEFAULT = {"vision-encoder-decoder"}  # no configuration without its parts
BY_TIMM = {"fast_vlm", "perception_lm", "gemma3n"}


def default_config(model_type: str):
    return AutoConfig.for_model(model_type)


@pytest.mark.parametrize("model_type", sorted(set(IMAGE_TEXT) - WITHOUT_DEFAULT - BY_TIMM))
def test_each_image_text_model_of_transformers_is_trained_or_refused_with_a_reason(model_type: str) -> None:
    reason = why_untrainable(default_config(model_type))
    if model_type in BY_RULE:
        assert BY_RULE[model_type] in (reason or "")
    else:
        assert reason == UPSTREAM.get(model_type)


def test_a_listed_reason_is_of_a_model_that_transformers_has() -> None:
    assert set(UPSTREAM) <= set(IMAGE_TEXT) and set(BY_RULE) <= set(IMAGE_TEXT)


@pytest.mark.parametrize("model_type", ["mllama", "paligemma", "aya_vision"])
def test_a_refused_model_is_named_before_it_is_loaded(model_type: str, tmp_path) -> None:
    families.config_of(model_type).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=rf"model_type '{model_type}': .*; choose another model"):
        read_config(str(tmp_path))


def test_what_trains_is_not_refused() -> None:
    for family, known in CONVENTIONS.items():
        if known.space and family in families.NAMES:
            refuse_untrainable(families.config_of(family), family)


@pytest.mark.parametrize("name", ["fast_vlm", "perception_lm", "gemma3n"])
def test_a_missing_package_is_named_with_its_command(name: str, monkeypatch) -> None:
    monkeypatch.setattr("open_r1.models.refusals.is_timm_available", lambda: False)
    with pytest.raises(UsageError, match=r"needs the package timm: pip install timm"):
        refuse_untrainable(families.config_of(name), name)
    monkeypatch.setattr("open_r1.models.refusals.is_timm_available", lambda: True)
    assert missing_package(families.config_of(name)) is None


def test_an_import_error_of_transformers_names_the_package() -> None:
    error = ImportError("Package `num2words` is required. Install it with `pip install num2words`.")
    assert package_of(error) == "num2words" and package_of(ValueError("pip install x")) is None


def test_paligemma_takes_completions_for_prompts_where_their_tokens_have_the_type_zero() -> None:
    """The fault behind its refusal: with the types that TRL pads, rows differ from generation; with others, not."""
    model = families.tiny("paligemma").eval()
    fields = families.prompt(model, 1, 30, 0)
    ids, pixels = fields["input_ids"], fields["pixel_values"]
    whole = torch.cat([ids, torch.tensor([[7, 9, 11]])], 1)
    types = [torch.zeros_like(whole), (torch.arange(whole.shape[1]) >= ids.shape[1]).long()[None]]
    with torch.no_grad():
        zero, suffix = (
            model(input_ids=whole, token_type_ids=each, attention_mask=torch.ones_like(whole), pixel_values=pixels)
            .logits[0, -1]
            .log_softmax(-1)
            for each in types
        )
        step = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, use_cache=True)
        mask = torch.ones_like(whole)
        told = model(input_ids=whole[:, ids.shape[1] :], attention_mask=mask, past_key_values=step.past_key_values)
    assert (zero - suffix).abs().max() > 0.1
    assert told.logits.shape[1] == 3


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("gemma2", "final_logit_softcapping"),
        ("cohere2", "logit_scale"),
        ("granite", "logits_scaling"),
        ("falcon_h1", "lm_head_multiplier"),
    ],
)
def test_a_scaling_that_the_model_around_a_language_model_leaves_out_is_refused(kind: str, setting: str) -> None:
    config = AutoConfig.for_model("llava", text_config={"model_type": kind, setting: 0.5})
    assert setting in why_untrainable(config)
    setattr(config.text_config, setting, None if setting == "final_logit_softcapping" else 1.0)
    assert why_untrainable(config) is None


def test_every_scaling_of_trls_head_is_known() -> None:
    read = set(re.findall(r'getattr\(text_config, "(\w+)"', inspect.getsource(add_fused_lm_head)))
    of_experts = {"output_router_logits", "router_aux_loss_coef"}
    assert read - of_experts == set(LOGIT_SCALINGS)


@pytest.mark.parametrize(("name", "scale"), [("aya_vision", 0.0625), ("cohere2_vision", 0.0625)])
def test_transformers_leaves_the_logit_scale_out(name: str, scale: float) -> None:
    """The fault behind their refusal: the model's own logits are those of its head, unscaled."""
    model = families.tiny(name).eval()
    fields = families.prompt(model, 0, 9, 0)
    with torch.no_grad():
        out = model(input_ids=fields["input_ids"], output_hidden_states=True)
        head = model.lm_head(out.hidden_states[-1])
    assert model.config.text_config.logit_scale == scale
    torch.testing.assert_close(out.logits, head)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["-m open_r1.plan --model {}", "eval/infer.py --model {} --question hi --device cpu"])
def test_every_door_says_the_same_sentence(door: str, tmp_path) -> None:
    families.save("mllama", tmp_path / "m")
    command = [python(), *door.format(tmp_path / "m").split()]
    said = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)
    assert said.returncode and re.search(r"model_type 'mllama': its layers look at pictures by cross", said.stderr)
