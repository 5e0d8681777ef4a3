"""Completions sampled until fixed accuracies on held-out rows, by the way in which rows are chosen.

    python local_scripts/dev/benchmarks/bench_row_choice.py OUT     # mixture, all variants, seeds 0 1 2
    python local_scripts/dev/benchmarks/bench_row_choice.py OUT --tasks digits --variants uniform both --seeds 0
    python local_scripts/dev/benchmarks/bench_row_choice.py OUT --smoke              # whether it runs at all

All completions count, discarded ones too. The learning rate is constant, so that a curve does not depend on the
budget, and a run ends where it reaches the last target or has used its budget. Accuracy is greedy, on the held-out
rows that can be learned (mixture: those whose `part` is learnable), every `--every` completions. `to` holds the
completions until an accuracy, straight between two measurements; null where it was not reached; `live` the share of
sampled groups with spread. Variants of the mixture alone: `filtered` is uniform over those of `SURVEYED` rows whose
`SURVEY_SAMPLES` completions of a survey are not all right or all wrong, and begins with the survey's completions;
`known` is uniform over the training rows whose `part` is learnable, which nobody has: the most that a choice of rows
could give. A finished (task, variant, seed) of OUT/TASK.json is not run again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

REPO = Path(__file__).resolve().parents[3]
GROUP, PROMPTS = 8, 8
MOST_UPDATES = 2  # of a generation
TARGETS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85)
SHAPES = "assets/tiny-vlm-shapes"


@dataclass(frozen=True)
class Setup:
    """The start model of a task, options of its generator, most tokens of a completion."""

    model: str
    options: tuple[str, ...] = ()
    tokens: int = 48


SETUPS = {
    "mixture": Setup("assets/tiny-vlm", tokens=40),
    "digits": Setup("assets/tiny-vlm", tokens=40),
    "counting": Setup(SHAPES),
    "decode_words": Setup(SHAPES, ("--alphabet", "6", "--size", "84", "--dark", "true")),
    "rec": Setup(SHAPES, ("--distractors", "0")),
}
VARIANTS = {
    "uniform": "",
    "resample": "--resample_zero_variance 4",
    "difficulty": "--row_sampling difficulty",
    "both": "--resample_zero_variance 4 --row_sampling difficulty",
    "filtered": "",
    "known": "",
    "grpo": "--loss_type grpo --num_iterations 2",
    "dapo": "--loss_type dapo --num_iterations 2",
    "dr_grpo": "--loss_type dr_grpo --num_iterations 2",
    "gspo": "--loss_type grpo --importance_sampling_level sequence --num_iterations 2",
    "cispo": "--loss_type cispo --num_iterations 2",
    "sapo": "--loss_type sapo --num_iterations 2",
}
ROWS = {"filtered": "surveyed-{seed}", "known": "learnable"}  # of the mixture; other variants: all rows
SURVEYED, SURVEY_SAMPLES = 480, 4


@dataclass(frozen=True)
class Scale:
    """The size of a run: completions sampled in all, and between two measurements."""

    completions: int = 4_800
    every: int = 640
    rows: int = 4_000
    heldout_rows: int = 1_536
    learning_rate: float = 1.5e-5


# ------------------------------------------------------------------------------------------------------------- one run


def flags_of(task: str, variant: str, seed: int, scale: Scale, data: Path, out: Path) -> list[str]:
    """The flags of `grpo_jsonl.py` that a run trains by."""
    rows = ROWS.get(variant, "train").format(seed=seed)
    flags = (
        f"--model_name_or_path {REPO / SETUPS[task].model} --task_type {task} --data_file_paths {data}/{rows}.jsonl "
    )
    flags += f"--image_folders {data} --output_dir {out} --seed {seed} --num_generations {GROUP} --beta 0 "
    flags += f"--per_device_train_batch_size {GROUP * PROMPTS} --max_completion_length {SETUPS[task].tokens} "
    flags += f"--learning_rate {scale.learning_rate} --lr_scheduler_type constant --gradient_checkpointing false "
    flags += f"--max_steps {MOST_UPDATES * scale.completions // (GROUP * PROMPTS)} "
    flags += "--save_strategy no --disable_tqdm true "
    return [*flags.split(), "--report_to", "none", *VARIANTS[variant].split()]


def train(task: str, variant: str, seed: int, scale: Scale, data: Path, out: Path) -> dict[str, Any]:
    """One run: its `points`, [{"completions", "steps", "accuracy"}] with that of the start first, and its `live`."""
    from transformers import TrainerCallback

    from open_r1.config.parser import parse
    from open_r1.config.task_arguments import JsonlArguments
    from open_r1.data.jsonl_dataset import load_records
    from open_r1.models.loading import load_processor
    from open_r1.tasks.find import find_task
    from open_r1.trainer.checkpointing.run_state import own_random_state
    from open_r1.trainer.run import make_grpo_trainer, start_rewards

    arguments, training, model = parse(JsonlArguments, flags_of(task, variant, seed, scale, data, out))
    training.reward_weights = list(find_task(task).weights)
    records = load_records(arguments.data_file_paths, arguments.image_folders, reward_methods=find_task(task).method)
    processor = load_processor(model, arguments)
    trainer = make_grpo_trainer(records, None, start_rewards(arguments), processor, arguments, training, model)
    points = [{"completions": 0, "steps": 0, "accuracy": accuracy(task, REPO / SETUPS[task].model, data, out / "0")}]
    if variant == "filtered":
        points.append(points[0] | {"completions": SURVEYED * SURVEY_SAMPLES})
    dead: list[float] = []

    class Budget(TrainerCallback):
        """Measures, and ends the run at the last target or where the budget is used."""

        sampled = points[-1]["completions"]

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "reward" not in logs:
                return
            dead.append(logs.get("rollouts/without_spread", logs["frac_reward_zero_std"]))
            self.sampled += int(logs.get("rollouts/sampled", GROUP * PROMPTS))
            control.should_training_stop |= self.sampled >= scale.completions
            if self.sampled >= points[-1]["completions"] + scale.every or control.should_training_stop:
                with own_random_state():
                    trainer.save_model(str(out / "policy"))
                    reached = accuracy(task, out / "policy", data, out / f"{self.sampled}")
                points.append({"completions": self.sampled, "steps": state.global_step, "accuracy": reached})
                control.should_training_stop |= reached >= TARGETS[-1]

    trainer.add_callback(Budget())
    trainer.train()
    return {"points": points, "live": round(1 - fmean(dead), 3)}


def accuracy(task: str, model: Path, data: Path, out: Path) -> float:
    """Greedy accuracy on the held-out rows that can be learned."""
    from open_r1.evaluation.cli import parser_of, run_evaluation

    rows = data / ("heldout_learnable.jsonl" if task == "mixture" else "heldout.jsonl")
    flags = f"--model {model} --task {task} --data_file_paths {rows} --image_folders {data} --output_dir {out} "
    flags += f"--max_completion_length {SETUPS[task].tokens} --batch_size 64 --prompt_mode think"
    return run_evaluation(parser_of(None).parse_args(flags.split()))["think"]["accuracy"]


# ------------------------------------------------------------------------------------------------------------ all runs


def make_data(task: str, scale: Scale, data: Path) -> None:
    """Make the task's rows in `data` unless they are there; of the mixture, the learnable ones also by themselves."""
    if (data / "heldout.jsonl").exists():
        return
    command = [sys.executable, "local_scripts/make_dataset.py", task, "--out", data, "--rows", scale.rows]
    command += ["--heldout_rows", scale.heldout_rows, "--seed", 0, *SETUPS[task].options]
    subprocess.run([str(word) for word in command], cwd=REPO, check=True, stderr=subprocess.DEVNULL)
    if task == "mixture":
        for name, target in (("train", "learnable"), ("heldout", "heldout_learnable")):
            lines = (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["part"] == "learnable"]
            (data / f"{target}.jsonl").write_text("".join(kept), encoding="utf-8")


def completions_to(points: Sequence[dict[str, float]], target: float) -> int | None:
    """Completions sampled until an accuracy, straight between two measurements.

    >>> points = [{"completions": 0, "accuracy": 0.4}, {"completions": 100, "accuracy": 0.6}]
    >>> completions_to(points, 0.5), completions_to(points, 0.3), completions_to(points, 0.7)
    (50, 0, None)
    """
    if points[0]["accuracy"] >= target:
        return 0
    for before, after in pairwise(points):
        if after["accuracy"] >= target:
            share = (target - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
            return round(before["completions"] + share * (after["completions"] - before["completions"]))
    return None


def survey(task: str, seed: int, data: Path, out: Path) -> None:
    """Write `surveyed-SEED.jsonl`: the rows of a survey whose completions are not all right or all wrong."""
    target = data / f"surveyed-{seed}.jsonl"
    if target.exists():
        return
    flags = f"--model {REPO / SETUPS[task].model} --task_type {task} --data_file_paths {data}/train.jsonl "
    flags += f"--image_folders {data} "
    flags += f"--rows {SURVEYED} --samples {SURVEY_SAMPLES} --num_generations {SURVEY_SAMPLES} --picture_samples 0 "
    flags += f"--seed {seed} --max_completion_length {SETUPS[task].tokens} --batch_size 64 --output_dir {out}"
    subprocess.run([sys.executable, "-m", "open_r1.survey", *flags.split()], cwd=REPO, check=True)
    lines = (out / "rows" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    target.write_text("".join(line for line in lines if "survey_rate" in json.loads(line)), encoding="utf-8")


def one_run(task: str, variant: str, seed: int, scale: Scale, out: Path) -> dict[str, Any]:
    """One run, whose output goes to a log; its entry of `runs`."""
    folder, data, began = out / task / f"{variant}-{seed}", out / task / "data", time.time()
    folder.mkdir(parents=True, exist_ok=True)
    if variant == "filtered":
        survey(task, seed, data, folder / "survey")
    with open(folder / "log", "w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        run = train(task, variant, seed, scale, data, folder)
    return {
        "variant": variant,
        "seed": seed,
        "seconds": round(time.time() - began, 1),
        "flags": " ".join(flags_of(task, variant, seed, scale, Path("DATA"), Path("OUT"))).replace(f"{REPO}/", ""),
        "to": {str(target): completions_to(run["points"], target) for target in TARGETS},
        **run,
    }


def hardware() -> str:
    """Cores and processor."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def results_of(task: str, scale: Scale, path: Path) -> dict[str, Any]:
    """What a file holds already, else the results before any run."""
    if not path.exists():
        facts = {"task": task, "hardware": hardware(), "date": date.today().isoformat()}
        return {**facts, "scale": asdict(scale), "group": GROUP, "prompts": PROMPTS, "runs": []}
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["scale"] != asdict(scale):
        sys.exit(f"{path}: got results of {results['scale']}, expected {asdict(scale)}; choose another OUT")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=list(SETUPS), default=["mixture"])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS)[:6])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--completions", type=int, default=Scale.completions, help="budget of a run")
    parser.add_argument("--every", type=int, default=Scale.every, help="completions between two measurements")
    parser.add_argument("--learning_rate", type=float, default=Scale.learning_rate, help="constant")
    parser.add_argument("--smoke", action="store_true", help="two steps on a few rows")
    args = parser.parse_args()
    out = args.out.resolve()
    small = Scale(completions=256, every=128, rows=96, heldout_rows=64)
    scale = small if args.smoke else Scale(args.completions, args.every, learning_rate=args.learning_rate)
    for seed in args.seeds:
        for task in args.tasks:
            path = out / f"{task}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            results = results_of(task, scale, path)
            done = {(run["variant"], run["seed"]) for run in results["runs"]}
            make_data(task, scale, out / task / "data")
            for variant in (name for name in args.variants if (name, seed) not in done):
                results["runs"].append(one_run(task, variant, seed, scale, out))
                path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                shown = (results["runs"][-1][name] for name in ("seconds", "live", "to"))
                print(task, variant, f"seed {seed}", *shown, flush=True)


if __name__ == "__main__":
    main()
