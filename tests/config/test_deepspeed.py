"""DeepSpeed files: ours hold nothing that DeepSpeed would ignore, and a planted key is found, wherever it stands."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.repository import REPO

from open_r1.config.deepspeed import check_engine_config, ignored_keys
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments

FILES = sorted((REPO / "local_scripts").glob("zero*.json"))
PLANTED = [
    ((), "gradient_cliping", 1.0, "did you mean gradient_clipping?"),
    ((), "sub_group_size", "auto", "remove it"),
    (("zero_optimization",), "stage3_gather_weights", True, "did you mean"),
    (("zero_optimization",), "gather", "auto", ""),  # DeepSpeed drops it before its own check, because of "auto"
    (("zero_optimization", "offload_param"), "buffer_cout", 5, "did you mean buffer_count?"),
    (("zero_optimization", "offload_optimizer"), "pinned", "auto", ""),
    (("bf16",), "auto_cast", True, ""),
    (("fp16",), "initial_scale", 16, "did you mean initial_scale_power?"),
    (("activation_checkpointing",), "partition_activation", True, "did you mean partition_activations?"),
    (("flops_profiler",), "step", 1, ""),
    (("data_types",), "grad_type", "fp32", ""),
]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")


def planted(places: tuple[str, ...], key: str, value: Any) -> dict[str, Any]:
    config = json.loads((REPO / "local_scripts" / "zero3_offload.json").read_text())
    section = config
    for place in places:
        section = section.setdefault(place, {})
    section[key] = value
    return config


def test_there_is_a_file_for_each_stage():
    assert [file.stem for file in FILES] == ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"]
    stages = [json.loads(file.read_text())["zero_optimization"]["stage"] for file in FILES]
    assert stages == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_deepspeed_reads_every_key_of_our_files(file):
    assert ignored_keys(json.loads(file.read_text())) == []


@pytest.mark.parametrize(("places", "key", "value", "remedy"), PLANTED, ids=lambda value: str(value))
def test_a_planted_key_is_found(places, key, value, remedy):
    (complaint,) = ignored_keys(planted(places, key, value))
    assert complaint.startswith(f"{'.'.join([*places, key])}: no setting of DeepSpeed") and remedy in complaint


def test_a_value_that_deepspeed_refuses_is_found():
    (complaint,) = ignored_keys(planted(("zero_optimization",), "stage", 7))
    assert "DeepSpeed refuses it" in complaint and "stage" in complaint


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1,\n"b"}', ":2: got no JSON"), ("[1]", ": got no JSON object"), ('{"typo": 1}', ": typo: no setting")],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        check_engine_config(str(path))
    assert str(error.value).startswith(f"{path}{message}")


def test_settings_on_the_command_line_are_checked_too():
    with pytest.raises(ValueError, match="--deepspeed: typo: no setting"):
        check_engine_config('{"typo": 1}')
    with pytest.raises(ValueError, match="expected a JSON file"):
        check_engine_config("missing.json")


def test_a_run_does_not_start_with_such_a_file(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "0")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(planted((), "gradient_cliping", 1.0)))
    needed = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        parse(JsonlArguments, [*needed, "--use_cpu", "true", "--bf16", "false", "--deepspeed", str(path)])
    assert end.value.code == 2
    assert f"{path}: gradient_cliping: no setting of DeepSpeed" in capsys.readouterr().err


def test_fsdp_on_the_cpu_is_refused_for_what_accelerate_would_do(tmp_path, capsys):
    needed = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit):
        parse(JsonlArguments, [*needed, "--use_cpu", "true", "--bf16", "false", "--fsdp", "true"])
    message = capsys.readouterr().err
    assert "--fsdp: got true on the CPU" in message and "zero3.json" in message
