"""The commands that other commands end with: they parse, name the rows that they should, and repeat the settings."""

import argparse
import dataclasses
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.repository import REPO

from open_r1.evaluation.cli import parser_of, stopped_text
from open_r1.evaluation.endings import OF_PLACES, end_of_evaluation, next_evaluations, same_flags
from open_r1.evaluation.setting_differences import OF_THE_MODEL
from open_r1.evaluation.settings import OF_SURVEYS, WITHOUT_EFFECT, EvaluationSettings, settings_of
from open_r1.report.next_steps import (
    HELD_OUT_STEMS,
    command_text,
    end_of_training,
    ending,
    flags_of_run,
    next_evaluation,
    script_path,
)
from open_r1.tasks.recipe import Recipe
from open_r1.trainer.checkpointing.select import Resume
from open_r1.trainer.outputs.endings import health_of, resuming_command, say_beginning

ROWS = "d/a.jsonl:e/b.jsonl"


def parsed(text: str) -> argparse.Namespace:
    """The flags of a pasted command of `eval/evaluate.py`."""
    python, script, *words = shlex.split(text)
    assert python == "python" and Path(script).is_file()
    return parser_of(None).parse_args(words)


def files(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [str(folder / name) for name in names]


# ---------------------------------------------------------------------------------------------- after training


@pytest.mark.parametrize("stem", HELD_OUT_STEMS)
def test_held_out_rows_beside_the_training_rows_are_evaluated(tmp_path, stem):
    train, held_out = files(tmp_path, "train.jsonl", f"{stem}.jsonl")
    args = parsed(next_evaluation("m", "out", {"data_file_paths": train, "image_folders": str(tmp_path)}))
    assert (args.data_file_paths, args.image_folders, args.model) == (held_out, str(tmp_path), "m")
    assert args.output_dir == Path("out") and args.task is None  # the checkpoint's recipe has it


def test_a_model_trained_with_tools_is_evaluated_with_them():
    flags = {"data_file_paths": "a.jsonl", "tools": ["zoom", "t.py:look"], "max_tool_turns": 2, "tool_memory_gb": 8.0}
    args = parsed(next_evaluation("m", "out", flags))
    assert (args.tools, args.max_tool_turns, args.tool_memory_gb) == (["zoom", "t.py:look"], 2, 8.0)
    assert parsed(next_evaluation("m", "out", {**flags, "tools": None})).max_tool_turns == 4


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("a/train.jsonl", "b/train.jsonl", "a/val.jsonl", "b/test.jsonl"), ("a/val.jsonl", "b/test.jsonl")),
        (("a/train.jsonl", "b/train.jsonl", "a/val.jsonl"), ("a/train.jsonl", "b/train.jsonl")),
        (("a/x.jsonl", "a/y.jsonl", "a/val.jsonl"), ("a/x.jsonl", "a/y.jsonl")),  # one file for two
        (("a/train.jsonl", "a/val.json"), ("a/train.jsonl",)),
        (("a/val.jsonl",), ("a/val.jsonl",)),
        (("a b/it's.jsonl",), ("a b/it's.jsonl",)),
    ],
)
def test_each_training_file_has_its_own_rows_or_all_are_the_training_rows(tmp_path, present, expected):
    files(tmp_path, *present)
    training = [name for name in present if Path(name).stem not in HELD_OUT_STEMS or len(present) == 1]
    training = [name for name in training if name.endswith("l")]
    flags = {"data_file_paths": ":".join(str(tmp_path / name) for name in training), "image_folders": "i"}
    args = parsed(next_evaluation("m", "out", flags))
    assert args.data_file_paths.split(":") == [str(tmp_path / name) for name in expected]


def test_a_colon_in_a_name_and_methods_of_each_file_survive(tmp_path):
    (path,) = files(tmp_path, "a:b.jsonl")
    flags = {"data_file_paths": path.replace(":", "\\:"), "image_folders": None, "reward_method": "mcq"}
    assert parsed(next_evaluation("m", "out", flags)).data_file_paths == path.replace(":", "\\:")
    assert parsed(next_evaluation("m", "out", {**flags, "fields": "problem=q"})).fields == "problem=q"
    two = {"data_file_paths": ROWS, "reward_method": "mcq:math", "trust_remote_code": True}
    args = parsed(next_evaluation("my model", "out", two))
    assert args.reward_method == "mcq:math" and args.trust_remote_code and args.model == "my model"
    assert parsed(next_evaluation("m", "out", {**two, "reward_method": "mcq"})).reward_method is None


@pytest.mark.parametrize("flags", [{}, {"data_file_paths": None}, {"dataset_name": "a/b"}])
def test_where_the_rows_are_no_files_the_demo_is_next(flags):
    assert next_evaluation("m", "out", flags) == f"python {script_path('eval/demo.py')} --model m"


@pytest.mark.parametrize(
    ("peft", "lines"), [(False, ["model", "report", "next"]), (True, ["model", "report", "next", "merge"])]
)
def test_a_run_ends_by_naming_model_report_and_what_comes_next(tmp_path, peft, lines):
    text = end_of_training(tmp_path, "Trained 2 of 2 steps", ["Well."], {"data_file_paths": ROWS, "use_peft": peft})
    title, *rest = text.splitlines()
    assert title == "Trained 2 of 2 steps. Well." and [line.split()[0] for line in rest] == lines
    assert f"python -m open_r1.report {tmp_path}" in text  # the page could not be written
    (tmp_path / "report.html").touch()
    assert f"  report  {tmp_path}/report.html" in end_of_training(tmp_path, "", [], {"data_file_paths": ROWS})


def test_the_flags_of_a_run_are_those_of_its_configuration(tmp_path):
    assert flags_of_run(tmp_path / "checkpoint") == {}
    (tmp_path / "resolved_config.yaml").write_text("task: {data_file_paths: a.jsonl}\nmodel: {use_peft: true}\n")
    assert flags_of_run(tmp_path / "checkpoint") == {"data_file_paths": "a.jsonl", "use_peft": True}


def test_secrets_are_no_part_of_a_command():
    assert "hf_secret" not in command_text(
        "eval/demo.py", {"model": "https://me:hf_secret@host/x", "token": "hf_secret"}
    )
    assert "hf_secret" not in resuming_command(["x.py", "--hub_token", "hf_secret"], Path("c"))


@pytest.mark.parametrize("given", [["--resume_from_checkpoint", "auto"], ["--resume_from_checkpoint=old"], []])
def test_an_interrupted_run_is_continued_by_its_own_command(given):
    words = shlex.split(resuming_command(["src/x.py", "--a", "b c", *given, "--d"], Path("out/checkpoint-7")))
    assert words == ["python", "src/x.py", "--a", "b c", "--d", "--resume_from_checkpoint", "out/checkpoint-7"]


@pytest.mark.parametrize("choice", ["true", "auto", "named"])
def test_a_resumed_run_names_its_checkpoint_and_step(tmp_path, capsys, choice):
    folder = tmp_path / "checkpoint-12"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 12}')
    say_beginning(run_of(tmp_path, choice), Resume(folder, {}))
    assert capsys.readouterr().err == f"\nResuming from {folder}, after step 12\n"


@pytest.mark.parametrize(("choice", "said"), [("auto", "so this is a new run"), (None, ""), ("false", "")])
def test_a_new_run_says_so_where_it_might_have_been_a_resumed_one(tmp_path, capsys, choice, said):
    say_beginning(run_of(tmp_path, choice), Resume(None, {}))
    error = capsys.readouterr().err
    assert said in error and bool(error) == bool(said)


def test_ranks_beside_the_first_say_nothing(tmp_path, capsys):
    say_beginning(run_of(tmp_path, "auto", is_main=False), Resume(None, {}))
    assert capsys.readouterr().err == ""


def run_of(folder: Path, choice: str | None, is_main: bool = True) -> Any:
    args = SimpleNamespace(resume_from_checkpoint=choice, output_dir=str(folder))
    return SimpleNamespace(args=args, accelerator=SimpleNamespace(is_main_process=is_main))


def test_the_health_of_a_run_is_said_with_the_names_of_its_findings(tmp_path):
    assert health_of(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "reward": 0.0}}\n' for n in range(1, 5)))
    assert health_of(tmp_path) == [
        "Findings, which the report explains: nothing_earned.",
        "4 logged steps are too few to judge the rest: most checks need 10.",
    ]


# --------------------------------------------------------------------------------------------- after an evaluation

OTHER = {  # field -> another value than by default
    "prompt_mode": "direct",
    "max_completion_length": 7,
    "prompt_template": "Look well. {question} Answer in <answer> tags.",
    "fields": "problem=question",
    "box_space": "relative_1",
    "num_samples": 3,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "seed": 4,
    "max_pixels": 90_000,
    "min_pixels": 400,
    "max_anyres_num": 3,
    "video_fps": 4.0,
    "video_max_frames": 8,
    "video_max_pixels": 50_176,
    "video_form": "frames",
    "backend": "vllm",
    "dtype": "float32",
    "attn_implementation": "eager",
    "trust_remote_code": True,
    "limit": 9,
    "view": "shuffled_frames",
    "tasks": ["rec", "digits"],
    "methods": ["iou", "digits"],
    "data_file_paths": ["a:x.jsonl", "b.jsonl"],
    "image_folders": "i:j",
    "tools": ["zoom", "my tools.py:look"],
    "environment": "my games.py:Box",
    "max_tool_turns": 2,
    "max_tool_images": 3,
    "max_tool_pixels": 9000,
    "tool_seconds": 5.0,
    "tool_memory_gb": 8.0,
}
FIELDS = [field.name for field in dataclasses.fields(EvaluationSettings)]


def test_each_setting_of_an_evaluation_is_repeated_or_has_no_effect():
    assert set(FIELDS) == OTHER.keys() | OF_PLACES | OF_SURVEYS | (WITHOUT_EFFECT & set(FIELDS))


@pytest.mark.parametrize("name", OTHER)
def test_the_flags_that_repeat_an_evaluation_give_its_settings(name, tiny):
    """Through the parser, as if pasted."""
    settings = {"tasks": ["digits"], "methods": ["digits"], "data_file_paths": ["a.jsonl"], "temperature": 0.0}
    settings |= {"prompt_mode": "think", "max_completion_length": 2048}
    if name in ("tasks", "methods", "data_file_paths"):
        settings |= {each: OTHER[each] for each in ("tasks", "methods", "data_file_paths")}
    if name == "num_samples":
        settings["temperature"] = 1.0
    folders = OTHER[name] if name == "image_folders" else None
    settings[name] = OTHER[name]
    if name.startswith(("tool_", "max_tool_")):
        settings["tools"] = OTHER["tools"]
    text = command_text("eval/evaluate.py", {"model": tiny, **same_flags(settings, folders), "output_dir": "out"})
    again = settings_of(parsed(text))
    assert {key: getattr(again, key) for key in settings} == settings


def test_a_trained_models_evaluation_is_followed_by_that_of_its_base_and_the_comparison(tmp_path, capsys):
    Recipe("rec", "think", "iou", 77, base_model="Qwen/base").save(tmp_path)
    args = SimpleNamespace(model=str(tmp_path), image_folders="i", output_dir=Path("run/eval"), from_predictions=None)
    settings = {"tasks": ["rec"], "methods": ["iou"], "prompt_mode": "think", "max_completion_length": 77}
    settings |= {"data_file_paths": ["v.jsonl"], "temperature": 0.0, "max_pixels": 90_000}
    lines = dict(line.split(None, 1) for line in end_of_evaluation(args, {"settings": settings}).splitlines())
    base = parsed(lines["next"])
    assert (base.model, base.max_completion_length, base.output_dir) == ("Qwen/base", 77, Path("run/eval-before"))
    assert lines["then"].endswith("eval/compare.py run/eval-before run/eval") and lines["model"] == str(tmp_path)
    assert lines["figures"] == "run/eval/summary.json"


def test_another_models_evaluation_is_followed_by_a_look_at_its_answers(tiny):
    args = SimpleNamespace(model=tiny, image_folders=None, output_dir=Path("e"), from_predictions=None)
    settings = {"tasks": ["rec"], "methods": ["iou"], "prompt_mode": "think", "max_completion_length": 77}
    text = end_of_evaluation(args, {"settings": settings | {"data_file_paths": ["v.jsonl"]}})
    assert "eval/infer.py --model" in text and "--task rec" in text and "compare" not in text
    places = ("data_file_paths", "image_folders")
    asked = {name: value for name, value in OTHER.items() if name not in ("tasks", "methods", *places)}
    text = next_evaluations(args, settings | asked | {"data_file_paths": ["v.jsonl"]}, Path("e"))["next"]
    look = vars(runpy.run_path(str(REPO / "eval" / "infer.py"))["options"]().parse_args(shlex.split(text)[2:]))
    shared = look.keys() & asked.keys() - OF_PLACES - {"limit"}
    assert {"tools", "tool_memory_gb", "temperature", "fields", "max_pixels"} <= shared
    assert {name: look[name] for name in shared} == {name: asked[name] for name in shared}


def test_scored_completions_end_with_their_figures(tmp_path):
    args = SimpleNamespace(model=None, output_dir=None, from_predictions=tmp_path / "saved.jsonl")
    assert end_of_evaluation(args, {"settings": {}}) == f"  figures  {tmp_path}/summary.json"


def test_an_evaluation_that_was_stopped_says_how_it_goes_on(tmp_path):
    assert stopped_text(tmp_path) == stopped_text(None) == "\nStopped: the same command goes on where it stopped\n"
    files(tmp_path, "predictions.jsonl")
    assert f"the answers so far are in {tmp_path}/predictions.jsonl" in stopped_text(tmp_path)


def test_scripts_are_named_as_the_working_folder_needs_it(tmp_path, monkeypatch, repo):
    monkeypatch.chdir(repo)
    assert script_path("eval/demo.py") == "eval/demo.py"
    monkeypatch.chdir(tmp_path)
    assert script_path("eval/demo.py") == str(repo / "eval/demo.py")
    assert ending("", {}) == ""


def test_settings_of_the_model_are_no_flags_but_its_code_and_its_box_space():
    assert OF_THE_MODEL & set(FIELDS) == {"model", "trust_remote_code", "box_space"}
