"""The memory planner: what a run needs, and flags under which it fits, from the model's configuration alone.

    python -m open_r1.plan --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 8 --gpu_memory 80 --max_pixels 1003520 \
        --completion 1024 --group 8

No weights are read. Rollout and training come one after the other, so each has its own bar, and the larger one must
fit with a tenth to spare. What is given (--engine, --batch, --gradient_checkpointing) is kept, the rest is searched,
the fastest way first, and the global batch stays. Exit status 0: it fits; 1: nothing does, and how much would; 2:
wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from open_r1.errors import UsageError
from open_r1.plan.dims import TILES, Dims, per_image, read_dims
from open_r1.plan.memory import GIB, total_bytes, trained
from open_r1.plan.propose import SLOWER, SPARE, Planned, flags, gpus_needed, plan, propose, with_vllm
from open_r1.plan.settings import ENGINES, PlannedRun

WIDTH = 60  # columns of a bar that is a device's whole memory
COLOURS = ("blue", "cyan", "green", "magenta", "yellow", "red", "bright_blue", "bright_cyan", "bright_black", "white")
DTYPES = {"float32": 4, "bfloat16": 2}


def plan_parser() -> argparse.ArgumentParser:
    """The flags of the planner; those shared with training have the same names."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.plan", description="Plans the memory of a GRPO run.")
    number = {"type": positive}
    parser.add_argument("--model", required=True, help="model folder or hub name; its configuration is read")
    parser.add_argument("--gpus", default=1, **number, help="GPUs in all (default 1)")
    parser.add_argument("--nodes", default=1, **number, help="machines that they are in (default 1)")
    parser.add_argument("--gpu_memory", type=float, default=80, help="GiB of a GPU, as it is sold (default 80)")
    parser.add_argument("--host_memory", type=float, help="GiB of main memory of a node (default: not checked)")
    parser.add_argument("--max_pixels", default=1003520, **number, help="largest image area (default 1003520)")
    parser.add_argument("--images_per_row", type=int, default=1, help="images of a prompt (default 1)")
    parser.add_argument("--image_tokens", **number, help="tokens of an image, where the family resizes in its own way")
    parser.add_argument("--max_anyres_num", default=TILES, **number, help="most tiles of an image (default 12)")
    parser.add_argument("--prompt_text_tokens", default=256, **number, help="prompt tokens but images (default 256)")
    parser.add_argument("--completion", default=1024, **number, help="--max_completion_length (default 1024)")
    parser.add_argument("--group", default=8, **number, help="--num_generations (default 8)")
    parser.add_argument("--global_batch", default=128, **number, help="completions of a step (default 128)")
    parser.add_argument("--batch", **number, help="--per_device_train_batch_size (default: searched)")
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), help="none, or a file of local_scripts (default: searched)"
    )
    parser.add_argument("--gradient_checkpointing", choices=("true", "false"), help="default: searched")
    parser.add_argument("--beta", type=float, default=0.04, help="above 0 a reference model is held (default 0.04)")
    parser.add_argument("--use_peft", action="store_true", help="LoRA: adapters train, the model does not")
    parser.add_argument("--lora_r", default=64, **number, help="rank of the adapters (default 64)")
    parser.add_argument("--freeze_vision_modules", action="store_true", help="the vision tower does not train")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of weights without DeepSpeed (default float32; LoRA bfloat16)"
    )
    parser.add_argument("--use_vllm", action="store_true", help="rollouts by vLLM")
    parser.add_argument("--vllm_mode", choices=("colocate", "server"), default="colocate")
    parser.add_argument("--vllm_enable_sleep_mode", action="store_true", help="vLLM leaves the GPU while training")
    parser.add_argument("--vllm_gpu_memory_utilization", type=float, help="vLLM's share (default: what it needs)")
    parser.add_argument("--vllm_tensor_parallel_size", default=1, **number, help="GPUs that share vLLM's weights")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    return parser


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return int(text)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UsageError for values that do not go together."""
    if args.gpus % args.nodes:
        raise UsageError(f"--gpus: got {args.gpus}, expected a multiple of --nodes {args.nodes}: all GPUs together")
    if args.batch and args.batch % args.group:
        raise UsageError(
            f"--batch: got {args.batch}, expected a multiple of --group {args.group}: it counts completions"
        )
    split = args.gpus * (args.batch or args.group)
    if args.global_batch % split:
        near = max(1, round(args.global_batch / split)) * split
        raise UsageError(
            f"--global_batch: got {args.global_batch}, expected a multiple of {split}: --gpus {args.gpus} x "
            f"{args.batch or args.group} completions; set --global_batch {near}"
        )


def planned_run(args: argparse.Namespace, config: Any) -> PlannedRun:
    """What the flags fix; batch, engine and checkpointing are as given, or still to be searched."""
    patches, tokens = (0, 0)
    if args.images_per_row:
        patches, tokens = per_image(config, args.max_pixels, args.image_tokens, args.max_anyres_num)
    batch = args.batch or args.group
    return PlannedRun(
        prompt=args.images_per_row * tokens + args.prompt_text_tokens,
        patches=args.images_per_row * patches,
        completion=args.completion,
        group=args.group,
        batch=batch,
        steps=args.global_batch // (args.gpus * batch),
        gpus=args.gpus,
        nodes=args.nodes,
        weights=DTYPES[args.dtype or ("bfloat16" if args.use_peft else "float32")],
        checkpointing=args.gradient_checkpointing != "false",
        reference=args.beta > 0,
        lora_r=args.lora_r if args.use_peft else 0,
        freeze_vision=args.freeze_vision_modules,
        vllm=args.vllm_mode if args.use_vllm else None,
        vllm_share=args.vllm_gpu_memory_utilization or 0.3,
        vllm_sleep=args.vllm_enable_sleep_mode,
        device_bytes=args.gpu_memory * GIB,
    )


def search(
    dims: Dims, args: argparse.Namespace, run: PlannedRun
) -> tuple[Planned | None, Planned | None, dict[str, Any]]:
    """(what fits, what needs least, the options of the search)."""
    options = {
        "engines": (args.engine,) if args.engine else tuple(SLOWER),
        "checkpointing": {"true": (True,), "false": (False,)}.get(args.gradient_checkpointing, (False, True)),
        "host_bytes": args.host_memory * GIB if args.host_memory else None,
        "tensor_parallel": args.vllm_tensor_parallel_size,
        "batch": args.batch,
        "vllm_share": args.vllm_gpu_memory_utilization,
    }
    return *propose(dims, run, args.global_batch, **options), options


def command(planned: Planned, args: argparse.Namespace) -> list[str]:
    """The flags that make this setting, those asked for included."""
    by_area = args.images_per_row and hasattr(read_dims(args.model)[1].vision_config, "spatial_merge_size")
    asked = f"--beta {args.beta:g}"
    return [*flags(planned), f"--max_pixels {args.max_pixels} {asked}" if by_area and not args.image_tokens else asked]


def engine_table(dims: Dims, base: PlannedRun, options: dict[str, Any]) -> Table:
    """Every engine with the same batch: peaks with gradient checkpointing and without."""
    table = Table(title=f"GiB a GPU; batch {base.batch}, accumulation {base.steps}")
    for name in ("engine", "rollout", "training, checkpointing", "training, without", "host memory of a node"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for engine in ENGINES.values():
        weights = base.compute if engine.deepspeed else base.weights
        setting = replace(base, engine=engine, weights=weights)
        runs = [replace(setting, checkpointing=how) for how in (True, False)]
        with_, without = (
            plan(dims, with_vllm(dims, r, options["tensor_parallel"], options["vllm_share"])) for r in runs
        )
        peaks = (with_.rollout, with_.training, without.training)
        fits = [total_bytes(parts) <= (1 - SPARE) * base.device_bytes for parts in peaks]
        cells = [
            Text(f"{total_bytes(p) / GIB:.1f}", "green" if ok else "red") for p, ok in zip(peaks, fits, strict=True)
        ]
        table.add_row(engine.name, *cells, f"{total_bytes(with_.host) / GIB:.0f}")
    return table


def memory_bar(name: str, parts: dict[str, float], limit: float, unit: str) -> Text:
    """One moment as a stacked bar on the scale of `limit` bytes, and its parts in words."""
    shown = [(part, size) for part, size in parts.items() if size >= limit / 1000]
    text = Text(f"{name:<9}{total_bytes(parts) / GIB:8.1f} of {limit / GIB:.0f} GiB {unit}  ")
    colours = dict(zip(parts, COLOURS * 2, strict=False))
    for part, size in shown:
        text.append("█" * round(min(1.5, size / limit) * WIDTH), colours[part])
    text.append("\n         ")
    for part, size in shown:
        text.append(f" {part} ", colours[part]).append(f"{size / GIB:.1f}")
    return text


def show_plan(console: Console, dims: Dims, args: argparse.Namespace, run: PlannedRun) -> int:
    """Tables, bars, flags; returns the exit status."""
    console.print(
        f"{args.model}: {dims.parameters / 1e9:.2f} B parameters (vision {dims.vision.parameters / 1e9:.2f} B), "
        f"{trained(dims, run) / 1e9:.3g} B trained; prompt {run.prompt:,} tokens, {run.patches:,} patches"
    )
    found, least, options = search(dims, args, run)
    if least is None:
        raise UsageError("--engine: nothing to shard on one GPU; choose none, zero2_offload or zero3_offload")
    console.print(engine_table(dims, least.run, options))
    console.print(memory_bar("rollout", least.rollout, run.device_bytes, "a GPU"))
    console.print(memory_bar("training", least.training, run.device_bytes, "a GPU"))
    host_limit = options["host_bytes"] or total_bytes(least.host)
    console.print(
        memory_bar("host", least.host, host_limit, "a node" if options["host_bytes"] else "a node (not checked)")
    )
    if found:
        console.print("\nThese flags fit:")
        for line in command(found, args):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        return 0
    console.print("\n" + shortfall(dims, args, run, least, options), highlight=False, soft_wrap=True)
    return 1


def shortfall(dims: Dims, args: argparse.Namespace, run: PlannedRun, least: Planned, options: dict[str, Any]) -> str:
    """That nothing fits, what the smallest need is, and on how many such GPUs something would."""
    need = f"{least.peak / GIB:.1f} GiB a GPU and {total_bytes(least.host) / GIB:.0f} GiB a node's main memory"
    gpus = gpus_needed(dims, run, args.global_batch, **options)
    enough = f"{gpus} GPUs of {args.gpu_memory:g} GiB would do" if gpus else "more GPUs of this size do not help"
    return (
        f"Nothing fits {args.gpus} x {args.gpu_memory:g} GiB. The smallest need is {need}, with "
        f"{'; '.join(command(least, args))}. {enough}; fewer --max_pixels, a shorter --completion, --use_peft or "
        f"--beta 0 need less."
    )


def plan_json(dims: Dims, args: argparse.Namespace, planned: Planned | None, least: Planned | None) -> str:
    """The chosen setting, bytes by part, and the flags."""
    shown = planned or least
    assert shown is not None
    peaks = {"rollout": shown.rollout, "training": shown.training, "host": shown.host}
    facts = {"fits": planned is not None, "flags": command(shown, args), "parameters": dims.parameters}
    return json.dumps(facts | {"bytes": peaks, "totals": {name: total_bytes(parts) for name, parts in peaks.items()}})


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = plan_parser()
    args = parser.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a log file need not fold its lines
    try:
        check_arguments(args)
        dims, config = read_dims(args.model)
        run = planned_run(args, config)
        if not args.json:
            return show_plan(console, dims, args, run)
        found, least, _ = search(dims, args, run)
        print(plan_json(dims, args, found, least))
        return 0 if found else 1
    except (UsageError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
