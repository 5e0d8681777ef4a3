"""Every task: gold earns the maximum of each of its rewards on each generated row, garbage the minimum."""

from functools import partial
from pathlib import Path

import pytest
from helpers.cpu_time import cpu_seconds
from helpers.repository import make_dataset

from open_r1.check import main as doctor
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.rewards.custom import load_reward
from open_r1.rewards.gold import gold_completion
from open_r1.rewards.registry import METHODS
from open_r1.tasks.registry import TASKS

SYNTHETIC = [name for name, task in TASKS.items() if task.generator]
GARBAGE = (
    "",
    " \n",
    "lorem ipsum",
    "<think>no</think><answer></answer>",
    "<answer>\u0000\ud800</answer>",
    "<answer>NaN</answer>",
    "<think></think><answer>" + "[" * 2000 + "</answer>",
    "<answer>1e999 Infinity -1e999 {}</answer><answer>",
)


@pytest.fixture(scope="module", params=SYNTHETIC)
def dataset(request, tmp_path_factory) -> tuple[str, Path]:
    """(task, folder) of a small dataset with the generator's own defaults."""
    out = tmp_path_factory.mktemp(request.param)
    make_dataset(request.param, out, "--rows", 24, "--heldout_rows", 24)
    return request.param, out


def records(task: str, folder: Path) -> list[Record]:
    files = sorted(folder.glob("*.jsonl"))
    assert [path.stem for path in files] == sorted(TASKS[task].generator.splits)
    rows = load_records(":".join(map(str, files)), str(folder), reward_methods=TASKS[task].method)
    return [row.with_extra(prompt_mode="think", model_family="original") for row in rows]


def highest(task: str, reward: str) -> float:
    """The most that a reward of a task pays."""
    own = {"accuracy": METHODS[TASKS[task].method].maximum, "two_decimals": 0.5, "area_format": 0.5}
    return own.get(reward, 1.0)


def test_gold_earns_the_maximum_of_every_reward(dataset):
    task, folder = dataset
    for record in records(task, folder):
        gold = gold_completion(record, record.accu_reward_method)
        for name in TASKS[task].rewards:
            best = record.extra.get("ceiling", highest(task, name)) if name == "accuracy" else highest(task, name)
            assert load_reward(name)(gold, record) == pytest.approx(best, abs=1e-3), (name, record.where, gold)


def test_garbage_earns_the_minimum_of_every_reward(dataset):
    task, folder = dataset
    lowest = {"accuracy": METHODS[TASKS[task].method].minimum}
    for record in records(task, folder)[:8]:
        for text in GARBAGE:
            got = {name: load_reward(name)(text, record) for name in TASKS[task].rewards if "format" not in name}
            assert got == {name: lowest.get(name, 0.0) for name in got}, (record.where, text[:40])


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["9", "c ", "<chars>", "[[1,", '{"centre":[1,', '"coeffs":[1e9,', "<answer>", "(1,2),", "9,999."]
)
def test_100_kb_of_hostile_text_is_graded_in_100_ms(dataset, unit):
    task, folder = dataset
    record = records(task, folder)[0]
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    for completion in (text, f"<think>{text}</think><answer>{text}</answer>"):
        for name in TASKS[task].rewards:
            reward = load_reward(name)
            reward(completion[:10], record)  # compiled patterns are no part of it
            assert cpu_seconds(partial(reward, completion, record), 0.1) < 0.1, name


@pytest.mark.slow
def test_the_doctor_finds_nothing(dataset, capsys):
    task, folder = dataset
    files = ":".join(map(str, folder.glob("*.jsonl")))
    assert doctor(["--data_file_paths", files, "--image_folders", str(folder), "--task_type", task]) == 0
    assert "0 defects" in capsys.readouterr().out


def test_no_held_out_row_is_a_training_row(dataset):
    task, folder = dataset
    files = {path.stem: _media(folder, path.stem) for path in folder.glob("*.jsonl")}
    for name in set(files) - {"train"}:
        assert files["train"] and not files["train"] & files[name], (task, name)


def _media(folder: Path, split: str) -> set[bytes]:
    return {path.read_bytes() for kind in ("images", "videos") for path in (folder / kind).glob(f"{split}_*")}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_declares_what_exists(name):
    task = TASKS[name]
    assert task.name == name and task.method in METHODS and len(task.rewards) == len(task.weights)
    assert set(task.prompts) == {"think", "direct"}
    for mode, prompt in task.prompts.items():
        assert prompt.count("{question}") == 1 and "<answer>" in prompt, (name, mode)
    assert all(callable(load_reward(reward)) for reward in task.rewards)
