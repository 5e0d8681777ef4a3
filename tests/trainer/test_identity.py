"""A run goes on only as the run that it was: every flag is classified, and changed flags, data, rewards and processors
are noticed before a model is loaded."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.resumed_runs import PLAIN, make_checkpoint
from PIL import Image

from open_r1 import grpo_jsonl
from open_r1.config.arguments import GRPOArguments, HubArguments, JsonlArguments, SFTArguments, VLMConfig
from open_r1.config.parser import parse
from open_r1.data.jsonl_dataset import load_records
from open_r1.models.loading import load_processor
from open_r1.trainer.checkpointing.identity import (
    MAY_DIFFER,
    SHAPING,
    names_in,
    resume_differences,
    run_facts,
    shaping_flags,
)

ARGUMENTS = (JsonlArguments, HubArguments, GRPOArguments, SFTArguments, VLMConfig)
REWARD = "def short(completion, record): return float(len(completion) < {length})\n"


def test_each_field_of_the_arguments_stands_in_exactly_one_list():
    names = [name for lists in (MAY_DIFFER, SHAPING) for text in lists.values() for name in text.split()]
    assert sorted(names) == sorted(set(names)), "a name stands twice"
    field_names = {f.name for arguments in ARGUMENTS for f in fields(arguments)}
    assert field_names - set(names) == set(), "decide: may it differ when a run is resumed, or does it shape the run?"
    assert set(names) - field_names == set(), "no field of this name"


@pytest.mark.parametrize("arguments", [GRPOArguments, SFTArguments, VLMConfig, JsonlArguments])
def test_each_shaping_flag_is_compared_and_no_other(arguments, tmp_path):
    part = arguments(output_dir=str(tmp_path)) if arguments in (GRPOArguments, SFTArguments) else arguments()
    before, noticed = shaping_flags(part), set()
    for field in fields(part):
        plain = getattr(part, field.name)
        setattr(part, field.name, "changed")
        noticed |= {field.name for words in resume_differences(before, shaping_flags(part)) if words}
        setattr(part, field.name, plain)
    assert noticed == {f.name for f in fields(part)} & names_in(SHAPING)


@pytest.fixture
def run(tiny, few, tmp_path, monkeypatch):
    """`run(*flags)` starts grpo_jsonl.py on a copy of four rows, the tiny model and a user's reward; `run.facts()`
    are those of the run that it then is. No model is loaded."""
    monkeypatch.setattr("open_r1.trainer.run.load_model", lambda *args: pytest.fail("a model was loaded"))
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(tiny, model)
    shutil.copytree(few.parent / "images", data / "images")
    shutil.copy(few, data / "train.jsonl")
    (tmp_path / "mine.py").write_text(REWARD.format(length=9))
    argv = f"--model_name_or_path {model} --data_file_paths {data / 'train.jsonl'} --image_folders {data} "
    argv += f"--num_generations 4 --per_device_train_batch_size 4 --output_dir {tmp_path / 'out'} --bf16 false "
    argv += f"--reward_funcs accuracy {tmp_path / 'mine.py'}:short"

    def start(*flags: str) -> None:
        grpo_jsonl.main([*argv.split(), *flags])

    def facts(*flags: str) -> dict:
        task, training, model_args = parse(JsonlArguments, [*argv.split(), *flags])
        records = load_records(task.data_file_paths, task.image_folders, reward_methods="default")
        return run_facts(records, task, training, model_args, load_processor(model_args, task))

    start.facts, start.folder = facts, tmp_path
    return start


def another_template(folder: Path) -> None:
    path = folder / "model" / "chat_template.jinja"
    path.write_text(path.read_text().replace("user", "human", 1) + "{# #}")


def another_size(folder: Path) -> None:
    path = folder / "model" / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"]["size"]["longest_edge"] += 784
    path.write_text(json.dumps(config))


def another_picture(folder: Path) -> None:
    path = next(path for path in sorted((folder / "data" / "images").iterdir()) if path.name in rows_of(folder))
    Image.open(path).resize((224, 112)).save(path)


def rows_of(folder: Path) -> str:
    return (folder / "data" / "train.jsonl").read_text()


def another_question(folder: Path) -> None:
    path = folder / "data" / "train.jsonl"
    path.write_text(path.read_text().replace("digits", "numbers", 1))


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (None, '--generation_kwargs {"typical_p":0.5}', "--generation_kwargs: None in the checkpoint, "),
        (None, "--multi_objective_aggregation normalize_then_sum", "--multi_objective_aggregation: "),
        (None, "--optim_args x=1", "--optim_args: None in the checkpoint"),
        (None, "--attn_implementation eager", "--attn_implementation: None in the checkpoint"),
        (lambda folder: (folder / "mine.py").write_text(REWARD.format(length=10)), "", r"sha256 of .*mine\.py: "),
        (another_template, "", r"sha256 of the processor's chat_template\.jinja: "),
        (another_size, "", r"sha256 of the processor's processor_config\.json: "),
        (another_question, "", "sha256 of the data: "),
        (another_picture, "", "sizes of sampled pictures: "),
    ],
)
def test_what_differs_is_refused_by_name(run, change, flags, words):
    folder = make_checkpoint(run.folder / "out" / "checkpoint-1", PLAIN, facts=run.facts())
    if change is not None:
        change(run.folder)
    with pytest.raises(SystemExit, match=words):
        run("--resume_from_checkpoint", str(folder), *flags.split())


def test_what_may_differ_does(run):
    folder = make_checkpoint(run.folder / "out" / "checkpoint-1", PLAIN, facts=run.facts())
    flags = ["--max_steps", "9", "--logging_steps", "3", "--save_steps", "4", "--reward_seconds", "9"]
    target = shutil.move(run.folder / "data", run.folder / "elsewhere")
    flags += ["--data_file_paths", f"{target}/train.jsonl", "--image_folders", str(target)]
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):  # it goes on
        run("--resume_from_checkpoint", str(folder), *flags)


def test_two_starts_of_a_run_have_the_same_facts_and_no_secret(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    first = run.facts()
    assert first == run.facts() and "hf_" not in json.dumps(first)
    monkeypatch.setenv("JUDGE_MODEL", "another")
    assert resume_differences(first, run.facts()) == ["$JUDGE_MODEL: None in the checkpoint, 'another' in this run"]


def test_a_setting_of_deepspeeds_file_is_compared_by_its_name(tmp_path):
    from open_r1.trainer.checkpointing.identity import deepspeed_facts

    config = tmp_path / "zero.json"
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": true}}')
    before = deepspeed_facts(str(config))
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": false}}')
    assert resume_differences(before, deepspeed_facts(str(config))) == [
        "--deepspeed zero_optimization.overlap_comm: True in the checkpoint, False in this run"
    ]
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": true}, "gradient_clipping": 0.1}')
    assert resume_differences(before, deepspeed_facts(str(config))) == [
        "--deepspeed gradient_clipping: None in the checkpoint, 0.1 in this run"
    ]
    assert resume_differences(deepspeed_facts(str(config)), before) == [
        "--deepspeed gradient_clipping: 0.1 in the checkpoint, None in this run"
    ]


def test_facts_that_an_older_version_did_not_save_are_not_compared():
    current = {"--seed": 1, "sha256 of the processor's tokenizer.json": "a", "--deepspeed zero_optimization.stage": 3}
    assert resume_differences({"--seed": 1, "--gone": 2}, current) == []
