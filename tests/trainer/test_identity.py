"""A run goes on only as the run that it was: every flag is classified, and changed flags, data, rewards and processors
are noticed before a model is loaded."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from helpers.fake_endpoint import serving, verdict
from helpers.resumed_runs import PLAIN, make_checkpoint
from PIL import Image
from safetensors.torch import save_file

from open_r1 import grpo_jsonl
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import parse
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.config.training_arguments import GRPOArguments, SFTArguments
from open_r1.data.jsonl_dataset import load_records
from open_r1.errors import UsageError
from open_r1.models.loading import load_processor
from open_r1.trainer.checkpointing.changes import KINDS, changed_kinds, kind_of, resume_differences
from open_r1.trainer.checkpointing.file_facts import deepspeed_facts, imported_files, sampled_places, weights_hash
from open_r1.trainer.checkpointing.identity import MAY_DIFFER, SHAPING, names_in, run_facts, shaping_flags
from open_r1.trainer.checkpointing.manifest import write_manifest
from open_r1.trainer.checkpointing.select import plan_resume

DIFFERENCE = "{}: {!r} in the checkpoint, {!r} in this run"
ARGUMENTS = (JsonlArguments, HubArguments, GRPOArguments, SFTArguments, VLMConfig)
REWARD = "try:\n    import counts\nexcept ImportError: counts = None\n"
REWARD += "def short(completion, record): return float(len(completion) < {length})\n"


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
    (tmp_path / "counts.py").write_text("LENGTH = 9\n")
    argv = f"--model_name_or_path {model} --data_file_paths {data / 'train.jsonl'} --image_folders {data} "
    argv += f"--num_generations 4 --per_device_train_batch_size 4 --output_dir {tmp_path / 'out'} --bf16 false "
    argv += f"--reward_funcs accuracy {tmp_path / 'mine.py'}:short"

    def start(*flags: str) -> None:
        grpo_jsonl.main([*argv.split(), *flags])

    def parts(*flags: str) -> tuple:
        task, training, model_args = parse(JsonlArguments, [*argv.split(), *flags])
        records = load_records(task.data_file_paths, task.image_folders, reward_methods="default")
        return records, task, training, model_args, load_processor(model_args, task)

    start.facts, start.plan, start.folder = (
        lambda *f: run_facts(*parts(*f)),
        lambda *f: plan_resume(*parts(*f)),
        tmp_path,
    )
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


def another_picture_of_the_same_size(folder: Path) -> None:
    path = next(path for path in sorted((folder / "data" / "images").iterdir()) if path.name in rows_of(folder))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def another_weight(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(raw)


def another_config(folder: Path) -> None:
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"initializer_range": 0.5}))


def another_reward(folder: Path) -> None:
    (folder / "mine.py").write_text(REWARD.format(length=10))


def another_helper(folder: Path) -> None:
    (folder / "counts.py").write_text("LENGTH = 10\n")


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
        (None, "--optim sgd --optim_args momentum=0.5", "--optim_args: None in the checkpoint"),
        (None, "--attn_implementation eager", "--attn_implementation: None in the checkpoint"),
        (
            None,
            "--use_bias_correction_kl false --beta 0.1",
            "--use_bias_correction_kl: True in the checkpoint, False in",
        ),
        (None, "--use_peft true --use_rslora true", "--use_rslora: False in the checkpoint, True in this run"),
        (None, '--lr_scheduler_kwargs {"num_cycles":2}', "--lr_scheduler_kwargs: "),
        (None, "--off_policy_mask_threshold 0.5", "--off_policy_mask_threshold: None in the checkpoint, 0.5 in"),
        (None, "--use_adaptive_entropy true --entropy_target 0.3", "--entropy_target: "),
        (another_reward, "", r"sha256 of .*mine\.py: "),
        (another_helper, "", r"sha256 of .*counts\.py: "),
        (another_config, "", r"sha256 of config\.json of the model: "),
        (another_picture_of_the_same_size, "", "sha256 of sampled pictures: "),
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


CHANGES = {
    "data": another_question,
    "images": another_picture_of_the_same_size,
    "rewards": another_helper,
    "processor": another_template,
    "model": another_weight,
}
ADAPTED = "--use_peft true"


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_file_is_allowed_by_its_kind_and_recorded(run, kind, caplog):
    facts, flags = run.facts(*ADAPTED.split()), ADAPTED.split()
    folder = make_checkpoint(run.folder / "out" / "checkpoint-7", PLAIN, facts=facts, changes=["after step 3: before"])
    (folder / "trainer_state.json").write_text('{"global_step": 7}')
    write_manifest(folder)
    CHANGES[kind](run.folder)
    flags += ["--resume_from_checkpoint", str(folder)]
    allow = f"set them back; --resume_changed {kind} allows them, or start a new run"
    with pytest.raises(UsageError, match=allow):
        run.plan(*flags)
    with pytest.raises(UsageError, match=allow):
        run.plan(*flags, "--resume_changed", ",".join(set(CHANGES) - {kind}))
    resume = run.plan(*flags, "--resume_changed", f"deepspeed,{kind}")
    first, *news = resume.changes
    assert first == "after step 3: before" and news and all(line.startswith("after step 7: ") for line in news)
    assert resume.facts == run.facts(*ADAPTED.split()) != facts  # what the next checkpoints hold
    assert resume.new_prompts == (kind in ("data", "images", "processor"))
    assert f"--resume_changed {kind}: {folder}: " in caplog.text


def test_two_kinds_are_proposed_together_and_flags_are_not_allowed(run):
    folder = make_checkpoint(run.folder / "out" / "checkpoint-1", PLAIN, facts=run.facts())
    another_reward(run.folder)
    another_question(run.folder)
    flags = ["--resume_from_checkpoint", str(folder)]
    with pytest.raises(UsageError, match="--resume_changed data,rewards allows them"):
        run.plan(*flags)
    assert len(run.plan(*flags, "--resume_changed", "data,rewards").changes) == 2
    with pytest.raises(UsageError, match="data,rewards allows changed files, but no changed flags"):
        run.plan(*flags, "--resume_changed", "data,rewards", "--seed", "5")
    with pytest.raises(UsageError, match="set them back, or start a new run"):
        run.plan("--resume_from_checkpoint", str(make_checkpoint(folder, PLAIN, facts=run.facts())), "--seed", "5")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--resume_changed reward --resume_from_checkpoint auto",
            "got 'reward', expected some of data, .*mean 'rewards'",
        ),
        ("--resume_changed data,pictures --resume_from_checkpoint auto", "got 'pictures', expected some of"),
        ("--resume_changed data", "--resume_changed: acts only with --resume_from_checkpoint"),
        ("--resume_changed data --resume_from_checkpoint false", "acts only with --resume_from_checkpoint"),
    ],
)
def test_kinds_that_cannot_act_are_refused(run, flags, words):
    with pytest.raises(SystemExit, match=words):
        run(*flags.split())


def test_each_fact_of_a_run_is_a_flag_or_of_a_kind(run):
    known = {"ranks", "ZeRO stage"}
    facts = run.facts("--use_peft", "true")
    assert {name for name in facts if kind_of(name) is None and not name.startswith("--")} == known
    assert {kind_of(name) for name in facts} == {None, *KINDS} - {"deepspeed"}
    assert changed_kinds(None) == changed_kinds("") == frozenset() and changed_kinds(",".join(KINDS)) == set(KINDS)
    assert kind_of("--deepspeed zero_optimization.stage") == "deepspeed"


@pytest.mark.parametrize("flags", ["", "--use_peft true", "--beta 0.04"])
def test_weights_of_the_model_are_compared_where_a_resumed_run_reads_them(run, flags):
    """As the base of an adapter, or as the reference; else the checkpoint has all weights."""
    before = run.facts(*flags.split())
    another_weight(run.folder)
    said = [difference.text for difference in resume_differences(before, run.facts(*flags.split()))]
    assert [text.split(":")[0] for text in said] == ["sha256 of sampled weights of the model"] * bool(flags)


def test_the_base_of_an_adapter_is_compared_too(run, tmp_path):
    base, adapter = run.folder / "model", tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": str(base), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / "adapter_model.safetensors").write_bytes(b"x" * 100)
    flags = ["--model_name_or_path", str(adapter), "--use_peft", "true"]
    before = run.facts(*flags)
    another_weight(run.folder)
    (said,) = resume_differences(before, run.facts(*flags))
    assert said.kind == "model" and said.text.startswith("sha256 of sampled weights of the base model: ")


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"ranks": 2}, "ranks: 2 in the checkpoint, 1 in this run"),
        ({"ZeRO stage": 3}, "ZeRO stage: 3 in the checkpoint, None in this run"),
        ({"ranks": 2, "ZeRO stage": 2}, "ranks: 2 in the checkpoint, 1 in this run\n  ZeRO stage: 2 in"),
    ],
)
def test_other_ranks_and_stages_are_refused(run, saved, words):
    folder = make_checkpoint(run.folder / "out" / "checkpoint-1", PLAIN, facts=run.facts() | saved)
    with pytest.raises(SystemExit, match=rf"{words}.*\nset them back, or start a new run"):
        run("--resume_from_checkpoint", str(folder))


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
    (said,) = resume_differences(first, run.facts())
    assert said.text == "$JUDGE_MODEL: None in the checkpoint, 'another' in this run" and said.kind == "rewards"


@pytest.mark.parametrize("rewards", [["accuracy"], ["format"]])
def test_a_judge_that_rows_name_is_recorded_and_compared(run, monkeypatch, rewards):
    path = run.folder / "data" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"accu_reward_method": "llm"}) + "\n" for row in rows))
    with serving(lambda request, served: verdict(request, True)) as server, serving(server.script) as other:
        for name, value in {**server.environment(), "JUDGE_MODEL": "m"}.items():
            monkeypatch.setenv(name, value)
        flags = ["--reward_funcs", *rewards]
        saved = run.facts(*flags)
        folder = make_checkpoint(run.folder / "out" / "checkpoint-1", PLAIN, facts=saved)
        monkeypatch.setenv("OPENAI_BASE_URL", other.url.replace("http://", "http://me:pass@"))
        monkeypatch.setenv("JUDGE_GROUP", "true")
        if rewards == ["format"]:  # nothing asks it
            assert not any("JUDGE" in name for name in saved)
            with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
                run("--resume_from_checkpoint", str(folder), *flags)
            return
        with pytest.raises(SystemExit) as stopped:
            run("--resume_from_checkpoint", str(folder), *flags)
    said = str(stopped.value)
    assert f"$OPENAI_BASE_URL: {server.url!r} in the checkpoint, {other.url!r} in this run" in said
    assert "$JUDGE_GROUP: None in the checkpoint, 'true' in this run" in said
    assert "--resume_changed rewards allows them" in said and "pass" not in said


def test_a_setting_of_deepspeeds_file_is_compared_by_its_name(tmp_path):
    config = tmp_path / "zero.json"
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": true}}')
    before = deepspeed_facts(str(config))
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": false}}')
    name = "--deepspeed zero_optimization.overlap_comm"
    assert texts(before, deepspeed_facts(str(config))) == [DIFFERENCE.format(name, True, False)]
    config.write_text('{"zero_optimization": {"stage": 2, "overlap_comm": true}, "gradient_clipping": 0.1}')
    name = "--deepspeed gradient_clipping"
    assert texts(before, deepspeed_facts(str(config))) == [DIFFERENCE.format(name, None, 0.1)]
    assert texts(deepspeed_facts(str(config)), before) == [DIFFERENCE.format(name, 0.1, None)]


def texts(saved: dict, current: dict) -> list[str]:
    return [difference.text for difference in resume_differences(saved, current)]


def test_facts_that_an_older_version_did_not_save_are_not_compared():
    current = {"--seed": 1, "sha256 of the processor's tokenizer.json": "a", "--deepspeed zero_optimization.stage": 3}
    assert resume_differences({"--seed": 1, "--gone": 2}, current) == []


# --------------------------------------------------------------------------------------------------------------- files


def test_the_files_of_a_reward_are_those_that_it_imports_from_its_folder(tmp_path):
    files = {
        "mine.py": "import json, a\nfrom b.c import f\nfrom b import d\nif True:\n    from . import e\nimport a.b\n",
        "a.py": "import mine, torch",  # a circle
        "b/__init__.py": "",
        "b/c.py": "from b.g import *",
        "b/d.py": "",
        "e.py": "",
        "unused.py": "",
        "json/other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {str(path.relative_to(tmp_path)) for path in imported_files(tmp_path / "mine.py")}
    assert found == {"mine.py", "a.py", "b/__init__.py", "b/c.py", "b/d.py", "e.py"}


def large_model(folder: Path, **changed: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    tensors = {f"layer.{number}": torch.full((1024, 1024), float(number)) for number in range(20)}
    save_file(tensors | {"bias": torch.zeros(8)} | changed, folder / "model.safetensors")
    return folder


def test_of_large_weights_each_tensor_is_sampled(tmp_path):
    before, path = weights_hash(large_model(tmp_path)), tmp_path / "model.safetensors"
    places = sampled_places(path)
    assert len(places) == 22 and sum(length for _, length in places) < 20_000 < path.stat().st_size
    assert weights_hash(large_model(tmp_path)) == before
    for name in ("layer.0", "layer.13", "bias"):
        shape = (8,) if name == "bias" else (1024, 1024)
        assert weights_hash(large_model(tmp_path, **{name: torch.full(shape, 0.5)})) != before
    assert weights_hash(large_model(tmp_path, other=torch.zeros(1))) != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_small_weights_are_hashed_whole(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(1000))
    before = weights_hash(tmp_path)
    (tmp_path / name).write_bytes(bytes(999) + b"1")
    assert weights_hash(tmp_path) != before
