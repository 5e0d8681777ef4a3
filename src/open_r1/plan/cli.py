"""The memory planner's command: what a run needs, and flags under which it fits, from the model's configuration.

    python -m open_r1.plan --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 8 --gpu_memory 80 --max_pixels 1003520 \
        --completion 1024 --group 8

No weights are read. Rollout and training come one after the other, so each has its own bar, and the larger one must
fit with a tenth to spare. --engine, --batch and --gradient_checkpointing stay as given, else they are searched, the
fastest way first; the global batch stays. Exit status 0: it fits; 1: nothing fits, and what would; 2: wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from open_r1.config.video_flags import BY_DEFAULT
from open_r1.errors import UsageError
from open_r1.plan.config_numbers import vision_config_of
from open_r1.plan.dims import Dims, read_dims
from open_r1.plan.gpus import gpu_of
from open_r1.plan.media import TILES, per_image, per_video
from open_r1.plan.memory import GIB, total_bytes
from open_r1.plan.optimizers import state_bytes_of
from open_r1.plan.propose import SLOWER, Planned, gpus_needed, propose, training_flags
from open_r1.plan.settings import ADAMW, ENGINES, FLOAT, PlannedRun
from open_r1.plan.states import trained_parameters
from open_r1.plan.tables import engine_table, memory_bar
from open_r1.plan.with_tools import add_planned_tools, check_tool_flags, has_tools, limit_of, tool_patches, tool_words

DTYPES = {"float32": 4, "bfloat16": 2}


def plan_parser() -> argparse.ArgumentParser:
    """The flags of the planner; those shared with training have the same names."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.plan", description="Plans the memory of a GRPO run.")
    number = {"type": positive}
    parser.add_argument("--model", required=True, help="model folder or hub name; its configuration is read")
    parser.add_argument("--gpus", default=1, **number, help="GPUs in all (default 1)")
    parser.add_argument("--nodes", default=1, **number, help="machines that they are in (default 1)")
    parser.add_argument("--gpu", help="the GPU by name, t4, 4090, l40s, a100-80, h100, ...: its memory")
    parser.add_argument("--gpu_memory", type=float, help="GiB of a GPU, as it is sold (default: --gpu's, else 80)")
    parser.add_argument("--host_memory", type=float, help="GiB of main memory of a node (default: not checked)")
    parser.add_argument("--max_pixels", default=1003520, **number, help="largest image area (default 1003520)")
    parser.add_argument("--images_per_row", type=int, default=1, help="images of a prompt (default 1)")
    parser.add_argument("--image_tokens", **number, help="tokens of an image, where the family resizes in its own way")
    parser.add_argument("--max_anyres_num", default=TILES, **number, help="most tiles of an image (default 12)")
    parser.add_argument("--videos_per_row", type=int, default=0, help="videos of a prompt (default 0)")
    most, largest = BY_DEFAULT.max_frames, BY_DEFAULT.max_pixels
    parser.add_argument("--video_max_frames", default=most, **number, help=f"most frames of a video (default {most})")
    parser.add_argument("--video_max_pixels", default=largest, **number, help=f"of a frame (default {largest})")
    parser.add_argument("--prompt_text_tokens", default=256, **number, help="prompt tokens but images (default 256)")
    parser.add_argument("--completion", default=1024, **number, help="--max_completion_length (default 1024)")
    parser.add_argument("--group", default=8, **number, help="--num_generations (default 8)")
    parser.add_argument("--global_batch", default=128, **number, help="completions of a step (default 128)")
    parser.add_argument("--tokens_per_forward", **number, help="most tokens of a pass over a part of a batch")
    parser.add_argument("--batch", **number, help="--per_device_train_batch_size (default: searched)")
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), help="none, or a file of local_scripts (default: searched)"
    )
    parser.add_argument("--gradient_checkpointing", choices=("true", "false"), help="default: searched")
    parser.add_argument("--beta", type=float, default=0.04, help="above 0 a reference model is held (default 0.04)")
    parser.add_argument("--use_peft", action="store_true", help="LoRA: adapters train, the model does not")
    parser.add_argument("--lora_r", default=64, **number, help="rank of the adapters (default 64)")
    parser.add_argument("--load_in_4bit", action="store_true", help="the base model under LoRA has 4 bits a weight")
    parser.add_argument("--use_bnb_nested_quant", action="store_true", help="scales of 4-bit weights in 8 bits")
    parser.add_argument("--optim", default=ADAMW, help=f"the optimizer (default {ADAMW}), adamw_8bit, ...")
    parser.add_argument("--freeze_vision_modules", action="store_true", help="the vision tower does not train")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="of weights without DeepSpeed (default float32; LoRA bfloat16)"
    )
    parser.add_argument("--use_vllm", action="store_true", help="rollouts by vLLM")
    parser.add_argument("--vllm_mode", choices=("colocate", "server"), default="colocate")
    parser.add_argument("--vllm_enable_sleep_mode", action="store_true", help="vLLM leaves the GPU while training")
    parser.add_argument("--vllm_gpu_memory_utilization", type=float, help="vLLM's share (default: what it needs)")
    parser.add_argument("--vllm_tensor_parallel_size", default=1, **number, help="GPUs that share vLLM's weights")
    add_planned_tools(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    return parser


def positive(text: str) -> int:
    """A flag's value as a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return int(text)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UsageError for values that do not go together; fills in the memory of the GPU."""
    if args.gpu_memory is None:
        args.gpu_memory = gpu_of(args.gpu).memory if args.gpu else 80
    elif args.gpu:
        raise UsageError("--gpu_memory: got a number beside --gpu, whose memory is known; leave one out")
    state_bytes_of(args.optim, FLOAT)
    check_tool_flags(args)
    if args.load_in_4bit and not args.use_peft:
        raise UsageError("--load_in_4bit: got no --use_peft, expected it: a base in 4 bits does not train; add it")
    if args.use_bnb_nested_quant and not args.load_in_4bit:
        raise UsageError("--use_bnb_nested_quant: got no --load_in_4bit, whose scales it rounds; add it")
    stage = ENGINES[args.engine].stage if args.engine else 0
    if args.load_in_4bit and stage == 3:
        raise UsageError(f"--load_in_4bit: got --engine {args.engine}, which cuts weights; 4-bit ones stay whole")
    if args.tokens_per_forward and stage == 3:
        raise UsageError(
            f"--tokens_per_forward: got --engine {args.engine}, whose ranks make their passes together; choose another"
        )
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
    """The run that the flags describe; `search` varies batch, engine and checkpointing where they are not given."""
    patches, tokens = (0, 0)
    if args.images_per_row:
        patches, tokens = per_image(config, args.max_pixels, args.image_tokens, args.max_anyres_num, args.model)
    of_video, seen = (0, 0)
    if args.videos_per_row:
        of_video, seen = per_video(config, args.video_max_frames, args.video_max_pixels, args.image_tokens, args.model)
    shown, area = (0, min(args.max_pixels, args.max_tool_pixels or args.max_pixels))
    if has_tools(args):
        given = (args.image_tokens, args.max_anyres_num, args.model)
        shown = tool_patches(config, args.completion, limit_of(args, "max_tool_images") or 0, area, *given)
    batch = args.batch or args.group
    return PlannedRun(
        prompt_tokens=args.images_per_row * tokens + args.videos_per_row * seen + args.prompt_text_tokens,
        patches_per_prompt=args.images_per_row * patches + args.videos_per_row * of_video,
        completion_tokens=args.completion,
        group_size=args.group,
        batch_completions=batch,
        accumulation_steps=args.global_batch // (args.gpus * batch),
        tokens_per_forward=args.tokens_per_forward,
        gpus=args.gpus,
        nodes=args.nodes,
        bytes_per_weight=DTYPES[args.dtype or ("bfloat16" if args.use_peft else "float32")],
        gradient_checkpointing=args.gradient_checkpointing != "false",
        reference_model=args.beta > 0,
        lora_r=args.lora_r if args.use_peft else 0,
        four_bit=args.load_in_4bit,
        nested_scales=args.use_bnb_nested_quant,
        optim=args.optim,
        freeze_vision=args.freeze_vision_modules,
        vllm_mode=args.vllm_mode if args.use_vllm else None,
        vllm_memory_share=args.vllm_gpu_memory_utilization or 0.3,
        vllm_sleep_mode=args.vllm_enable_sleep_mode,
        tools=has_tools(args),
        patches_per_completion=shown,
        device_bytes=args.gpu_memory * GIB,
    )


def engines_for(run: PlannedRun) -> tuple[str, ...]:
    """The engines to try, the fastest first: all but ZeRO-3 for what it refuses."""
    return tuple(name for name in SLOWER if ENGINES[name].stage < 3 or not run.refuses_zero3)


def search(
    dims: Dims, args: argparse.Namespace, run: PlannedRun
) -> tuple[Planned | None, Planned | None, dict[str, Any]]:
    """(the fastest plan that fits, the one with the smallest peak, the options of the search); see `propose`."""
    options = {
        "engines": (args.engine,) if args.engine else engines_for(run),
        "checkpointing": {"true": (True,), "false": (False,)}.get(args.gradient_checkpointing, (False, True)),
        "host_bytes": args.host_memory * GIB if args.host_memory else None,
        "tensor_parallel": args.vllm_tensor_parallel_size,
        "batch": args.batch,
        "vllm_share": args.vllm_gpu_memory_utilization,
    }
    return *propose(dims, run, args.global_batch, **options), options


def command(planned: Planned, args: argparse.Namespace) -> list[str]:
    """The flags of a training script for this setting, the planner's own --max_pixels and --beta included."""
    by_area = args.images_per_row and hasattr(vision_config_of(read_dims(args.model)[1]), "spatial_merge_size")
    pixels = f"--max_pixels {args.max_pixels} " if by_area and not args.image_tokens else ""
    if args.videos_per_row:
        pixels += f"--video_max_frames {args.video_max_frames} --video_max_pixels {args.video_max_pixels} "
    return [*training_flags(planned), *filter(None, [tool_words(args)]), f"{pixels}--beta {args.beta:g}"]


def show_plan(console: Console, dims: Dims, args: argparse.Namespace, run: PlannedRun) -> int:
    """Tables, bars, flags; returns the exit status."""
    console.print(
        f"{args.model}: {dims.parameters / 1e9:.2f} B parameters (vision {dims.vision.parameters / 1e9:.2f} B), "
        f"{trained_parameters(dims, run) / 1e9:.3g} B trained; prompt {run.prompt_tokens:,} tokens, "
        f"{run.patches_per_prompt:,} patches"
    )
    planned, least, options = search(dims, args, run)
    if least is None:
        raise UsageError("--engine: nothing to shard on one GPU; choose none, zero2_offload or zero3_offload")
    console.print(engine_table(dims, least.run, options))
    console.print(memory_bar("rollout", least.rollout, run.device_bytes, "a GPU"))
    console.print(memory_bar("training", least.training, run.device_bytes, "a GPU"))
    host_limit = options["host_bytes"] or total_bytes(least.host)
    console.print(
        memory_bar("host", least.host, host_limit, "a node" if options["host_bytes"] else "a node (not checked)")
    )
    if planned:
        console.print("\nThese flags fit:")
        for line in command(planned, args):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
        if args.gpu and not gpu_of(args.gpu).bfloat16:
            console.print(f"A {args.gpu} has no bfloat16: take --fp16 true and --dtype float16", highlight=False)
        return 0
    console.print("\n" + shortfall(dims, args, run, least, options), highlight=False, soft_wrap=True)
    return 1


def shortfall(dims: Dims, args: argparse.Namespace, run: PlannedRun, least: Planned, options: dict[str, Any]) -> str:
    """The message that nothing fits: the smallest need, and how many such GPUs suffice."""
    need = f"{least.peak / GIB:.1f} GiB a GPU and {total_bytes(least.host) / GIB:.0f} GiB a node's main memory"
    gpus = gpus_needed(dims, run, args.global_batch, **options)
    enough = f"{gpus} GPUs of {args.gpu_memory:g} GiB would do" if gpus else "more GPUs of this size do not help"
    return (
        f"Nothing fits {args.gpus} x {args.gpu_memory:g} GiB. The smallest need is {need}, with "
        f"{'; '.join(command(least, args))}. {enough}; fewer --max_pixels, a shorter --completion, --use_peft or "
        f"--beta 0 need less."
    )


def plan_as_json(dims: Dims, args: argparse.Namespace, planned: Planned | None, least: Planned | None) -> str:
    """The chosen setting as JSON: its flags, bytes by part, totals."""
    choice = planned or least
    assert choice is not None
    peaks = {"rollout": choice.rollout, "training": choice.training, "host": choice.host}
    facts = {"fits": planned is not None, "flags": command(choice, args), "parameters": dims.parameters}
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
        planned, least, _ = search(dims, args, run)
        print(plan_as_json(dims, args, planned, least))
        return 0 if planned else 1
    except (UsageError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
