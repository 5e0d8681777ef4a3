"""The planner has a plan for every family, by the sizes that its model and its cache have."""

import json

import pytest
from helpers import families
from helpers.families.rows import NO_PREFILL, TRAINED
from transformers import PreTrainedModel

from open_r1.plan.cli import main
from open_r1.plan.dims import dims_of
from open_r1.rollout.generation import prefill


def cached_numbers(model: PreTrainedModel, tokens: int) -> tuple[int, int]:
    """(layers, numbers) of the keys and values that a prefill of a prompt of this many tokens keeps."""
    (prompt, *_) = families.group_prompts(model, [(0, tokens, 1)])
    layers = [
        layer for layer in prefill(model.base_model, [prompt]).layers if getattr(layer, "keys", None) is not None
    ]
    return len(layers), sum(layer.keys.numel() + layer.values.numel() for layer in layers) // (len(prompt.ids) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_sizes_are_those_of_the_model_and_of_its_cache(name):
    model = families.tiny(name).eval()
    dims = dims_of(model)
    assert dims.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < dims.vision.parameters < dims.parameters and dims.text.intermediate > 0 and dims.linears
    if name in NO_PREFILL:
        return
    layers, numbers = cached_numbers(model, tokens=3)
    assert dims.text.caching_layers == layers
    most = layers * dims.text.cached
    assert numbers <= most <= 2 * numbers  # layers may differ, the planner takes the largest


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_command_plans_a_model_folder(name, tmp_path, capsys):
    families.config_of(name).save_pretrained(tmp_path)
    families.processor_of(name).save_pretrained(tmp_path)
    assert main(["--model", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] and plan["parameters"] == dims_of(families.tiny(name)).parameters
