"""Weights that are not the model's are refused by name at every door, and the weights of each family are accepted."""

import json
import shutil
from pathlib import Path

import merge_lora
import pytest
import torch
from helpers.broken_models import changed, filled, reweighted, sharded, small_adapter, truncated, without
from helpers.families import NAMES
from helpers.families import tiny as tiny_family
from helpers.repository import run_script
from peft import PeftModel
from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of
from open_r1.evaluation.settings import settings_of
from open_r1.evaluation.transformers_engine import load_evaluated_model
from open_r1.evaluation.vllm_engine import refuse_wrong_model
from open_r1.models.configuration import empty_model, read_config
from open_r1.models.loading import load_model
from open_r1.models.lora import load_adapter
from open_r1.models.weights import is_finite, refuse_wrong_weights
from open_r1.sft_jsonl import parse_sft
from open_r1.trainer.checkpointing.resumable import load_weights


def extra(weights):
    weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)


def longer(weights):
    weights["model.norm.weight"] = torch.ones(130)


FAULTS = {
    "four tensors": (
        lambda tiny, out: reweighted(tiny, out, without("layers.1.mlp", "layers.1.input_layernorm")),
        "lacks 4 tensors (model.language_model.layers.1.input_layernorm.weight",
    ),
    "no vision": (
        lambda tiny, out: reweighted(tiny, out, without("visual.")),
        "lacks 42 tensors (model.visual.blocks.0",
    ),
    "no embedding": (lambda tiny, out: reweighted(tiny, out, without("embed_tokens")), "embed_tokens.weight"),
    "extra": (lambda tiny, out: reweighted(tiny, out, extra), "has without a place for them 1 tensor (model.language"),
    "longer": (lambda tiny, out: reweighted(tiny, out, longer), "norm.weight (130,) in place of (128,)"),
    "narrower": (
        lambda tiny, out: changed(tiny, out, "config.json", lambda c: c["text_config"].update(intermediate_size=256)),
        "has in another shape than config.json says 12 tensors",
    ),
    "fewer layers": (
        lambda tiny, out: changed(tiny, out, "config.json", lambda c: c["vision_config"].update(depth=2)),
        "has without a place for them 12 tensors (model.visual.blocks.2",
    ),
    "NaN": (
        lambda tiny, out: reweighted(tiny, out, filled("q_proj.weight", float("nan"))),
        "NaN or infinity in 1 tensor",
    ),
    "infinity": (
        lambda tiny, out: reweighted(tiny, out, filled("visual", float("-inf"))),
        "NaN or infinity in 1 tensor",
    ),
    "half a file": (truncated, "its weights cannot be read: SafetensorError"),
    "no shard": (lambda tiny, out: sharded(tiny, out, missing=True), "model-00002-of-00002.safetensors"),
    "no weights": (
        lambda tiny, out: (shutil.copytree(tiny, out), (out / "model.safetensors").unlink()) and out,
        "its weights cannot be read: OSError",
    ),
}


def grpo(folder: Path, *flags: str):
    argv = ["--model_name_or_path", str(folder), "--data_file_paths", "a.jsonl", "--bf16", "false", *flags]
    _, training, model_args = parse(JsonlArguments, argv)
    return load_model(model_args, training)


def sft(folder: Path):
    argv = ["--model_name_or_path", str(folder), "--data_file_paths", "a.jsonl", "--bf16", "false"]
    _, training, model_args = parse_sft(argv)
    return load_model(model_args, training)


def settings(folder: Path):
    argv = f"--model {folder} --data_file_paths a.jsonl --output_dir {folder}/out --device cpu".split()
    return settings_of(parser_of(None).parse_args(argv))


def resumed(folder: Path):
    good = str(folder.parent / "good")
    load_weights(empty_model(read_config(good), good), str(folder))


def around(folder: Path) -> Path:
    """An adapter whose base model is the folder's."""
    name = folder.with_name(f"{folder.name}-adapter")
    return changed(
        folder.parent / "adapter", name, "adapter_config.json", lambda c: c.update(base_model_name_or_path=str(folder))
    )


DOORS = {
    "GRPO": grpo,
    "SFT": sft,
    "GRPO on an adapter": lambda folder: grpo(around(folder), "--use_peft", "true"),
    "evaluation, infer, demo, attention": lambda folder: load_evaluated_model(settings(folder), None),
    "evaluation of an adapter": lambda folder: load_evaluated_model(settings(around(folder)), None),
    "evaluation by vLLM": lambda folder: refuse_wrong_model(settings(folder)),
    "resume": resumed,
    "merge": lambda folder: merge_lora.merge(
        merge_lora.options().parse_args([str(around(folder)), "--out", str(folder.with_name("merged"))])
    ),
}


@pytest.fixture(scope="module")
def saved_adapter(tiny, tmp_path_factory) -> Path:
    return small_adapter(tiny, tmp_path_factory.mktemp("saved") / "adapter")


@pytest.fixture
def adapter(saved_adapter, tmp_path) -> Path:
    return shutil.copytree(saved_adapter, tmp_path / "adapter")


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_the_models_are_refused_by_name(tiny, tmp_path, fault):
    make, said = FAULTS[fault]
    folder = make(tiny, tmp_path / "broken")
    with pytest.raises(UsageError) as refused:
        refuse_wrong_weights(str(folder))
    assert said in str(refused.value) and str(folder) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["four tensors", "NaN"])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_them(tiny, tmp_path, adapter, door, fault):
    shutil.copytree(tiny, tmp_path / "good")
    make, said = FAULTS[fault]
    folder = make(tiny, tmp_path / "broken")
    with pytest.raises(UsageError) as refused:
        DOORS[door](folder)
    assert said in str(refused.value)


@pytest.mark.parametrize("family", NAMES)
def test_no_good_model_of_a_family_is_refused_and_each_lost_tensor_is(family, tmp_path):
    tiny_family(family).save_pretrained(tmp_path / "whole", max_shard_size="200KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    model = refuse_wrong_weights(str(tmp_path / "whole"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    index = tmp_path / "whole" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], sorted(content["weight_map"].values())[0])
    index.write_text(json.dumps(content))  # as after a download that lost all shards but one
    with pytest.raises(UsageError, match=r"lacks \d+ tensors"):
        refuse_wrong_weights(str(tmp_path / "whole"))


def test_shards_old_files_and_tied_heads_are_accepted(tiny, tmp_path):
    refuse_wrong_weights(str(sharded(tiny, tmp_path / "two", missing=False)))
    old = reweighted(tiny, tmp_path / "old", lambda weights: None)
    from safetensors.torch import load_file

    weights = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    torch.save(weights, old / "pytorch_model.bin")
    refuse_wrong_weights(str(old))
    torch.save(weights, old / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    refuse_wrong_weights(str(old))
    torch.save(weights | {"model.norm.weight": torch.full((128,), torch.nan)}, old / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"NaN or infinity in 1 tensor \(model.norm.weight in pytorch_model.bin"):
        refuse_wrong_weights(str(old))


def test_partitioned_initialization_hides_nothing(tiny, tmp_path):
    """Under ZeRO-3 transformers reports no unexpected weights, and makes a model of shards."""
    active = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1})
    assert is_deepspeed_zero3_enabled() and active
    refuse_wrong_weights(tiny)
    for fault in ("extra", "four tensors", "narrower"):
        with pytest.raises(UsageError, match=r"\d+ tensor"):
            refuse_wrong_weights(str(FAULTS[fault][0](tiny, tmp_path / fault)))
    assert is_deepspeed_zero3_enabled()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_not_finite_is_found_in_every_type(dtype, value):
    tensor = torch.randn(33, 65).to(dtype)
    assert is_finite(tensor) and is_finite(torch.zeros(0)) and is_finite(torch.tensor([1, 2]))
    tensor[32, 64] = value
    assert not is_finite(tensor)


def test_numbers_of_eight_bits_are_looked_at():
    tensor = torch.ones(3, 5).to(torch.float8_e4m3fn)
    assert is_finite(tensor)
    tensor[2, 4] = torch.nan
    assert not is_finite(tensor)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 10**5])
def test_an_index_that_is_none_is_one_sentence(tiny, tmp_path, text):
    folder = sharded(tiny, tmp_path / "m", missing=False)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UsageError, match="its weights cannot be read"):
        refuse_wrong_weights(str(folder))


@pytest.mark.parametrize("content", [b"", b"\x80", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_files_of_no_weights_are_one_sentence(tiny, tmp_path, file, content):
    folder = reweighted(tiny, tmp_path / "m", lambda weights: None)
    (folder / "model.safetensors").unlink()
    (folder / file).write_bytes(content)
    with pytest.raises(UsageError, match="its weights cannot be read"):
        refuse_wrong_weights(str(folder))


# ------------------------------------------------------------------------------------------------------------ adapters

BROKEN_ADAPTERS = {
    "two tensors": (without("layers.0.self_attn.q_proj"), {}, "lacks 2 tensors"),
    "extra": (lambda w: w.update({"base_model.model.foo.lora_A.weight": torch.zeros(2, 2)}), {}, "without a place"),
    "NaN": (filled("lora_A", float("nan")), {}, "NaN or infinity in 1 tensor"),
    "another rank": (lambda w: None, {"r": 8}, "does not fit"),
    "rank 0": (lambda w: None, {"r": 0}, "does not fit"),
    "rank as text": (lambda w: None, {"r": "two"}, "does not fit"),
    "no such layers": (lambda w: None, {"target_modules": ["nothing"]}, "does not fit"),
    "unknown kind": (lambda w: None, {"peft_type": "NOSUCH"}, "peft_type: got 'NOSUCH', expected 'LORA'"),
    "other kind": (lambda w: None, {"peft_type": "IA3"}, "peft_type: got 'IA3', expected 'LORA'"),
    "no kind": (lambda w: None, {"peft_type": None}, "peft_type: got None, expected 'LORA'"),
    "no base": (lambda w: None, {"base_model_name_or_path": None}, "base_model_name_or_path: got none"),
    "no such base": (lambda w: None, {"base_model_name_or_path": "/nowhere"}, "which cannot be loaded"),
    "no expression": (lambda w: None, {"target_modules": "(q_proj"}, "does not fit"),
    "alpha NaN": (lambda w: None, {"lora_alpha": float("nan")}, "lora_alpha: got nan, expected a finite number"),
    "no weights": (None, {}, "got an adapter without weights"),
    "blank base": (lambda w: None, {"base_model_name_or_path": " "}, "base_model_name_or_path: got none"),
}


GOOD_ADAPTERS = [
    {"bias": "lora_only"}, {"use_dora": True}, {"use_rslora": True}, {"init_lora_weights": "pissa"},
    {"target_modules": r".*\.q_proj"}, {"modules_to_save": ["merger"]}, {"rank_pattern": {"q_proj": 4}},
]  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN_ADAPTERS)
def test_an_adapter_that_is_not_whole_or_does_not_fit_is_refused(tiny, tmp_path, adapter, fault):
    change, settings_, said = BROKEN_ADAPTERS[fault]
    folder = reweighted(adapter, tmp_path / "a", change or (lambda weights: None))
    if change is None:
        (folder / "adapter_model.safetensors").unlink()
    changed_folder = changed(folder, tmp_path / "b", "adapter_config.json", lambda c: c.update(settings_))
    with pytest.raises(UsageError) as refused:
        load_adapter(str(changed_folder))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_whole_adapter_is_loaded_for_training_and_evaluation(adapter):
    assert isinstance(grpo(adapter, "--use_peft", "true"), PeftModel)
    assert isinstance(load_evaluated_model(settings(adapter), None), PeftModel)


def test_an_adapter_whose_base_is_an_adapter_is_refused(tiny, tmp_path, adapter):
    name = {"base_model_name_or_path": str(adapter)}
    folder = changed(adapter, tmp_path / "second", "adapter_config.json", lambda c: c.update(name))
    with pytest.raises(UsageError, match="an adapter itself, expected a plain model; merge that one first"):
        load_adapter(str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("options", GOOD_ADAPTERS, ids=str)
def test_adapters_of_every_make_are_accepted(tiny, tmp_path, options):
    load_adapter(str(small_adapter(tiny, tmp_path / "a", **options)))


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_settings_of_an_adapter_that_are_no_object_are_refused(adapter, text):
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(UsageError, match=r"adapter_config.json: (got no JSON|base_model_name_or_path)"):
        load_adapter(str(adapter))


# ------------------------------------------------------------------------------------------------ doors, from outside

SCRIPTS = {
    "src/open_r1/grpo_jsonl.py": "--model_name_or_path {model} {data} --output_dir {out} --bf16 false",
    "src/open_r1/sft_jsonl.py": "--model_name_or_path {model} {data} --output_dir {out} --bf16 false",
    "eval/digits.py": "--model {model} {data} --output_dir {out}",
    "eval/infer.py": "--model {model} --image {image} --question What?",
    "eval/attention.py": "--model {model} --image {image} --question What?",
    "eval/demo.py": "--model {model} --task digits --port 0",
    "local_scripts/merge_lora.py": "{adapter} --out {out}",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["four tensors", "NaN", "no shard"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_so_in_one_sentence(tiny, digits, tmp_path, adapter, script, fault):
    make, said = FAULTS[fault]
    folder = make(tiny, tmp_path / "broken")
    data = f"--data_file_paths {digits}/heldout.jsonl --image_folders {digits}"
    places = {"model": folder, "data": data, "out": tmp_path / "out", "adapter": around(folder)}
    flags = SCRIPTS[script].format(**places, image=next((digits / "images").glob("*.png")))
    done = run_script(script, *flags.split(), check=False)
    assert done.returncode != 0 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
