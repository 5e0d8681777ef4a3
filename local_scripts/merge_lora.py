"""Merge a LoRA adapter into its base model: a plain model folder for vLLM, or for training with a new adapter.

    python local_scripts/merge_lora.py output/my-run/checkpoint --out output/my-run/merged

The folder holds weights, generation configuration, processor, chat template, pixel limits and recipe. Weights are
merged in float32 and written in the base model's type, or `--dtype`. An existing folder is refused.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel

from open_r1.errors import UsageError
from open_r1.models.configuration import read_config
from open_r1.models.loading import processor_source, read_processor
from open_r1.models.lora import adapter_config, adapter_counts, load_adapter
from open_r1.models.saving import save_side_files, save_weights, side_files
from open_r1.report.next_steps import ending, flags_of_run, next_evaluation
from open_r1.tasks.recipe import copy_recipe


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", help="folder or hub name of a LoRA adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--base", help="hub name or folder of the base model; default: the one the adapter names")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the base model's type")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the base model")
    return parser


def merge(args: argparse.Namespace) -> str:
    """Write `args.out`; returns a summary in words. Raises UsageError where the flags do not allow it."""
    config = adapter_config(args.adapter)
    if config is None:
        raise UsageError(f"ADAPTER: got {args.adapter}, which has no adapter_config.json, expected a LoRA adapter")
    if args.out.exists():
        raise UsageError(f"--out: got {args.out}, which exists, expected a new folder; nothing is overwritten")
    base, code = args.base or config["base_model_name_or_path"], {"trust_remote_code": args.trust_remote_code}
    model = load_adapter(args.adapter, base, dtype=torch.float32, **code)
    layers = adapter_counts(model)
    dtype = args.dtype or str(read_config(base, **code).dtype or "float32").removeprefix("torch.")
    merged = model.merge_and_unload(safe_merge=True).to(getattr(torch, dtype))
    save(merged, args)
    count = ", ".join(f"{number} {kind}" for kind, number in layers.items())
    return f"{args.out}: {base} with {args.adapter} merged in ({count}), {dtype}"


def save(model: PreTrainedModel, args: argparse.Namespace) -> None:
    """Write model and processor to a folder that gets its name when both are complete."""
    name, revision = processor_source(args.adapter)
    if args.base and name != args.adapter:
        name, revision = args.base, None
    processor = read_processor(name, revision, args.trust_remote_code)
    partial = args.out.with_name(f"{args.out.name}.partial")
    save_weights(model, partial)
    recipe = {"recipe.json": lambda folder: copy_recipe(args.adapter, folder)}
    save_side_files({**side_files(model, processor), **recipe}, partial)
    partial.rename(args.out)


def main() -> None:
    try:
        args = options().parse_args()
        print(merge(args))
        flags = flags_of_run(args.adapter) | {"trust_remote_code": args.trust_remote_code}
        print(ending("", {"next": next_evaluation(args.out, args.out.with_name(f"{args.out.name}-eval"), flags)}))
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
