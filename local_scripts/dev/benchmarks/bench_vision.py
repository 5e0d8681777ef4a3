"""Measure what looking costs: an update with the perception-aware losses, and a step with `--vision_probe`, as ratios.

    python local_scripts/dev/benchmarks/bench_vision.py --size 45m --image-tokens 512 --text-tokens 48 --completion 64

One trainer on a model with random weights, whose flags are changed from turn to turn; times are medians of --repeats
turns after one warm-up, and a method's ratio is that to plain GRPO on the same given completions. On a CPU they are
seconds of the processor, all threads, which other programs' load does not lengthen:
  update  forward and backward of `compute_loss`, one micro-batch, no optimizer step;
  step    a whole step with rollout, plain, and with a measurement of the probe; "probe" is the time of a run with
          `--vision_probe` --every to that of one without: 1 + (probed / plain - 1) / every.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bench_models as models
import bench_parts as bench
import torch
import transformers
from rich.console import Console
from rich.table import Table

from open_r1.config.hardware import prepare
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.models.loading import load_processor
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

PLAIN = {"perception_coef": 0.0, "perception_masked_entropy_coef": 0.0, "visual_token_share": 1.0}
LOSSES = {
    "plain": {},
    "papo": {"perception_coef": 0.01},
    "papo, both entropies": {"perception_coef": 0.01, "perception_masked_entropy_coef": 0.03},
    "vppo": {"visual_token_share": 0.4},
    "papo, vppo": {"perception_coef": 0.01, "visual_token_share": 0.4},
}


def make_trainer(args: argparse.Namespace, shape: bench.Shape, folder: Path, count: int) -> VLMGRPOTrainer:
    """A trainer whose reward is named accuracy, so that a probe has answers graded."""
    processor = load_processor(VLMConfig(model_name_or_path=str(models.TINY)), TaskArguments(max_pixels=1 << 40))
    training = GRPOArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=shape.rows,
        num_generations=shape.group,
        max_completion_length=shape.completion,
        generation_kwargs={"min_new_tokens": shape.completion},
        learning_rate=1e-6,
        gradient_checkpointing=False,
        bf16=args.dtype == "bfloat16",
        use_cpu=args.device == "cpu",
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        seed=0,
        perception_coef=0.01,
    )
    prepare(training)
    model = models.build_model(args.size, args.device, args.dtype, 0, args.family)
    records = bench.make_records(shape, processor, folder, count * shape.prompts, 0)
    return bench.our_trainer(model, processor, records, training, 0, "accuracy")


def set_flags(trainer: VLMGRPOTrainer, flags: dict[str, float]) -> None:
    for name, value in (PLAIN | {"vision_probe": 0} | flags).items():
        setattr(trainer.args, name, value)


def clock() -> float:
    """Seconds on the wall with all kernels done, or without a GPU of the processor."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(trainer: VLMGRPOTrainer, turns: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each turn, in turn, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(1 + repeats):
        for name, turn in turns.items():
            trainer.model.zero_grad()
            began = clock()
            turn()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def measure(args: argparse.Namespace, shape: bench.Shape, folder: Path) -> dict[str, dict[str, float]]:
    """Part -> name -> seconds."""
    trainer = make_trainer(args, shape, folder, 4 + 2 * (1 + args.repeats))
    rows = bench.rows_of(trainer)
    set_flags(trainer, {})
    batch = bench.batch_of(trainer, next(rows), bench.random_completions(shape, False, 0))

    def update(flags: dict[str, float]) -> None:
        set_flags(trainer, flags)
        bench.update(trainer, batch)

    def step(every: int) -> None:
        set_flags(trainer, {"vision_probe": every})
        bench.step(trainer, rows)

    turns = {
        "update": {name: partial(update, flags) for name, flags in LOSSES.items() if name in args.losses},
        "step": {"plain": partial(step, 0), "probed": partial(step, 1)},
    }
    return {part: seconds_of(trainer, turns[part], args.repeats) for part in args.measure}


def show(seconds: dict[str, dict[str, float]], every: int) -> dict[str, Any]:
    """Print seconds and ratios; returns them."""
    table = Table("", "seconds", "to plain")
    report: dict[str, Any] = {}
    for part, of_part in seconds.items():
        for name, value in of_part.items():
            report[f"{part}, {name}"] = {"seconds": value, "ratio": value / of_part["plain"]}
    if "step" in seconds:
        probe = 1 + (report["step, probed"]["ratio"] - 1) / every
        report[f"run with --vision_probe {every}"] = {"ratio": probe}
    for name, row in report.items():
        table.add_row(name, f"{row['seconds']:.3f}" if "seconds" in row else "", f"{row['ratio']:.3f}")
    Console().print(table)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=models.SIZES, default="tiny")
    parser.add_argument("--family", choices=models.FAMILIES, default="qwen2_5_vl")
    parser.add_argument("--image-tokens", type=int, default=512)
    parser.add_argument("--text-tokens", type=int, default=48)
    parser.add_argument("--completion", type=int, default=64)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--measure", nargs="+", choices=("update", "step"), default=["update", "step"])
    parser.add_argument(
        "--losses", nargs="+", choices=LOSSES, default=list(LOSSES), help="of updates; plain is needed"
    )
    parser.add_argument("--every", type=int, default=10, help="--vision_probe of the run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args()
    args.dtype = args.dtype or {"cpu": "float32", "cuda": "bfloat16"}[args.device]
    transformers.logging.set_verbosity_error()
    shape = bench.Shape(args.image_tokens, args.text_tokens, args.completion, args.group, args.prompts)
    with TemporaryDirectory() as folder:
        report = show(measure(args, shape, Path(folder)), args.every)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
