"""Train the embedded models by GRPO for each task and seed, evaluate them, and draw the learning curves.

    python local_scripts/dev/figures/learning_curves.py  # all tasks, seeds 0 1 2; about 30 minutes on 2 cores
    python local_scripts/dev/figures/learning_curves.py --tasks rec --seeds 0
    python local_scripts/dev/figures/learning_curves.py --smoke --out output/learning-smoke

For each task: a dataset of 2,000 rows, greedy accuracy of the start on 256 held-out rows (counting and rec: also on
256 rows of colour-shape pairs that training never shows), then for each seed a run of GRPO from the same start, and
the same evaluation after it. For counting and rec also SFT on gold answers from the same start: as many steps, and as
many gold completions a step as GRPO samples. Its learning rate is ten times GRPO's: with GRPO's it does not learn even
the form of the gold completions in as many steps. A seed moves the order of the rows and what is sampled; rows and
start are the same.

Results go to `OUT/TASK.json` after each run and a finished (task, method, seed) is not run again; figures are drawn
from all results there (`learning_figures.py`).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from learning_figures import draw_curves, draw_methods

from open_r1.evaluation import cli as script
from open_r1.report.curves import series
from open_r1.report.history import read_metrics
from open_r1.tasks.registry import TASKS

REPO = Path(__file__).resolve().parents[3]
GROUP = 8  # completions of a prompt
SFT_RATE = 10  # times GRPO's learning rate


@dataclass(frozen=True)
class Experiment:
    """A task at embedded scale: the start model, options of its generator, most tokens of a completion."""

    model: str
    options: tuple[str, ...] = ()  # of the generator
    tokens: int = 48
    ood: bool = False  # whether there is a split of unseen pairs, and a comparison with SFT

    @property
    def splits(self) -> tuple[str, ...]:
        return ("heldout", "ood") if self.ood else ("heldout",)

    @property
    def methods(self) -> tuple[str, ...]:
        return ("grpo", "sft") if self.ood else ("grpo",)


SHAPES = "assets/tiny-vlm-shapes"
EXPERIMENTS = {
    "rec": Experiment(SHAPES, ("--distractors", "0"), ood=True),
    "counting": Experiment(SHAPES, ood=True),
    "digits": Experiment("assets/tiny-vlm", tokens=40),
    "decode_words": Experiment(SHAPES, ("--alphabet", "6", "--size", "84", "--dark", "true")),
    "area": Experiment(SHAPES, ("--size", "112", "--dark", "true")),
}


@dataclass(frozen=True)
class Scale:
    """The size of the experiments."""

    steps: int = 100
    prompts: int = 8  # a step
    rows: int = 2000
    heldout_rows: int = 256
    learning_rate: float = 1e-4


def training_command(task: str, method: str, seed: int, scale: Scale, data: Path, out: Path) -> list[str]:
    """The command of one training run, to be run from the repository's root."""
    experiment = EXPERIMENTS[task]
    flags = {
        "model_name_or_path": experiment.model,
        "task_type": task,
        "data_file_paths": data / "train.jsonl",
        "image_folders": data,
        "output_dir": out,
        "seed": seed,
        "max_steps": scale.steps,
        "learning_rate": scale.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 5,
        "gradient_checkpointing": "false",
        "save_strategy": "no",
        "disable_tqdm": "true",
    }
    if method == "grpo":
        flags |= {"num_generations": GROUP, "per_device_train_batch_size": GROUP * scale.prompts, "beta": 0}
        flags |= {"max_completion_length": experiment.tokens}
    else:
        flags |= {
            "per_device_train_batch_size": GROUP * scale.prompts,
            "learning_rate": SFT_RATE * scale.learning_rate,
        }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    return ["python", f"src/open_r1/{method}_jsonl.py", *words]


def run(command: Sequence[str], log: Path) -> None:
    """Run a command of this repository with this interpreter; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(log, "w", encoding="utf-8") as file:
        result = subprocess.run([sys.executable, *command[1:]], cwd=REPO, env=environment, stdout=file, stderr=file)
    if result.returncode:
        sys.exit(
            f"{' '.join(command)}\nended with status {result.returncode}; the end of {log}:\n{log.read_text()[-2000:]}"
        )


def make_data(task: str, scale: Scale, data: Path) -> None:
    """Make the task's dataset in `data`, unless it is there."""
    if not (data / "heldout.jsonl").exists():
        sizes = ["--rows", str(scale.rows), "--heldout_rows", str(scale.heldout_rows), "--seed", "0"]
        script = ["python", "local_scripts/make_dataset.py", task, "--out", str(data)]
        run([*script, *sizes, *EXPERIMENTS[task].options], data.parent / "data.log")


def evaluate(task: str, model: str | Path, data: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Split -> the figures of `eval/evaluate.py`, run in this process, as starting another takes longer."""
    figures = {}
    for split in EXPERIMENTS[task].splits:
        flags = {
            "model": model,
            "task": task,
            "data_file_paths": data / f"{split}.jsonl",
            "image_folders": data,
            "output_dir": out / split,
            "max_completion_length": EXPERIMENTS[task].tokens,
            "batch_size": 64,
        }
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        summary = script.run_evaluation(script.parser_of(None).parse_args([*words, "--prompt_mode", "think"]))
        figures[split] = summary["think"]
    return figures


def one_run(task: str, method: str, seed: int, scale: Scale, folder: Path) -> dict[str, Any]:
    """Train and evaluate; returns the entry of `runs` in the results."""
    out = folder / f"{method}-{seed}"
    shutil.rmtree(out, ignore_errors=True)  # files of an interrupted run
    command = training_command(task, method, seed, scale, folder / "data", out)
    began = time.time()
    run(command, folder / f"{method}-{seed}.log")
    lines = read_metrics(out)
    metric = {"grpo": "reward", "sft": "loss"}[method]
    return {
        "method": method,
        "seed": seed,
        "steps": scale.steps,
        "seconds": round(time.time() - began, 1),
        "command": " ".join(command),
        metric: [round(value, 4) for value in series(lines, metric)[1]],
        "after": evaluate(task, out / "checkpoint", folder / "data", out / "after"),
    }


def hardware() -> str:
    """The number of cores and their name.

    >>> " cores, " in hardware()
    True
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def start(task: str, scale: Scale, folder: Path) -> dict[str, Any]:
    """The results of a task before any run."""
    make_data(task, scale, folder / "data")
    return {
        "task": task,
        "metric": TASKS[task].metric,
        "model": EXPERIMENTS[task].model,
        "options": " ".join(EXPERIMENTS[task].options),
        "scale": asdict(scale),
        "hardware": hardware(),
        "date": date.today().isoformat(),
        "before": evaluate(task, EXPERIMENTS[task].model, folder / "data", folder / "before"),
        "runs": [],
    }


def missing(results: dict[str, Any], task: str, seed: int, methods: Sequence[str]) -> list[str]:
    """Those of `methods` without a finished run for a seed.

    >>> missing({"runs": [{"method": "grpo", "seed": 0}]}, "rec", 0, ["grpo", "sft"])
    ['sft']
    >>> missing({"runs": []}, "digits", 1, ["grpo", "sft"])
    ['grpo']
    """
    done = {(run["method"], run["seed"]) for run in results["runs"]}
    return [method for method in EXPERIMENTS[task].methods if method in methods and (method, seed) not in done]


def run_experiment(task: str, seed: int, methods: Sequence[str], scale: Scale, work: Path, out: Path) -> None:
    """Run what is missing of a task and seed, and append it to `out/TASK.json`."""
    path, folder = out / f"{task}.json", work / task
    results = json.loads(path.read_text()) if path.exists() else start(task, scale, folder)
    if results["scale"] != asdict(scale):
        sys.exit(f"{path}: got results of {results['scale']}, expected {asdict(scale)}; choose another --out")
    for method in missing(results, task, seed, methods):
        make_data(task, scale, folder / "data")
        entry = one_run(task, method, seed, scale, folder)
        results["runs"].append(entry)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(
            task,
            method,
            f"seed {seed}",
            entry["seconds"],
            "s",
            *changes(results["before"], entry["after"]),
            flush=True,
        )


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Accuracies before and after, in words.

    >>> changes({"heldout": {"accuracy": 0.5}}, {"heldout": {"accuracy": 0.75}})
    ['heldout 0.500 -> 0.750']
    """
    return [f"{split} {before[split]['accuracy']:.3f} -> {after[split]['accuracy']:.3f}" for split in before]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=("grpo", "sft"), default=["grpo", "sft"])
    parser.add_argument("--steps", type=int, default=Scale.steps)
    parser.add_argument("--out", type=Path, default=Path("assets/learning"), help="results")
    parser.add_argument("--figures", type=Path, help="default: assets/figures, or --out where that was chosen")
    parser.add_argument("--work", type=Path, default=Path("output/learning"), help="datasets and runs")
    parser.add_argument("--smoke", action="store_true", help="two steps on a few rows: whether it runs at all")
    args = parser.parse_args()
    scale = Scale(steps=2, prompts=2, rows=16, heldout_rows=8) if args.smoke else Scale(steps=args.steps)
    work = args.work / "smoke" if args.smoke else args.work
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:  # all tasks with one seed before the next seed
        for task in args.tasks:
            run_experiment(task, seed, args.methods, scale, work, args.out)
    figures = args.figures or (Path("assets/figures") if args.out == Path("assets/learning") else args.out)
    results = [json.loads(path.read_text()) for name in EXPERIMENTS if (path := args.out / f"{name}.json").exists()]
    draw_curves(results, figures / "learning_curves.png")
    draw_methods([r for r in results if EXPERIMENTS[r["task"]].ood], figures / "grpo_vs_sft.png")


if __name__ == "__main__":
    main()
