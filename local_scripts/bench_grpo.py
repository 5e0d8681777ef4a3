"""Time and memory of a GRPO update, rollout and step: TRL's GRPOTrainer and ours, in one process, in turns.

    python local_scripts/bench_grpo.py --size 45m --image-tokens 512 --text-tokens 48 --completion 64 --json bench.json

The model is a Qwen2.5-VL with random weights from --seed; nothing is downloaded. Each trainer has its own copy of it
(both change the model they train), the same prompts and pictures in the same order, and the same arguments. Measured:
  update   forward and backward of `compute_loss` on the same given completions, one micro-batch, no optimizer step;
  rollout  `_generate_and_score_completions`: pictures, processor, and completions of exactly --completion tokens;
  step     a whole step: rows from the trainer's own data loader, rollout, rewards, update, AdamW (lr 1e-6), zero_grad.
One warm-up each, then TRL and ours in turn, --repeats times; medians are reported. Rollouts and steps get new rows
each time, as in training. Steps come last: both copies drift by as many AdamW updates, and nothing is measured after.

Whether they agree is measured first, on the same tokens: `logp_max_abs_diff` of log-probs of completion tokens (nats),
`grad_rel_diff` = ||g_ours - g_trl|| / ||g_trl|| over all parameters together, `grad_rel_diff_max` the largest such
ratio of one parameter. Peak bytes: see `PEAK`.
"""

import argparse
import copy
import ctypes
import gc
import json
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import datasets
import torch
import transformers
import trl
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLConfig,
)

from open_r1.arguments import GRPOArguments, TaskArguments, VLMConfig
from open_r1.lengths import prompt_tokens
from open_r1.models import load_processor
from open_r1.records import Record, Turn
from open_r1.trainer.grpo import VLMGRPOTrainer

TINY = Path(__file__).resolve().parents[1] / "assets" / "tiny-vlm"  # its tokenizer and token ids serve every size
TEXT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
VISION = ("hidden_size", "intermediate_size", "depth", "num_heads", "fullatt_block_indexes")
SIZES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], int] | None] = {  # text, vision, vocabulary
    "tiny": None,  # as assets/tiny-vlm
    "45m": ((512, 2048, 8, 8, 2), (320, 1280, 6, 5, [2, 5]), 4000),
    "3b": ((2048, 11008, 36, 16, 2), (1280, 3420, 32, 16, [7, 15, 23, 31]), 151936),  # as Qwen2.5-VL-3B
}
MEASURES = ("update", "rollout", "step")
SIDE = 28  # pixels of an image token's side
WORDS = 400  # given completions are drawn from the token ids below this; all of them are text
PEAK = (
    "the highest value while it ran minus the value just before it, no gradients held then: activations, KV cache and "
    "gradients. CUDA: torch.cuda.max_memory_allocated. Else, on Linux: the process's resident memory, VmHWM and VmRSS."
)


@dataclass(frozen=True)
class Shape:
    """Tokens of a prompt by kind, tokens of a completion, completions of a prompt, prompts of a batch."""

    image_tokens: int
    text_tokens: int
    completion: int
    group: int
    prompts: int

    @property
    def rows(self) -> int:
        return self.group * self.prompts


def build_model(size: str, device: str, dtype: str, seed: int) -> PreTrainedModel:
    config = Qwen2_5_VLConfig.from_pretrained(TINY).to_dict()
    text, vision = config["text_config"], config["vision_config"]
    if SIZES[size]:
        text_sizes, vision_sizes, vocabulary = SIZES[size]
        text |= dict(zip(TEXT, text_sizes, strict=True)) | {"vocab_size": vocabulary, "layer_types": None}
        vision |= dict(zip(VISION, vision_sizes, strict=True)) | {"out_hidden_size": text["hidden_size"]}
        pairs = text["hidden_size"] // text["num_attention_heads"] // 2
        section = [pairs // 4, pairs * 3 // 8, pairs * 3 // 8]  # time, height, width
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section}
        text["max_position_embeddings"] = 128000
    torch.manual_seed(seed)
    with torch.device(device):
        config = Qwen2_5_VLConfig.from_dict(config)
        model = AutoModelForImageTextToText.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
    for module in model.modules():  # transformers' 0.02 would leave every log-prob near that of a guess
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
    model.generation_config = GenerationConfig.from_pretrained(TINY)
    return model


def make_records(shape: Shape, processor: ProcessorMixin, folder: Path, count: int, seed: int) -> list[Record]:
    """Rows of exactly so many prompt tokens: a random picture and a question of random digits, a token each.

    Raises ValueError for a shape that no prompt has.
    """
    rng = random.Random(seed)
    size = squarest(shape.image_tokens)
    if size:
        Image.new("RGB", size).save(folder / "blank.png")
    blank = Record("blank", ("blank.png",) if size else (), str(folder), (Turn("user", ""),), solution="-")
    template = prompt_tokens(blank, processor, None) - shape.image_tokens
    if shape.text_tokens <= template:
        raise ValueError(
            f"--text-tokens: got {shape.text_tokens}, expected at least {template + 1}: a chat needs them"
        )
    records = []
    for i in range(count):
        question = "".join(rng.choices("0123456789", k=shape.text_tokens - template))
        images = (f"{i}.png",) if size else ()
        for name in images:
            coarse = Image.frombytes("RGB", (16, 16), rng.randbytes(16 * 16 * 3))
            coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
        records.append(Record(str(i), images, str(folder), (Turn("user", question),), solution="-"))
    tokens = prompt_tokens(records[-1], processor, None)
    assert tokens == shape.image_tokens + shape.text_tokens, tokens
    return records


def squarest(image_tokens: int) -> tuple[int, int] | None:
    """(width, height) in pixels of a picture of so many tokens; None for no picture."""
    if image_tokens == 0:
        return None
    height = next(h for h in range(math.isqrt(image_tokens), 0, -1) if image_tokens % h == 0)
    if (width := image_tokens // height) > 200 * height:  # Qwen's processors refuse such pictures
        raise ValueError(f"--image-tokens: got {image_tokens} = {width} x {height}, expected at most 200 to 1")
    return width * SIDE, height * SIDE


def make_trainers(
    args: argparse.Namespace, shape: Shape, records: list[Record], processor: ProcessorMixin, folder: Path
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
    model = build_model(args.size, args.device, args.dtype, args.seed)
    theirs = trl.GRPOTrainer(
        model=copy.deepcopy(model),
        reward_funcs=[partial(chance, random.Random(args.seed))],
        args=trl.GRPOConfig(output_dir=str(folder / "trl"), **copy.deepcopy(flags)),
        train_dataset=trl_rows(records),
        processing_class=processor,
    )
    ours = VLMGRPOTrainer(
        model=model,
        processor=processor,
        rewards=[partial(chance, random.Random(args.seed))],
        records=records,
        eval_records=None,
        instruction="{question}",
        annotate=lambda record: record,
        args=GRPOArguments(output_dir=str(folder / "ours"), **copy.deepcopy(flags)),
        task=TaskArguments(),
    )
    for trainer in (theirs, ours):
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        if args.gradient_checkpointing:
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    return {"trl": theirs, "ours": ours}


def chance(rng: random.Random, completions: list[Any], **_: Any) -> list[float]:
    return [rng.random() for _ in completions]


def trl_rows(records: list[Record]) -> datasets.Dataset:
    """The records as TRL takes them: messages, and pictures that are decoded when a row is read."""
    rows = {"prompt": [[{"role": "user", "content": record.turns[-1].text}] for record in records]}
    if not records[0].images:
        return datasets.Dataset.from_dict(rows)
    rows["image"] = [str(Path(record.folder, record.images[0])) for record in records]
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def rows_of(trainer: trl.GRPOTrainer) -> Iterator[list[dict[str, Any]]]:
    """Generation batches without end, from the trainer's own data loader."""
    while True:
        yield from trainer.get_train_dataloader()


def update(trainer: trl.GRPOTrainer, batch: dict[str, Any]) -> None:
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(trainer.model, dict(batch))
    trainer.accelerator.backward(loss)


def rollout(trainer: trl.GRPOTrainer, rows: Iterator[Any], shape: Shape) -> None:
    batch = trainer._generate_and_score_completions(next(rows))
    assert int(batch["completion_mask"].sum()) == shape.rows * shape.completion, "a completion ended early"


def step(trainer: trl.GRPOTrainer, rows: Iterator[Any]) -> None:
    optimizer = trainer.create_optimizer()  # the one it has, after the first call
    trainer.training_step(trainer.model, next(rows), None)
    optimizer.step()
    optimizer.zero_grad()
    trainer.state.global_step += 1


def measure(pair: dict[str, trl.GRPOTrainer], run: Callable[[str], None], device: str, repeats: int) -> dict[str, Any]:
    """Medians of seconds and peak bytes of `run("trl")` and `run("ours")`, in turn after one warm-up each."""
    taken: dict[str, list[tuple[float, int | None]]] = {name: [] for name in pair}
    for _ in range(1 + repeats):
        for name in pair:
            for trainer in pair.values():
                trainer.model.zero_grad()
            held, began = start_of_peak(device), time.perf_counter()
            run(name)
            if device == "cuda":
                torch.cuda.synchronize()
            taken[name].append((time.perf_counter() - began, None if held is None else end_of_peak(device) - held))
    figures: dict[str, Any] = {}
    for name, values in taken.items():
        seconds, peaks = zip(*values[1:], strict=True)
        figures[f"{name}_seconds"] = statistics.median(seconds)
        figures[f"{name}_runs"] = seconds  # in order, for their spread
        figures[f"{name}_peak_bytes"] = None if None in peaks else int(statistics.median(peaks))
    return figures | {"ratio": figures["trl_seconds"] / figures["ours_seconds"]}


def start_of_peak(device: str) -> int | None:
    """Forget the highest value so far; bytes held now, or None where they are not known. See `PEAK`."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not Path("/proc/self/clear_refs").exists():
        return None
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system: both trainers start alike
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS
    return status("VmRSS")


def end_of_peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status, which counts in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def draw_completions(shape: Shape, ragged: bool, seed: int) -> dict[tuple[int, ...], float]:
    """Random completions with random advantages of either sign, none of them zero."""
    rng, drawn = random.Random(seed), {}
    while len(drawn) < shape.rows:
        spread = shape.completion // 2 if ragged else 0
        length = rng.randint(max(1, shape.completion - spread), shape.completion + spread)
        drawn[tuple(rng.choices(range(WORDS), k=length))] = rng.choice((-1, 1)) * rng.uniform(0.5, 1.5)
    return drawn


def given_batch(trainer: trl.GRPOTrainer, rows: Any, given: dict[tuple[int, ...], float]) -> dict[str, Any]:
    """What the trainer makes of these completions had it sampled them, with these advantages."""
    said = [list(completion) for completion in given]
    with patch.object(trainer, "_generate_single_turn", return_value=(said, None)):
        batch = dict(trainer._prepare_inputs(rows))
    trainer.state.global_step += 1
    advantages = [given[completion] for completion in completions_of(batch)]  # either trainer shuffles in its own way
    return batch | {"advantages": torch.tensor(advantages, device=batch["completion_ids"].device)}


def completions_of(batch: dict[str, Any]) -> list[tuple[int, ...]]:
    pairs = zip(batch["completion_ids"], batch["completion_mask"].bool(), strict=True)
    return [tuple(ids[mask].tolist()) for ids, mask in pairs]


def compare(pair: dict[str, trl.GRPOTrainer], batches: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The largest differences of log-probs and gradients on the same completions."""
    theirs, ours = (completion_logps(trainer, batches[name]) for name, trainer in pair.items())
    differences = torch.cat([ours[completion] - theirs[completion] for completion in theirs])
    for name, trainer in pair.items():
        update(trainer, batches[name])
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
    return torch.zeros_like(parameter).float() if parameter.grad is None else parameter.grad.float()


def completion_logps(trainer: trl.GRPOTrainer, batch: dict[str, Any]) -> dict[tuple[int, ...], torch.Tensor]:
    """Log-probs of each completion's tokens, read off the loss, so that whatever computes it is what is compared.

    With advantages 1 and old log-probs 0 the loss is -sum(exp(logp)) / N over all N tokens (a ratio under 1 + epsilon
    is not clipped), and its derivative by a token's old log-prob is exp(logp) / N.
    """
    mask = batch["completion_mask"].bool()
    old = torch.zeros(mask.shape, device=mask.device, requires_grad=True)
    probe = batch | {"advantages": torch.ones_like(batch["advantages"]), "old_per_token_logps": old}
    with trainer.compute_loss_context_manager():
        (slope,) = torch.autograd.grad(trainer.compute_loss(trainer.model, probe), old)
    rows = zip(completions_of(batch), (slope * mask.sum()).log(), mask, strict=True)
    return {completion: logps[kept] for completion, logps, kept in rows}


def about(args: argparse.Namespace) -> dict[str, Any]:
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
        "peak_definition": PEAK,
    }


def show(report: dict[str, Any], shape: Shape, args: argparse.Namespace) -> None:
    table = Table(title=f"{args.size}, {args.dtype}, {args.device}: TRL {trl.__version__} and ours")
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
    parser.add_argument("--size", choices=SIZES, default="tiny")
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
    shape = Shape(args.image_tokens, args.text_tokens, args.completion, args.group, args.prompts)
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task("model and prompts", total=2 + len(args.measure))
        processor = load_processor(VLMConfig(model_name_or_path=str(TINY)), TaskArguments(max_pixels=1 << 40))
        batches = 2 + 2 * (1 + args.repeats)  # agreement and updates, rollouts, steps, and one that a loader is ahead
        try:
            records = make_records(shape, processor, Path(folder), batches * shape.prompts, args.seed)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        pair = make_trainers(args, shape, records, processor, Path(folder))
        rows = {name: rows_of(trainer) for name, trainer in pair.items()}
        bar.update(work, description="agreement", advance=1)
        given = draw_completions(shape, args.ragged, args.seed)
        fixed = {name: given_batch(trainer, next(rows[name]), given) for name, trainer in pair.items()}
        report = about(args) | compare(pair, fixed)
        todo: dict[str, Callable[[str], None]] = {
            "update": lambda name: update(pair[name], fixed[name]),
            "rollout": lambda name: rollout(pair[name], rows[name], shape),
            "step": lambda name: step(pair[name], rows[name]),
        }
        for what in (what for what in todo if what in args.measure):
            bar.update(work, description=what, advance=1)
            report[what] = measure(pair, todo[what], args.device, args.repeats)
            report[what]["completions_per_second"] = shape.rows / report[what]["ours_seconds"]
    show(report, shape, args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
