"""learning_curves.py: every run is a command of the project, a finished run is not run again, figures are drawn."""

import json
import shlex
import sys

import learning_curves as curves
import learning_figures as figures
import pytest
from helpers.preloaded import python
from helpers.repository import REPO

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.sft_jsonl import parse_sft
from open_r1.tasks.registry import TASKS


@pytest.mark.parametrize("task", curves.EXPERIMENTS)
def test_runs_are_commands_that_the_scripts_take(task, tmp_path):
    for method in curves.EXPERIMENTS[task].methods:
        command = curves.training_command(task, method, 2, curves.Scale(), tmp_path / "data", tmp_path / "run")
        assert (REPO / command[1]).exists()
        data, training, model = {"grpo": lambda a: parse(JsonlArguments, a), "sft": parse_sft}[method](command[2:])
        assert data.task_type == task and training.seed == 2 and training.max_steps == 100
        assert (REPO / model.model_name_or_path / "config.json").exists()
        assert training.per_device_train_batch_size == 64  # completions: sampled ones, or gold ones


def test_every_experiment_has_the_splits_of_its_generator(tmp_path):
    for task, experiment in curves.EXPERIMENTS.items():
        assert set(experiment.splits) == set(TASKS[task].generator.splits) - {"train"}


def summary(accuracy: float) -> dict:
    return {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "n": 256}


def results(task: str, seeds: int) -> dict:
    splits = curves.EXPERIMENTS[task].splits
    runs = [
        {"method": method, "seed": seed, "reward": [0.1 * seed + step / 20 for step in range(20)],
         "after": {split: summary(0.8 + 0.01 * seed) for split in splits}}
        for method in curves.EXPERIMENTS[task].methods
        for seed in range(seeds)
    ]  # fmt: skip
    return {"task": task, "metric": "exact", "before": {split: summary(0.4) for split in splits}, "runs": runs}


@pytest.mark.parametrize("seeds", [1, 3])
def test_figures_are_drawn_from_whatever_is_there(tmp_path, seeds):
    from PIL import Image

    figures.draw_curves([results(task, seeds) for task in list(curves.EXPERIMENTS)[: 2 * seeds]], tmp_path / "a.png")
    figures.draw_methods([results(task, seeds) for task in ("rec", "counting")], tmp_path / "b.png")
    assert all(Image.open(tmp_path / name).width > 900 for name in ("a.png", "b.png"))


def test_accuracies_are_those_of_the_method_and_split():
    found = results("rec", 3)
    found["runs"][0]["after"]["ood"]["accuracy"] = 0.1
    assert figures.accuracies(found, "grpo", "ood") == pytest.approx([0.1, 0.81, 0.82])
    assert figures.accuracies(found, "sft", "ood") == pytest.approx([0.8, 0.81, 0.82])
    assert figures.accuracies(found, "before", "ood") == [0.4]


def test_the_published_results_are_complete():
    """What recipes.md shows: every task, GRPO with three seeds, and each run's accuracy above the start's interval."""
    for task, experiment in curves.EXPERIMENTS.items():
        found = json.loads((REPO / "assets/learning" / f"{task}.json").read_text())
        seeds = {method: {r["seed"] for r in found["runs"] if r["method"] == method} for method in experiment.methods}
        assert seeds["grpo"] >= {0, 1, 2} and all(seeds.values()), task
        for run in found["runs"]:
            assert shlex.split(run["command"])[1] == f"src/open_r1/{run['method']}_jsonl.py"
            if run["method"] == "grpo":
                assert len(run["reward"]) == run["steps"] and run["seconds"] < 600
                assert run["after"]["heldout"]["accuracy"] > found["before"]["heldout"]["high"], (task, run["seed"])


@pytest.mark.slow
def test_it_runs_and_does_not_repeat_what_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", python())
    flags = ["--smoke", "--tasks", "counting", "--seeds", "0", "--out", tmp_path / "out", "--work", tmp_path / "work"]
    monkeypatch.setattr(sys, "argv", ["learning_curves.py", *map(str, flags)])
    curves.main()
    said = capsys.readouterr().out
    assert "counting grpo seed 0" in said and "counting sft seed 0" in said
    found = json.loads((tmp_path / "out/counting.json").read_text())
    assert [(run["method"], run["steps"], len(run["after"])) for run in found["runs"]] == [
        ("grpo", 2, 2),
        ("sft", 2, 2),
    ]
    assert (tmp_path / "out/learning_curves.png").exists() and (tmp_path / "out/grpo_vs_sft.png").exists()
    curves.main()
    assert "seed" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out/counting.json").read_text()) == found
