"""Measure time and memory of a GRPO update, rollout and step: TRL's GRPOTrainer and ours, in turns in one process.

    python local_scripts/dev/benchmarks/bench_grpo.py --size 45m --image-tokens 512 \\
        --text-tokens 48 --completion 64 --json bench.json

The model is one of --family with random weights from --seed; nothing is downloaded. Each trainer has its own copy
(both change the model they train), the same prompts and pictures in the same order, and the same arguments. Measured:
  update   forward and backward of `compute_loss` on the same given completions, one micro-batch, no optimizer step;
  rollout  `_generate_and_score_completions`: pictures, processor, and completions of exactly --completion tokens;
  step     a whole step: rows from the trainer's own data loader, rollout, rewards, update, AdamW (lr 1e-6), zero_grad.
One warm-up each, then TRL and ours in turn, --repeats times; medians are reported. Rollouts and steps get new rows
each time, as in training. Steps come last: both copies drift by as many AdamW updates, and nothing is measured after.

Whether they agree is measured first, on the same tokens: `logp_max_abs_diff` of log-probs of completion tokens (nats),
`grad_rel_diff` = ||g_ours - g_trl|| / ||g_trl|| over all parameters together, `grad_rel_diff_max` the largest such
ratio of one parameter. Peak bytes: see `bench_parts.PEAK`.
"""

import argparse
import copy
import json
import os
import platform
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bench_models as models
import bench_parts as bench
import datasets
import torch
import transformers
import trl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn
from transformers import ProcessorMixin

from open_r1.config.hardware import prepare
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.record import Record
from open_r1.models.loading import load_processor

MEASURES = ("update", "rollout", "step")


def make_trainers(
    args: argparse.Namespace, shape: bench.Shape, records: list[Record], processor: ProcessorMixin, folder: Path
) -> dict[str, trl.GRPOTrainer]:
    """TRL's trainer and ours, each with its copy of the model, as at the start of `train()`."""
    flags = {
        "per_device_train_batch_size": shape.rows,
        "num_generations": shape.group,
        "max_completion_length": shape.completion,
        "generation_kwargs": {"min_new_tokens": shape.completion},
        "loss_type": "dapo",
        "learning_rate": 1e-6,
        "gradient_checkpointing": args.gradient_checkpointing,
        "bf16": args.dtype == "bfloat16",
        "use_cpu": args.device == "cpu",
        "dataloader_pin_memory": False,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": args.seed,
    }
    model = models.build_model(args.size, args.device, args.dtype, args.seed, args.family)
    training = GRPOArguments(output_dir=str(folder / "ours"), **copy.deepcopy(flags))
    prepare(training)
    theirs = trl.GRPOTrainer(
        model=copy.deepcopy(model),
        reward_funcs=[partial(bench.random_rewards, random.Random(args.seed))],
        args=trl.GRPOConfig(output_dir=str(folder / "trl"), **copy.deepcopy(flags)),
        train_dataset=trl_rows(records),
        processing_class=processor,
    )
    bench.start(theirs)
    return {"trl": theirs, "ours": bench.our_trainer(model, processor, records, training, args.seed)}


def trl_rows(records: list[Record]) -> datasets.Dataset:
    """The records as TRL's dataset: messages, and pictures that are decoded when a row is read."""
    rows = {"prompt": [[{"role": "user", "content": record.turns[-1].text}] for record in records]}
    if not records[0].images:
        return datasets.Dataset.from_dict(rows)
    rows["image"] = [str(Path(record.folder, record.images[0])) for record in records]
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def compare(pair: dict[str, trl.GRPOTrainer], batches: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The largest differences of log-probs and gradients on the same completions."""
    theirs, ours = (completion_logps(trainer, batches[name]) for name, trainer in pair.items())
    differences = torch.cat([ours[completion] - theirs[completion] for completion in theirs])
    for name, trainer in pair.items():
        bench.update(trainer, batches[name])
    both = zip(*(map(gradient, trainer.model.parameters()) for trainer in pair.values()), strict=True)
    norms = torch.tensor([(ours.sub(theirs).norm(), theirs.norm()) for theirs, ours in both], dtype=torch.float64)
    whole, reference = norms.square().sum(dim=0).sqrt().tolist()
    each = norms[norms[:, 1] > 0]
    return {
        "logp_max_abs_diff": differences.abs().max().item(),
        "grad_rel_diff": whole / reference,
        "grad_rel_diff_max": (each[:, 0] / each[:, 1]).max().item(),
    }


def gradient(parameter: nn.Parameter) -> torch.Tensor:
    """A parameter's gradient in float32, zeros without one."""
    return torch.zeros_like(parameter).float() if parameter.grad is None else parameter.grad.float()


def completion_logps(trainer: trl.GRPOTrainer, batch: dict[str, Any]) -> dict[tuple[int, ...], torch.Tensor]:
    """Log-probs of each completion's tokens, derived from the loss, so that the training path itself is compared.

    With advantages 1 and old log-probs 0 the loss is -sum(exp(logp)) / N over all N tokens (a ratio under 1 + epsilon
    is not clipped), and its derivative by a token's old log-prob is exp(logp) / N.
    """
    mask = batch["completion_mask"].bool()
    old = torch.zeros(mask.shape, device=mask.device, requires_grad=True)
    probe = batch | {"advantages": torch.ones_like(batch["advantages"]), "old_per_token_logps": old}
    with trainer.compute_loss_context_manager():
        (slope,) = torch.autograd.grad(trainer.compute_loss(trainer.model, probe), old)
    rows = zip(bench.completions_of(batch), (slope * mask.sum()).log(), mask, strict=True)
    return {completion: logps[row_mask] for completion, logps, row_mask in rows}


def environment(args: argparse.Namespace) -> dict[str, Any]:
    """Hardware, versions, date and arguments, for the report."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
    versions = {module.__name__: module.__version__ for module in (torch, transformers, trl)}
    return {
        "hardware": {"cpu": cpu, "cores": os.cpu_count(), "gpu": gpu, **versions},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "arguments": {
            name: value if isinstance(value, int | list) else str(value) for name, value in vars(args).items()
        },
        "peak_definition": bench.PEAK,
    }


def show(report: dict[str, Any], shape: bench.Shape, args: argparse.Namespace) -> None:
    """Print the report as a table."""
    table = Table(title=f"{args.family}, {args.size}, {args.dtype}, {args.device}: TRL {trl.__version__} and ours")
    for column in ("", "TRL s", "ours s", "TRL/ours", "ours: completions/s", "TRL MB", "ours MB"):
        table.add_column(column, justify="right" if column else "left")
    for name in (name for name in MEASURES if name in report):
        figures = report[name]
        peaks = [figures[f"{who}_peak_bytes"] for who in ("trl", "ours")]
        table.add_row(
            name,
            *(f"{figures[key]:.3g}" for key in ("trl_seconds", "ours_seconds", "ratio", "completions_per_second")),
            *("-" if peak is None else f"{peak / 1e6:,.0f}" for peak in peaks),
        )
    console = Console()
    console.print(table)
    console.print(
        f"  prompts {shape.prompts}, of {shape.image_tokens} image and {shape.text_tokens} other tokens; group "
        f"{shape.group}; completions of {shape.completion} tokens{', ragged in updates' if args.ragged else ''}\n"
        f"  log-probs differ by at most {report['logp_max_abs_diff']:.1e}, "
        f"gradients by {report['grad_rel_diff']:.1e} of their norm",
        highlight=False,
        soft_wrap=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=models.SIZES, default="tiny")
    parser.add_argument("--family", choices=models.FAMILIES, default="qwen2_5_vl")
    parser.add_argument("--image-tokens", type=int, default=512, help="0 for prompts without a picture")
    parser.add_argument("--text-tokens", type=int, default=48, help="all other tokens, the chat template's included")
    parser.add_argument("--completion", type=int, default=64, help="tokens of a completion")
    parser.add_argument("--group", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--prompts", type=int, default=1, help="prompts of a batch")
    parser.add_argument("--ragged", action="store_true", help="given completions of half to one and a half times that")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 on cpu, bfloat16 on cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args()
    args.dtype = args.dtype or {"cpu": "float32", "cuda": "bfloat16"}[args.device]
    return args


def main() -> None:
    args = parse()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    shape = bench.Shape(args.image_tokens, args.text_tokens, args.completion, args.group, args.prompts)
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task("model and prompts", total=2 + len(args.measure))
        processor = load_processor(VLMConfig(model_name_or_path=str(models.TINY)), TaskArguments(max_pixels=1 << 40))
        batches = 2 + 2 * (1 + args.repeats)  # agreement, updates, rollouts, steps, one prefetched
        try:
            records = bench.make_records(shape, processor, Path(folder), batches * shape.prompts, args.seed)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        pair = make_trainers(args, shape, records, processor, Path(folder))
        rows = {name: bench.rows_of(trainer) for name, trainer in pair.items()}
        bar.update(work, description="agreement", advance=1)
        completions = bench.random_completions(shape, args.ragged, args.seed)
        batches_of = {name: bench.batch_of(trainer, next(rows[name]), completions) for name, trainer in pair.items()}
        report = environment(args) | compare(pair, batches_of)
        measures: dict[str, Callable[[str], None]] = {
            "update": lambda name: bench.update(pair[name], batches_of[name]),
            "rollout": lambda name: bench.rollout(pair[name], rows[name], shape),
            "step": lambda name: bench.step(pair[name], rows[name]),
        }
        for name in (name for name in measures if name in args.measure):
            bar.update(work, description=name, advance=1)
            report[name] = bench.measure(pair, measures[name], args.device, args.repeats)
            report[name]["completions_per_second"] = shape.rows / report[name]["ours_seconds"]
    show(report, shape, args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
