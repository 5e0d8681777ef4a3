"""Names of other projects' flags are answered with ours, by tables that name nothing else."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from open_r1.config.flag_names import RETIRED, KnownFlags
from open_r1.config.idle_flags import REFUSED_GRPO_FLAGS
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.other_projects.projects import PROJECTS, SECTIONS, answer_to
from open_r1.config.parser import known_flags, parse
from open_r1.config.sft_validation import REFUSED_SFT_FLAGS
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments, SFTArguments
from open_r1.config.validation import IDLE
from open_r1.redaction import TOKEN_FLAGS
from open_r1.rewards.registry import REWARDS

GRPO = (JsonlArguments, HubArguments, GRPOArguments, VLMConfig)
OURS = {f.name for cls in GRPO for f in fields(cls)} - set(REFUSED_GRPO_FLAGS) - set(TOKEN_FLAGS) - set(IDLE)
OF_SFT = {f.name for cls in (JsonlArguments, SFTArguments, VLMConfig) for f in fields(cls)} - set(REFUSED_SFT_FLAGS)
NAMES = [(project, name) for project, table in PROJECTS.items() for name in table]


@pytest.fixture(scope="module")
def known() -> KnownFlags:
    return known_flags((JsonlArguments, GRPOArguments, VLMConfig), REFUSED_GRPO_FLAGS)


@pytest.mark.parametrize("project", PROJECTS)
def test_each_answer_names_flags_that_exist_and_no_name_is_a_flag(project):
    for name, answer in PROJECTS[project].items():
        assert set(re.findall(r"--(\w+)", answer)) <= OURS | {"config"}, f"{name} is answered with no flag"
        assert answer.startswith("--") or re.match(r"(remove it|leave|it has no|a step has)", answer), name
        files = re.findall(r"(?:src|eval|local_scripts|run_scripts|assets)/[\w./]+\.\w+", answer)
        assert [path for path in files if not Path(path).exists()] == [], name
        assert name not in OURS | (OF_SFT - set(IDLE)) and name not in RETIRED, f"{name} is a flag here"


def test_a_name_of_several_projects_has_one_answer():
    answers: dict[str, set[str]] = {}
    for table in PROJECTS.values():
        for name, answer in table.items():
            answers.setdefault(name, set()).add(answer)
    assert {name: found for name, found in answers.items() if len(found) > 1} == {}


def test_names_with_sections_begin_with_a_known_section():
    assert {name.split(".")[0] for _, name in NAMES if "." in name} <= set(SECTIONS)


def test_rewards_in_answers_exist():
    named = [
        word for _, name in NAMES for word in re.findall(r"--reward_funcs ((?: ?[a-z]+\b(?!/))+)", answer_to(name)[1])
    ]
    assert named and {word for words in named for word in words.split()} <= {*REWARDS, "path"}


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("kl_coef", "0.04", "--kl_coef: a name of several projects; use --beta 0.04"),
        ("max_new_tokens", "64", "--max_new_tokens: a name of several projects; use --max_completion_length 64"),
        ("rollout_n", "4", "--rollout_n: a name of several projects; use --num_generations 4"),
        ("lr", "1e-6", "--lr: a name of several projects; use --learning_rate 1e-6"),
        ("model", "m", "--model: a name of ms-swift; use --model_name_or_path m"),
        (
            "tuner_type",
            "lora",
            "--tuner_type: a name of ms-swift; use --use_peft true --lora_r 16 for LoRA; leave both",
        ),
        ("n_samples_per_prompt", "8", "--n_samples_per_prompt: a name of OpenRLHF; use --num_generations 8"),
        ("init_kl_coef", "0.1", "--init_kl_coef: a name of OpenRLHF; use --beta 0.1"),
        ("actor_learning_rate", "1e-6", "--actor_learning_rate: a name of OpenRLHF; use --learning_rate 1e-6"),
        ("warmup_ratio", "0.1", "--warmup_ratio: a name of TRL or transformers before; use --warmup_steps 0.1"),
        ("fast_inference", "", "--fast_inference: a name of unsloth; use --use_vllm true --vllm_mode colocate"),
        ("cutoff_len", "1024", "--cutoff_len: a name of LLaMA-Factory; use --max_prompt_length 1024"),
        ("worker.rollout.n", "5", "--worker.rollout.n: a name of EasyR1; use --num_generations 5"),
        ("rlhf_type", "grpo", "--rlhf_type: a name of ms-swift; remove it: grpo_jsonl.py and grpo.py run GRPO"),
        ("worker.foo.bar", "1", "--worker.foo.bar: a name of another project without counterpart here; remove it"),
    ],
)
def test_a_flag_of_another_project_is_answered_through_the_script(capsys, name, value, answer):
    assert answer in said(capsys, f"--{name}", *([value] if value else []))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("actor_rollout_ref.rollout.n=4", "actor_rollout_ref.rollout.n: a name of verl; use --num_generations 4"),
        ("data.max_response_length=512", "data.max_response_length: a name of verl; use --max_completion_length 512"),
        ("algorithm.kl_ctrl.kl_coef=0.001", "algorithm.kl_ctrl.kl_coef: a name of verl; use --beta 0.001"),
        ("worker.actor.optim.lr=1e-6", "worker.actor.optim.lr: a name of EasyR1; use --learning_rate 1e-6"),
        ("+trainer.nothing=1", "trainer.nothing: a name of another project without counterpart here; remove it"),
        ("data.train_files=a.parquet", "data.train_files: a name of verl; use --data_file_paths FILE.jsonl"),
        ("learning_rate=1e-6", "expected --flag value; write --learning_rate 1e-6"),
    ],
)
def test_an_override_of_verl_and_easyr1_is_answered(capsys, word, answer):
    assert answer in said(capsys, word)
    assert answer.partition(": ")[2] in said(capsys, "--reward_funcs", "accuracy", word) or "write --" in answer


def test_supervised_fine_tuning_says_what_it_has_not(capsys):
    known = known_flags((JsonlArguments, SFTArguments, VLMConfig), REFUSED_SFT_FLAGS)
    assert known.complaint("--rollout_n", "rollout_n", "4").endswith("this script has no --num_generations; remove it")
    assert known.complaint("--lr", "lr", "1e-5").endswith("use --learning_rate 1e-5")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    needed = ["--model_name_or_path", "m", "--data_file_paths", "a.jsonl", "--bf16", "false"]
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*words, *needed])
    assert stop.value.code == 2
    return capsys.readouterr().err
