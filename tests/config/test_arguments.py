"""Flags act, are answered, or end the program with status 2, their place, and the nearest known name."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import pytest

from open_r1.config.model_arguments import VLMConfig, weights_dtype
from open_r1.config.parser import parse
from open_r1.config.sft_validation import REFUSED_SFT_FLAGS
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.validation import IDLE
from open_r1.redaction import TOKEN_FLAGS
from open_r1.sft_jsonl import parse_sft

NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false"]


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], data_class: type = JsonlArguments) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(data_class, argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data_file_path", "x"], "--data_file_path: unknown flag; did you mean --data_file_paths?"),
        (["--num_generation=4"], "--num_generation: unknown flag; did you mean --num_generations?"),
        (["--zzzzqqq"], "--zzzzqqq: unknown flag; see --help"),
        (["--overwrite_output_dir"], "--overwrite_output_dir: no longer a flag; remove it: a run never deletes"),
        (["--logging_dir", "x"], "--logging_dir: no longer a flag; remove it: curves"),
        (["--vllm_device", "auto"], "--vllm_device: no longer a flag; use --use_vllm true"),
        (["--no_cuda"], "--no_cuda: no longer a flag; use --use_cpu true"),
        (["--is_reward_customized_from_vlm_module", "true"], "no longer a flag; remove it: --task_type chooses"),
        (["--dataset_name", "this_is_not_used"], "--dataset_name: no longer a flag; remove it: this script reads"),
        (
            ["--reward_funcs", "accurcy"],
            "did you mean 'accuracy'",
        ),
        (["--reward_funcs", "mine.py:f"], "reward file: got mine.py, expected a Python file"),
        (["--reward_seconds", "3"], "--reward_seconds: acts only on your own --reward_funcs path/to/file.py:function"),
        (["--reward_funcs", "format", "--reward_errors", "skip"], "--reward_errors: acts only on your own"),
        (["--reward_seconds", "0"], "--reward_seconds: got 0, expected a positive number"),
        (["--reward_memory_gb", "nan"], "--reward_memory_gb: got nan, expected a positive number"),
        (["--reward_method", "mcq:mth"], "reward method: got 'mth', expected one of default, math"),
        (["--val_split_ratio", "0.1"], "--val_split_ratio: acts only with --eval_strategy steps or epoch"),
        (["--lora_r", "64"], "--lora_r: acts only with --use_peft true"),
        (["--per_device_train_batch_size", "1"], "set --per_device_train_batch_size 8 (1 prompt per device)"),
        (["--per_device_train_batch_size", "21"], "set --per_device_train_batch_size 24 (3 prompts per device)"),
        (
            ["--attn_implementation", "flash_attention_2"],
            "--attn_implementation: got flash_attention_2, whose kernels run",
        ),
        (["--save_total_limit", "0"], "--save_total_limit: got 0, expected at least 1"),
        (["--save_total_limit", "-1"], "--save_total_limit: got -1, expected at least 1"),
        (["--vision_probe", "-1"], "--vision_probe: got -1, expected 0 for never"),
        (
            ["--stop_on", "answers_without_looking"],
            "--stop_on answers_without_looking: acts only with --vision_probe; add --vision_probe 10",
        ),
        (
            ["--stop_on", "time_not_used"],
            "--stop_on time_not_used: acts only with --vision_probe; add --vision_probe 10",
        ),
        (["--perception_coef", "-1"], "--perception_coef: got -1, expected 0 or more"),
        (["--visual_token_share", "1.5"], "--visual_token_share: got 1.5, expected a share above 0 and at most 1"),
        (
            ["--visual_token_share", "0.4", "--loss_type", "luspo"],
            "--visual_token_share: got 0.4 with --loss_type luspo by sequence, whose ratio moves all tokens",
        ),
        (
            ["--perception_coef", "0.01", "--perception_masked_entropy_coef", "0.03", "--fsdp", "true"],
            "--perception_masked_entropy_coef: got 0.03 with --fsdp, whose ranks gather weights",
        ),
        (["--perception_mask_share", "0.5"], "--perception_mask_share: acts only with --perception_coef above 0"),
        (["--tokens_per_forward", "0"], "--tokens_per_forward: got 0, expected at least 1"),
        (
            ["--tokens_per_forward", "9", "--fsdp", "true"],
            "--tokens_per_forward: got 9 with --fsdp, whose ranks gather",
        ),
    ],
)
def test_a_flag_that_cannot_act_is_answered(capsys, argv, message):
    assert message in refused(capsys, NEEDED + argv)


def test_bounds_of_users_rewards_act_or_are_answered(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def f(completion, record): return 1.0\n")
    flags = [*NEEDED, "--reward_funcs", f"{path}:f", "--reward_seconds", "5"]
    data, _, _ = parse(JsonlArguments, [*flags, "--reward_memory_gb", "1.5", "--reward_errors", "skip"])
    assert (data.reward_seconds, data.reward_memory_gb, data.reward_errors) == (5.0, 1.5, "skip")
    message = refused(capsys, [*flags, "--rewards_in_process", "true"])
    assert "--reward_seconds: does not act with --rewards_in_process true" in message


def test_deepspeed_needs_a_launcher(capsys, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert "expected torchrun" in refused(capsys, [*NEEDED, "--deepspeed", "local_scripts/zero3.json"])


@pytest.mark.parametrize(
    ("parser", "script_refuses"),
    [(partial(parse, JsonlArguments), {}), (partial(parse, HubArguments), {}), (parse_sft, REFUSED_SFT_FLAGS)],
    ids=["grpo_jsonl.py", "grpo.py", "sft_jsonl.py"],
)
def test_help_lists_no_flag_that_is_refused(capsys, parser, script_refuses):
    with pytest.raises(SystemExit) as stop:
        parser(["--help"])
    listed = set(re.findall(r"^  --(\w+)", capsys.readouterr().out, re.MULTILINE))
    assert stop.value.code == 0 and {"model_name_or_path", "learning_rate", "lora_r", "hub_model_id"} <= listed
    assert not listed & {*TOKEN_FLAGS, *IDLE, *script_refuses, *(f"no_{name}" for name in script_refuses)}
    assert script_refuses or "reward_funcs" in listed


@pytest.mark.parametrize("flag", IDLE)
def test_a_flag_that_help_leaves_out_is_refused_all_the_same(capsys, flag):
    value = {"lora_task_type": "SEQ_CLS", "bnb_4bit_quant_storage": "uint8"}.get(flag)
    message = refused(capsys, [*NEEDED, "--use_peft", "true", f"--{flag}", value or "true"])
    assert f"--{flag}: got {value or True}, cannot act: {IDLE[flag]}" in message


def test_all_unknown_flags_are_answered_together(capsys):
    assert len(refused(capsys, [*NEEDED, "--no_cuda", "--foo", "--logging_dir", "x"]).splitlines()) == 3


@pytest.mark.parametrize("missing", ["--model_name_or_path", "--data_file_paths"])
def test_what_is_missing_is_named(capsys, missing):
    at = NEEDED.index(missing)
    assert f"{missing}: got nothing" in refused(capsys, NEEDED[:at] + NEEDED[at + 2 :])


def test_dataset_name_is_a_flag_of_grpo_py_only():
    data, _, _ = parse(HubArguments, ["--model_name_or_path", "m", "--dataset_name", "d", "--bf16", "false"])
    assert data.dataset_name == "d"


def test_yaml_gives_values_and_the_command_line_wins(tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("learning_rate: 1e-5\nnum_generations: 4\nbeta: 0.04\nreward_funcs: [accuracy]\n")
    data, training, _ = parse(JsonlArguments, [*NEEDED, "--config", str(config), "--beta", "0.1"])
    assert (training.learning_rate, training.num_generations, training.beta) == (1e-5, 4, 0.1)
    assert data.reward_funcs == ["accuracy"]


@pytest.mark.parametrize("words", [["output/x"], ["--seed", "1", "2"], ["--learning_rate", "1e-6", "a b"]])
def test_a_word_that_belongs_to_no_flag_is_named(capsys, words):
    assert f"{words[-1]!r}: got words that belong to no flag, expected --flag value" in refused(capsys, words)


def test_an_unknown_yaml_key_is_named_with_its_line(capsys, tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("beta: 0.04\n\nlearning_rat: 1\nno_cuda: true\n")
    message = refused(capsys, [*NEEDED, "--config", str(config)])
    assert f"{config}:3: learning_rat: unknown flag; did you mean --learning_rate?" in message
    assert f"{config}:4: no_cuda: no longer a flag" in message


def test_a_missing_config_file_is_named(capsys, tmp_path: Path):
    assert "none.yaml, expected a YAML file" in refused(capsys, [*NEEDED, "--config", str(tmp_path / "none.yaml")])


def test_weights_are_float32_unless_deepspeed_keeps_masters():
    _, training, model = parse(JsonlArguments, NEEDED)
    assert weights_dtype(model, training) == "float32"
    training.deepspeed, training.bf16 = "zero3.json", True
    assert weights_dtype(model, training) == "bfloat16"
    assert weights_dtype(dataclasses.replace(model, dtype="float32"), training) == "float32"


def test_every_flag_has_help():
    for cls in (JsonlArguments, HubArguments):
        assert not [f.name for f in dataclasses.fields(cls) if not f.metadata.get("help")]
    assert {f.name for f in dataclasses.fields(GRPOArguments)}.isdisjoint(
        {f.name for f in dataclasses.fields(JsonlArguments)}
    )
    assert VLMConfig().dtype is None
