"""Says whether a model can roll out by a vLLM engine on the run's own GPUs, and with which share of their memory.

    python -m open_r1.plan.colocated --model Qwen/Qwen2.5-VL-3B-Instruct --bf16 --gpus 8 --gpu_memory 80 --batch 8 ...

`open_r1.config.rollouts` asks this of a recipe. The last line printed is JSON: `refused`, a reason or null, and
`share`, null where there is no plan. The engine sleeps while the policy learns. Other flags are `open_r1.plan`'s.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from open_r1.errors import UsageError
from open_r1.models.lora import adapter_config
from open_r1.plan.cli import DTYPES, plan_parser, planned_run, search
from open_r1.plan.dims import read_dims
from open_r1.plan.memory import GIB
from open_r1.plan.settings import ENGINES


def colocated_parser() -> argparse.ArgumentParser:
    """The flags that are vLLM's or training's; what is left is the planner's."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.plan.colocated", allow_abbrev=False)
    parser.add_argument("--model", required=True, help="model folder or hub name, or an adapter")
    parser.add_argument("--model_revision", help="commit, tag or branch of the model")
    parser.add_argument("--vllm_model_impl", default="vllm", help="vllm, or transformers")
    parser.add_argument("--trust_remote_code", default="false", help="run code that the model brings")
    parser.add_argument("--bf16", action="store_true", help="computes in bfloat16")
    parser.add_argument("--fp16", action="store_true", help="computes in float16")
    parser.add_argument("--dtype", help="of weights without DeepSpeed")
    parser.add_argument("--deepspeed", help="DeepSpeed's file")
    parser.add_argument("--gpu_memory", type=float, help="GiB of a GPU; without it nothing is planned")
    return parser


def engine_name(deepspeed: str | None) -> str | None:
    """The planner's name of the engine of DeepSpeed's file; None for a file that it does not know.

    >>> engine_name("local_scripts/zero3.json"), engine_name(None), engine_name("mine.json")
    ('zero3', 'none', None)
    """
    if deepspeed is None:
        return "none"
    return next((name for name, engine in ENGINES.items() if engine.file == deepspeed), None)


def planned_share(model: str, args: argparse.Namespace, words: Sequence[str]) -> tuple[str | None, str | None]:
    """(why the plan does not fit, or None; the share of a GPU that vLLM needs, None without a plan)."""
    engine = engine_name(args.deepspeed)
    if engine is None or args.gpu_memory is None:
        return None, None
    dtype = ["--dtype", args.dtype if args.dtype in DTYPES else "bfloat16"] if args.dtype else []
    flags = [*words, *dtype, "--model", model, "--engine", engine, "--gpu_memory", str(args.gpu_memory)]
    plan = plan_parser().parse_args([*flags, "--use_vllm", "--vllm_enable_sleep_mode"])
    try:
        dims, config = read_dims(model)
        run = planned_run(plan, config)
    except UsageError:  # a family without a plan; its rollouts need none
        return None, None
    planned, least, _ = search(dims, plan, run)
    if least is None:  # DeepSpeed on one GPU, where it shards nothing, has no plan
        return None, None
    if planned is None:
        return f"with vLLM it needs {least.peak / GIB:.0f} GiB of a GPU of {args.gpu_memory:.0f}, as planned", None
    return None, f"{planned.run.vllm_memory_share:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    from open_r1.rollout.vllm.offline import reason_against, set_in_process_environment  # imports vLLM

    args, words = colocated_parser().parse_known_args(argv)
    set_in_process_environment()
    share = None
    try:
        name, revision = args.model, args.model_revision
        if adapter := adapter_config(name, revision):
            name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
        options = {"model_impl": args.vllm_model_impl, "trust_remote_code": args.trust_remote_code.lower() == "true"}
        refused = reason_against(name, args.bf16 or args.fp16, revision=revision, **options)
        if refused is None:
            refused, share = planned_share(name, args, words)
    except UsageError as error:  # of a model that cannot be read: the run says the same
        refused = str(error)
    print(json.dumps({"refused": refused, "share": share}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
