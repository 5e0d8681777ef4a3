"""Completions sampled until fixed accuracies on held-out rows, by the way in which rows are chosen.

    python local_scripts/dev/benchmarks/bench_row_choice.py OUT     # mixture, all variants, seeds 0 1 2
    python local_scripts/dev/benchmarks/bench_row_choice.py OUT --tasks digits --variants uniform both --seeds 0
    python local_scripts/dev/benchmarks/bench_row_choice.py OUT --smoke              # whether it runs at all

All completions count, discarded ones too, and the learning rate falls with them, so that each variant gets the same
budget and schedule. Accuracy is greedy, on the held-out rows that can be learned (mixture: those whose `part` is
learnable), every `--every` completions. `to` holds the completions until an accuracy, straight between two
measurements; null where it was not reached. Variant `known` is uniform over the training rows whose `part` is
learnable, which nobody has: the most that a choice of rows could give. A run is one process; a finished (task,
variant, seed) of OUT/TASK.json is not run again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[3]
GROUP, PROMPTS = 8, 8
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
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
    "known": "",
}


@dataclass(frozen=True)
class Scale:
    """The size of a run: completions sampled in all, and between two measurements."""

    completions: int = 12_800
    every: int = 640
    rows: int = 4_000
    heldout_rows: int = 1_536
    learning_rate: float = 1e-4


# ------------------------------------------------------------------------------------------------------------- one run


def flags_of(task: str, variant: str, seed: int, scale: Scale, data: Path, out: Path) -> list[str]:
    """The flags of `grpo_jsonl.py` that a run trains by."""
    rows = "learnable" if variant == "known" and task == "mixture" else "train"
    flags = f"--model_name_or_path {SETUPS[task].model} --task_type {task} --data_file_paths {data}/{rows}.jsonl "
    flags += f"--image_folders {data} --output_dir {out} --seed {seed} --num_generations {GROUP} --beta 0 "
    flags += f"--per_device_train_batch_size {GROUP * PROMPTS} --max_completion_length {SETUPS[task].tokens} "
    flags += f"--learning_rate {scale.learning_rate} --lr_scheduler_type constant --gradient_checkpointing false "
    flags += f"--max_steps {scale.completions // (GROUP * PROMPTS)} --save_strategy no --disable_tqdm true "
    return [*flags.split(), "--report_to", "none", *VARIANTS[variant].split()]


def train(task: str, variant: str, seed: int, scale: Scale, data: Path, out: Path) -> list[dict[str, float]]:
    """Train in this process: [{"completions", "steps", "accuracy"}], the first of the start."""
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

    class Budget(TrainerCallback):
        """Lowers the learning rate with what was sampled, measures, and ends the run where the budget is used."""

        sampled = 0

        def on_step_begin(self, *args: Any, optimizer: Any, **kwargs: Any) -> None:
            for group in optimizer.param_groups:
                group["lr"] = scale.learning_rate * max(0.0, 1 - self.sampled / scale.completions)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if "reward" not in logs:
                return
            self.sampled += int(logs.get("rollouts/sampled", GROUP * PROMPTS))
            control.should_training_stop |= self.sampled >= scale.completions
            if self.sampled >= points[-1]["completions"] + scale.every or control.should_training_stop:
                with own_random_state():
                    trainer.save_model(str(out / "policy"))
                    reached = accuracy(task, out / "policy", data, out / f"{self.sampled}")
                points.append({"completions": self.sampled, "steps": state.global_step, "accuracy": reached})

    trainer.add_callback(Budget())
    trainer.train()
    return points


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


def one_run(task: str, variant: str, seed: int, scale: Scale, out: Path) -> dict[str, Any]:
    """Run in a process of its own, whose output goes to a log; its entry of `runs`."""
    folder, began = out / task / f"{variant}-{seed}", time.time()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(out), "--worker", task, variant, str(seed), json.dumps(asdict(scale))]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(folder / "log", "w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=REPO, env=environment, stdout=log, stderr=log)
    if done.returncode:
        sys.exit(f"{task} {variant} {seed}: status {done.returncode}; the end of {folder / 'log'}:\n"
                 + (folder / "log").read_text()[-2000:])  # fmt: skip
    points = json.loads((folder / "points.json").read_text())
    flags = flags_of(task, variant, seed, scale, Path("DATA"), Path("OUT"))
    return {
        "variant": variant,
        "seed": seed,
        "seconds": round(time.time() - began, 1),
        "flags": " ".join(flags),
        "to": {str(target): completions_to(points, target) for target in TARGETS},
        "points": points,
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
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--completions", type=int, default=Scale.completions, help="budget of a run")
    parser.add_argument("--every", type=int, default=Scale.every, help="completions between two measurements")
    parser.add_argument("--smoke", action="store_true", help="two steps on a few rows")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = args.out.resolve()
    if args.worker:
        task, variant, seed, scale = *args.worker[:2], int(args.worker[2]), Scale(**json.loads(args.worker[3]))
        folder = out / task / f"{variant}-{seed}"
        points = train(task, variant, seed, scale, out / task / "data", folder)
        (folder / "points.json").write_text(json.dumps(points))
        return
    small = Scale(completions=256, every=128, rows=96, heldout_rows=64)
    scale = small if args.smoke else Scale(completions=args.completions, every=args.every)
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
                print(task, variant, f"seed {seed}", results["runs"][-1]["seconds"], "s", results["runs"][-1]["to"])


if __name__ == "__main__":
    main()
