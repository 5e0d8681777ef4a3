"""Every accepted flag acts: flags that cannot act, alone or without another, are refused before anything is loaded."""

from argparse import Namespace
from dataclasses import fields
from importlib.util import find_spec

import pytest

from open_r1 import sft_jsonl
from open_r1.config.idle_flags import CONDITIONS, REFUSED_FLAGS, REFUSED_GRPO_FLAGS, is_stage_3, refuse_idle_flags
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import parse
from open_r1.config.sft_validation import REFUSED_SFT_FLAGS
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments, SFTArguments

SCRIPTS = {"grpo": (GRPOArguments, REFUSED_GRPO_FLAGS), "sft": (SFTArguments, REFUSED_SFT_FLAGS)}
NEEDED = ["--model_name_or_path", "m", "--data_file_paths", "d.jsonl", "--output_dir", "/tmp/o", "--use_cpu", "true"]
# What makes the conditions hold, all at once but for those that contradict.
HOLDING = {
    "perception_coef": 0.01,
    "visual_token_share": 0.4,
    "noisy_rollouts": 0.5,
    "loss_type": "grpo", "beta": 0.1, "sync_ref_model": True, "use_adaptive_entropy": True, "use_vllm": True,
    "log_completions": True, "deepspeed": "zero3.json", "use_liger_kernel": True,
    "push_to_hub": True, "report_to": ["trackio"], "gradient_checkpointing": True, "fsdp": True,
    "lr_scheduler_type": "linear", "save_strategy": "steps", "logging_strategy": "steps", "eval_strategy": "steps",
    "tools": ["zoom"], "use_bias_correction_kl": True, "use_peft": True, "load_in_4bit": True,
    "load_best_model_at_end": True, "dataloader_num_workers": 1, "vllm_importance_sampling_correction": True,
}  # fmt: skip
CONTRARY = {"sapo_temperature_neg": {"loss_type": "sapo"}, "vespo_k_pos": {"loss_type": "vespo"}}
CONTRARY |= {"vllm_group_port": {"vllm_mode": "server"}}
CONTRARY |= {"cache_implementation": {"use_vllm": False}}


def said(capsys: pytest.CaptureFixture, *flags: str, script=parse) -> str:
    """What a script says as it refuses flags, with status 2."""
    with pytest.raises(SystemExit) as stop:
        script(JsonlArguments, [*NEEDED, *flags]) if script is parse else script([*NEEDED, *flags])
    assert stop.value.code == 2
    return capsys.readouterr().err


def parts_of(training: type) -> tuple:
    return JsonlArguments(), training(output_dir="/tmp/o"), VLMConfig()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--label_smoothing_factor 0.3", "--label_smoothing_factor: the loss of GRPO has no labels; remove it"),
        ("--train_sampling_strategy sequential", "--train_sampling_strategy: rows are drawn in another order each"),
        ("--optim_args foo=1", "--optim_args: got foo=1, which changes nothing with --optim adamw_torch"),
        ("--optim sgd --optim_args momentum=0.9,foo=1", "--optim_args: got foo=1, which changes nothing with"),
        ("--optim sgd --adam_beta1 0.5", "--adam_beta1: got 0.5, which changes nothing with --optim sgd; remove it"),
        ("--optim_target_modules q_proj", "--optim_target_modules: acts only with --optim galore_* or apollo_*"),
        pytest.param(
            "--optim lion_8bit",
            "--optim, --optim_args: got lion_8bit, None: You need to install `bitsandbytes`",
            marks=pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"),
        ),
        ("--max_tool_calling_iterations 3", "--max_tool_calling_iterations: turns are counted by --max_tool_turns"),
        ("--cast_lm_head_to_fp32 true", "--cast_lm_head_to_fp32: log-probs are computed by passes of this project"),
        ("--auto_find_batch_size true", "--auto_find_batch_size: it would repeat a step with another batch; choose"),
        ("--torch_compile true", "--torch_compile: passes of this project run the model's layers"),
        ("--lr_scheduler_type constant --warmup_steps 5", "--warmup_steps: acts only with --lr_scheduler_type const"),
        ("--sapo_temperature_neg 2", "--sapo_temperature_neg: acts only with --loss_type sapo; add it, or"),
        ("--loss_type cispo --delta 2", "--delta: acts only with a --loss_type that clips (not cispo, sapo or vespo)"),
        ("--sync_ref_model true", "--sync_ref_model: acts only with --beta above 0, which a reference model is for"),
        ("--vllm_server_port 8000", "--vllm_server_port: acts only with --use_vllm true; add it"),
        ("--vllm_lora_sync adapter", "--vllm_lora_sync: acts only with --use_vllm true and --use_peft true; add it"),
        ("--hub_model_id me/it", "--hub_model_id: acts only with --push_to_hub true"),
        ("--eval_steps 10", "--eval_steps: acts only with --eval_strategy steps"),
        ("--local_rank 3", "--local_rank: acts only with the deepspeed launcher, which passes it; torchrun tells"),
        ("--use_bias_correction_kl true", "--use_bias_correction_kl: acts only with --beta above 0"),
        ("--save_strategy no --save_total_limit 2", "--save_total_limit: acts only with another --save_strategy"),
        ("--num_completions_to_print 3", "--num_completions_to_print: acts only with --log_completions true"),
    ],
)  # fmt: skip
def test_what_cannot_act_in_grpo_is_refused_through_the_script(capsys, flags, message):
    assert message in said(capsys, *flags.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--train_sampling_strategy group_by_length", "--train_sampling_strategy: got group_by_length, expected "),
        ("--eval_steps 10", "--eval_steps: nothing is held out here; use eval/evaluate.py"),
        ("--optim_args foo=1", "--optim_args: got foo=1, which changes nothing"),
        ("--auto_find_batch_size true", "--auto_find_batch_size: it would repeat a step"),
        ("--hub_model_id me/it", "--hub_model_id: acts only with --push_to_hub true"),
        ("--gradient_checkpointing false --gradient_checkpointing_kwargs {}", "--gradient_checkpointing_kwargs: acts"),
    ],
)
def test_what_cannot_act_in_sft_is_refused_through_the_script(capsys, flags, message):
    assert message in said(capsys, *flags.split(), script=sft_jsonl.parse_sft)


def test_supervised_rows_may_come_in_the_order_of_their_file():
    _, training, _ = sft_jsonl.parse_sft([*NEEDED, "--train_sampling_strategy", "sequential"])
    assert training.train_sampling_strategy == "sequential"


def test_a_key_of_the_yaml_file_is_refused_like_a_flag(capsys, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("sapo_temperature_pos: 2.0\n")
    assert "--sapo_temperature_pos: acts only with --loss_type sapo" in said(capsys, "--config", str(config))
    config.write_text("learning_rate: 1.0e-6\nlabel_smoothing_factor: 0.1\n")
    assert f"{config}:2: label_smoothing_factor: the loss of GRPO has no labels" in said(
        capsys, "--config", str(config)
    )


def test_settings_that_the_optimizer_reads_are_accepted():
    _, training, _ = parse(JsonlArguments, [*NEEDED, "--optim", "sgd", "--optim_args", "momentum=0.9, nesterov=true"])
    assert training.optim_args == "momentum=0.9, nesterov=true"
    assert parse(JsonlArguments, [*NEEDED, "--adam_beta1", "0.8"])[1].adam_beta1 == 0.8


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.needs)
def test_each_condition_refuses_where_it_does_not_hold_and_only_there(condition, monkeypatch):
    monkeypatch.setattr("open_r1.config.idle_flags.HAS_LIGER", True)
    monkeypatch.setenv("LOCAL_RANK", "-1")  # as the arguments' default
    met = HOLDING | next((change for name, change in CONTRARY.items() if name in condition.flags), {})
    plain, fitting = parts_of(GRPOArguments), parts_of(GRPOArguments)
    for part in fitting:
        vars(part).update({key: value for key, value in met.items() if hasattr(part, key)})
    for name in condition.flags.split():
        refuse_idle_flags(fitting, {name})
        if not condition.holds(Namespace(**{key: value for part in plain for key, value in vars(part).items()})):
            with pytest.raises(ValueError, match=f"^--{name}: acts only with "):
                refuse_idle_flags(plain, {name})


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_name_of_the_tables_is_a_flag(script):
    training, refused = SCRIPTS[script]
    flags = {f.name for cls in (JsonlArguments, HubArguments, training, VLMConfig) for f in fields(cls)}
    assert set(refused) <= flags | {"completion_only_loss"}
    if script == "grpo":
        assert {name for condition in CONDITIONS for name in condition.flags.split()} <= flags


@pytest.mark.parametrize(
    ("file", "acts"), [("zero1", False), ("zero2", False), ("zero3", True), ("zero3_offload", True)]
)
def test_gathering_acts_under_stage_3_alone(file, acts):
    assert is_stage_3(f"local_scripts/{file}.json") == acts


def test_a_plain_run_is_refused_nothing():
    for training, _ in SCRIPTS.values():
        refuse_idle_flags(parts_of(training), set())
    assert not set(REFUSED_FLAGS) & {name for condition in CONDITIONS for name in condition.flags.split()}
