"""A task in a user's file, and a prompt template by flag, through every door; what is wrong in them is a sentence."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers.repository import REPO, make_dataset, run_script

from open_r1 import check, score
from open_r1.config.parser import parse
from open_r1.config.task_arguments import HubArguments, JsonlArguments
from open_r1.errors import UsageError
from open_r1.evaluation.cli import parser_of
from open_r1.evaluation.settings import instructions, settings_of, task_of_files
from open_r1.rewards.custom import load_reward
from open_r1.sft_jsonl import parse_sft
from open_r1.tasks.find import find_task, read_template
from open_r1.tasks.recipe import Recipe, read_recipe
from open_r1.tasks.registry import TASKS
from open_r1.trainer.checkpointing.file_facts import reward_facts
from open_r1.trainer.checkpointing.identity import shaping_flags

HEAD = "from open_r1.tasks.task import Task\n"
GOOD = HEAD + 'TASK = Task(name="mine", method="math", rewards=("accuracy",), weights=(2.0,))\n'
NEEDED = ["--model_name_or_path", "m", "--bf16", "false", "--use_cpu", "true"]


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    path = tmp_path / "task.py"
    path.write_text(GOOD)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"problem": f"{i} + 1?", "solution": str(i + 1)}) + "\n" for i in range(9)))
    return path


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n", "got no TASK in .*, expected a Task of open_r1.tasks.task; write TASK = Task"),
        (HEAD + 'MINE = Task(name="a", method="math")\n', "got no TASK in .*; it has MINE"),
        ("TASK = {}\n", "got TASK, a dict in .*, expected a Task"),
        ("raise RuntimeError('no')\n", "cannot be imported: RuntimeError: no; mend the file"),
        ("import nothing_like_this\n", "cannot be imported: ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("TASK = (\n", "cannot be imported: SyntaxError"),
        ("import sys; sys.exit(0)\n", "cannot be imported: SystemExit: 0"),
        (GOOD.replace('"math"', '"mth"'), "method: got 'mth', expected one of .*; did you mean 'math'"),
        (GOOD.replace('("accuracy",)', '("acuracy",)'), "rewards: reward: got 'acuracy', .*did you mean 'accuracy'"),
        (GOOD.replace('("accuracy",)', '("none.py:f",)'), "rewards: reward file: got none.py, expected a Python file"),
        (GOOD.replace('("accuracy",)', '"accuracy"'), "rewards: got 'accuracy', expected a tuple such as "),
        (GOOD.replace("(2.0,)", "(2.0, 1.0)"), r"weights: got 2, expected one for each of \('accuracy',\)"),
        (GOOD.replace("(2.0,)", "2.0"), r"weights: got 2.0, expected a tuple such as \(1.0,\)"),
        (GOOD.replace("weights", 'prompts={"think": "{question}"}, weights'), "prompts: got .*, expected texts for"),
        (GOOD.replace("weights", 'prompts={"think": "{question}", "direct": "Why?"}, weights'),
         r"prompts\['direct'\]: got 'Why\?', without {question}, expected it once"),
        (GOOD.replace("weights", 'is_right=3, weights'), "is_right: got 3, expected a function"),
    ],
)  # fmt: skip
def test_a_file_that_declares_no_usable_task_is_a_sentence(tmp_path, capsys, code, message):
    path = tmp_path / "task.py"
    path.write_text(code)
    with pytest.raises(UsageError, match=message):
        find_task(f"{path}:TASK")
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, "--data_file_paths", "a.jsonl", "--task_type", f"{path}:TASK"])
    assert stop.value.code == 2 and re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digit",
            "--task(_type)?: got 'digit', expected one of area, .*, or path/to/task.py:TASK; did you mean 'digits'",
        ),
        ("none.py:TASK", "task none.py:TASK: got none.py, expected a Python file; correct the path"),
        ("none.py", "write none.py:TASK, the task's name in the file"),
    ],
)
def test_an_unknown_task_is_a_sentence_through_every_door(name, message, rows, capsys, tmp_path):
    doors = {
        "grpo": lambda: parse(JsonlArguments, [*NEEDED, "--data_file_paths", str(rows), "--task_type", name]),
        "hub": lambda: parse(HubArguments, [*NEEDED, "--dataset_name", "d", "--task_type", name]),
        "sft": lambda: parse_sft([*NEEDED, "--data_file_paths", str(rows), "--task_type", name]),
        "check": lambda: check.main(["--data_file_paths", str(rows), "--task_type", name]),
        "score": lambda: score.main(["--rows", str(rows), "--out", str(tmp_path / "o.jsonl"), "--task", name]),
    }
    for door, call in doors.items():
        with pytest.raises(SystemExit) as stop:
            call()
        assert stop.value.code == 2 and re.search(message, capsys.readouterr().err), door
    with pytest.raises(UsageError, match=message):
        evaluation(["--task", name], rows, tmp_path)


def evaluation(flags: list[str], rows: Path, folder: Path, model: str = "assets/tiny-vlm"):
    words = ["--model", model, "--data_file_paths", str(rows), "--output_dir", str(folder / "out"), *flags]
    return settings_of(parser_of("").parse_args(words))


def test_a_task_of_a_file_is_found_again_by_the_name_that_it_gets(task_file):
    task = find_task(f"{task_file}:TASK")
    assert task.name == f"{task_file}:TASK" and find_task(task.name) == task and task.method == "math"


@pytest.mark.slow
def test_training_and_the_doctor_take_it(task_file, rows, capsys):
    name = f"{task_file}:TASK"
    data, _, _ = parse(JsonlArguments, [*NEEDED, "--data_file_paths", str(rows), "--task_type", name])
    assert data.task_type == name and list(reward_facts((name, "accuracy"))) == [f"sha256 of {task_file}"]
    assert parse_sft([*NEEDED, "--data_file_paths", str(rows), "--task_type", name])[0].task_type == name
    assert check.main(["--data_file_paths", str(rows), "--task_type", name]) == 0


def test_an_evaluation_runs_a_file_only_where_the_user_names_it(task_file, rows, tmp_path):
    name = f"{task_file}:TASK"
    model = tmp_path / "model"
    model.mkdir()
    Recipe(task_type=name, prompt_mode="think", prompt_template="{question} Be brief.").save(model)
    (model / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=f"a task in a file, which runs code; .*; add --task {name}"):
        evaluation([], rows, tmp_path, str(model))
    settings = evaluation(["--task", name], rows, tmp_path, str(model))
    assert settings.tasks == [name] and settings.methods == ["math"]
    assert instructions(settings) == {"think rows": "{question} Be brief."}
    two = evaluation(["--task", f"{name}:digits", "--data_file_paths", f"{rows}:{rows}x"], rows, tmp_path, str(model))
    assert two.tasks == [name, "digits"] and two.prompt_template is None  # --task asks for other prompts


def test_the_rewards_of_a_task_may_be_its_own(tmp_path):
    path = tmp_path / "task.py"
    own = GOOD.replace('("accuracy",)', '("accuracy", f"{__file__}:brief")').replace("(2.0,)", "(1.0, 0.5)")
    path.write_text("def brief(completion, record):\n    return float(len(completion) < 9)\n" + own)
    task = find_task(f"{path}:TASK")
    assert load_reward(task.rewards[1])("short", None) == 1.0
    data, _, _ = parse(
        JsonlArguments,
        [*NEEDED, "--data_file_paths", "a.jsonl", "--task_type", task.name, "--reward_seconds", "5"],
    )
    assert data.reward_seconds == 5.0  # acts on the task's own reward


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Answer.", "got 'Answer.', without {question}, expected it once"),
        ("{Question} Answer.", "without {question}, expected it once, where a row's question goes; such as"),
        ("{question} and {question}", "got {question} 2 times, expected it once"),
        ("", "got '', without {question}"),
        ("<image>{question}", "expected a text without <image>: pictures stand in the rows' questions"),
        ("@none.txt", r"got @none.txt, expected @ and a text file \(FileNotFoundError\); correct the path"),
        ("@src", r"got @src, expected @ and a text file \(IsADirectoryError\)"),
        ("@assets/tiny-vlm/model.safetensors", r"expected @ and a text file \(UnicodeDecodeError\)"),
    ],
)
def test_a_template_of_no_use_is_refused_through_every_door(text, message, rows, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        parse(JsonlArguments, [*NEEDED, "--data_file_paths", "a.jsonl", "--prompt_template", text])
    assert stop.value.code == 2 and re.search(message, capsys.readouterr().err)
    with pytest.raises(SystemExit) as stop:
        check.main(["--data_file_paths", str(rows), "--prompt_template", text])
    assert stop.value.code == 2 and re.search(message, capsys.readouterr().err)
    with pytest.raises(UsageError, match=message):
        evaluation(["--prompt_template", text], rows, tmp_path)


@pytest.mark.slow
def test_a_template_of_a_file_is_its_text_and_other_braces_stay(tmp_path, rows):
    (tmp_path / "prompt.txt").write_text('{question}\nAnswer as JSON: {"a": {x}}\n')
    template = '{question}\nAnswer as JSON: {"a": {x}}'
    given = f"@{tmp_path}/prompt.txt"
    assert read_template(given) == template
    data, _, _ = parse(JsonlArguments, [*NEEDED, "--data_file_paths", "a.jsonl", "--prompt_template", given])
    assert data.prompt_template == template and shaping_flags(data)["--prompt_template"] == template
    settings = evaluation(["--prompt_template", given, "--prompt_mode", "both"], rows, tmp_path)
    assert (
        set(instructions(settings).values()) == {template}
        and settings.answer_settings()["prompt_template"] == template
    )
    assert task_of_files(settings)[str(rows)].prompts["direct"] == template
    assert check.main(["--data_file_paths", str(rows), "--prompt_template", given]) == 0


def test_a_checkpoint_remembers_its_template(tmp_path):
    Recipe(task_type="digits", prompt_template="{question} Now.").save(tmp_path)
    assert read_recipe(str(tmp_path)).prompt_template == "{question} Now."
    Recipe(prompt_template="Now.").save(tmp_path)
    with pytest.raises(UsageError, match=r"prompt_template: got 'Now.', expected a text with {question} once"):
        read_recipe(str(tmp_path))


def test_every_built_in_task_would_pass_as_a_users(tmp_path):
    for name, task in TASKS.items():
        path = tmp_path / f"user_{name}.py"
        path.write_text(f"from open_r1.tasks.registry import TASKS\nTASK = TASKS[{name!r}]\n")
        assert find_task(f"{path}:TASK").prompts == task.prompts


@pytest.mark.slow
def test_the_file_of_the_page_works_as_it_stands(tmp_path, rows, monkeypatch):
    page = (REPO / "assets" / "docs" / "tasks.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "RECEIPTS" in block)
    (tmp_path / "my_task.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task = find_task("my_task.py:RECEIPTS")
    assert task.weights == (1.0, 0.5, 0.1) and load_reward(task.rewards[2])("x" * 201, None) == 0
    assert check.main(["--data_file_paths", str(rows), "--task_type", "my_task.py:RECEIPTS"]) == 0


@pytest.mark.slow
def test_a_users_task_is_made_trained_resumed_evaluated_and_named(tmp_path):
    """make_dataset, two GRPO steps, a third by resuming, evaluation; and a changed file is noticed."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\nfrom open_r1.tasks.registry import TASKS\n"
        "def brief(completion, record):\n    return float(len(completion) < 60)\n"
        'TASK = replace(TASKS["digits"], rewards=("accuracy", f"{__file__}:brief"))\n'
    )
    name, data, out = f"{file}:TASK", tmp_path / "data", tmp_path / "run"
    make_dataset(name, data, "--rows", 16, "--heldout_rows", 4)
    flags = f"--model_name_or_path assets/tiny-vlm --data_file_paths {data}/train.jsonl --image_folders {data} "
    flags += f"--output_dir {out} --num_generations 4 --per_device_train_batch_size 8 --max_completion_length 16 "
    flags += f"--use_cpu true --save_strategy steps --save_steps 1 --report_to none --task_type {name}"
    template = "{question} Say it in <answer> tags."
    run("src/open_r1/grpo_jsonl.py", *flags.split(), "--prompt_template", template, "--max_steps", 2)
    again = [*flags.split(), "--prompt_template", template, "--max_steps", 3, "--resume_from_checkpoint", "true"]
    run("src/open_r1/grpo_jsonl.py", *again)
    config = yaml.safe_load((out / "resolved_config.yaml").read_text())
    assert (config["task"]["task_type"], config["task"]["prompt_template"]) == (name, template)
    card = (out / "checkpoint" / "README.md").read_text()
    assert name in card and template in card and f"'{template}'" in card  # the command can be pasted
    assert name in (out / "report.html").read_text()
    words = f"--model {out}/checkpoint --task {name} --data_file_paths {data}/heldout.jsonl --image_folders {data}"
    run("eval/evaluate.py", *words.split(), "--output_dir", tmp_path / "eval", "--max_completion_length", 16)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["settings"]["tasks"] == [name] and summary["settings"]["prompt_template"] == template
    file.write_text(file.read_text().replace("< 60", "< 50"))
    said = run("src/open_r1/grpo_jsonl.py", *again, "--max_steps", 4, status=1)
    assert "mine.py" in said and "--resume_changed rewards" in said


def run(script: str, *words: object, status: int = 0) -> str:
    done = run_script(script, *words, check=False)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stderr
