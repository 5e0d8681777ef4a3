"""A model that is neither a folder nor a name of the hub is refused at once, with the nearest folder's name."""

import time
from pathlib import Path

import pytest
from helpers.repository import REPO

from open_r1 import check, grpo, grpo_jsonl, sft_jsonl
from open_r1.data.model_place import nearest_folder, refuse_no_model
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of
from open_r1.evaluation.settings import settings_of
from open_r1.models.configuration import read_config
from open_r1.models.loading import read_processor
from open_r1.plan.cli import main as plan
from open_r1.tasks.recipe import read_recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run of two checkpoints, its final model, an adapter and an empty folder."""
    for name in ("checkpoint-3", "checkpoint-300", "checkpoint"):
        (tmp_path / "output" / "my-run" / name).mkdir(parents=True)
        (tmp_path / "output" / "my-run" / name / "config.json").write_text("{}")
    (tmp_path / "output" / "lora" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "output" / "lora" / "checkpoint-5" / "adapter_config.json").write_text("{}")
    (tmp_path / "models" / "empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("output/my-rum/checkpoint-300", "which is no folder, expected a model's folder, or a name of the hub "
         "(org/name); did you mean output/my-run/checkpoint-300?"),
        ("output/my-run/checkpoint-30", "did you mean output/my-run/checkpoint-300?"),
        ("./output/my_run/checkpoint", "did you mean output/my-run/checkpoint?"),
        ("Output/My-Run/Checkpoint", "did you mean output/my-run/checkpoint?"),
        ("output/my-runs", "did you mean output/my-run? For the hub's model of that name: hf download output/my-runs"),
        ("outputs/my-run", "did you mean output/my-run?"),
        ("outputt", "did you mean output?"),
        ("output/my-run", "a folder that holds checkpoints (3 models lie there), expected one; write "
         "output/my-run/checkpoint"),
        ("output/my-run/", "write output/my-run/checkpoint"),
        ("output/lora", "a folder that holds checkpoints, expected one; write output/lora/checkpoint-5"),
        ("models/empty", "a folder without config.json, expected a model's; correct the path, or download"),
        ("output/my-run/checkpoint/config.json", "a file, expected the folder that holds it; write output/my"),
        ("output/other-thing/checkpoint-1", "output/other-thing is not there; correct the path"),
        ("/nowhere/at/all", "/nowhere is not there; correct the path"),
        ("~/nothing", "is not there; correct the path"),
        ("~/output", "where ~ stays as it is; write "),
        ("..\\models\\x", "did you mean models?"),
        ("org/name/more", "org is not there; correct the path"),
        ("org/", "org is not there; correct the path"),
        ("some-org/some-model", "not in the hub's cache, and HF_HUB_OFFLINE forbids asking the hub; correct the path, "
         "or unset HF_HUB_OFFLINE and run hf download some-org/some-model"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_named_with_a_remedy(here, offline, name, message):
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        refuse_no_model(name, "--model")
    assert str(error.value).startswith(f"--model: got {name.rstrip('/')}") and message in str(error.value)
    assert time.monotonic() - start < 20  # at once, and nothing is asked for minutes


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", ["output/my-run/checkpoint", "./output/lora/checkpoint-5"])
def test_folders_of_models_and_adapters_are_taken(here, name):
    refuse_no_model(name)


def test_a_model_in_the_hubs_cache_is_taken_though_a_folder_is_near(here, offline, monkeypatch):
    monkeypatch.setattr("open_r1.data.model_place.is_cached", lambda name, revision: True)
    refuse_no_model("output/my-runs")


def test_a_folder_that_may_not_be_read_has_no_near_names(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", lambda self: (_ for _ in ()).throw(PermissionError()))
    assert nearest_folder(tmp_path / "x") is None


NEAR = "assets/tiny-vln, which is no folder, expected a model's folder, or a name of the hub (org/name); did you mean "
NEAR += "assets/tiny-vlm?"


@pytest.mark.parametrize("main", [grpo_jsonl.main, sft_jsonl.main, grpo.main], ids=["grpo_jsonl", "sft", "grpo"])
def test_training_refuses_it_before_the_data_is_read(main, offline, monkeypatch, tmp_path):
    monkeypatch.chdir(REPO)
    data = ["--dataset_name", "none"] if main is grpo.main else ["--data_file_paths", "none.jsonl"]
    flags = ["--model_name_or_path", "assets/tiny-vln", "--bf16", "false", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main([*flags, *data])
    assert str(stop.value).startswith(f"--model_name_or_path: got {NEAR}")


@pytest.mark.parametrize("door", [read_recipe, read_processor, read_config], ids=lambda door: door.__name__)
def test_every_way_to_a_model_refuses_it(door, offline, monkeypatch):
    monkeypatch.chdir(REPO)
    with pytest.raises(UsageError) as error:
        door("assets/tiny-vln")
    assert NEAR in str(error.value)


def test_the_doors_of_evaluation_plan_and_doctor_refuse_it(offline, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(REPO)
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"problem": "1+1?", "solution": "2"}\n')
    words = ["--model", "assets/tiny-vln", "--data_file_paths", str(rows), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(UsageError) as error:
        settings_of(parser_of("").parse_args(words))
    assert NEAR in str(error.value)
    for main, flags in ((plan, words[:2]), (check.main, words[:4])):
        with pytest.raises(SystemExit) as stop:
            sys_exit = main(flags)
            raise AssertionError(f"ended with {sys_exit}")
        assert stop.value.code == 2 or NEAR in str(stop.value.code)
        assert NEAR in capsys.readouterr().err + str(stop.value.code)
