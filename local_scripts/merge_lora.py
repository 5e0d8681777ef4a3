"""Merge a LoRA adapter into its base model: a plain model folder for vLLM, or for training with a new adapter.

    python local_scripts/merge_lora.py output/my-run/checkpoint --out output/my-run/merged

The folder holds weights, generation configuration, processor, chat template, pixel limits and recipe. Weights are
merged in float32 and written in the base model's type, or `--dtype`. An existing folder is refused.

An adapter of a run with `--load_in_4bit` is merged into the base model's whole weights, which it was not trained
around: the last line says by how much log-probs differ, of the tokens of the run's prompt beside a picture.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.models.banned_tokens import image_token_ids
from open_r1.models.configuration import read_config
from open_r1.models.loading import processor_source, read_processor
from open_r1.models.lora import adapter_config, adapter_counts, load_adapter
from open_r1.models.model_parts import bare_model
from open_r1.models.quantization import FourBit, recorded_four_bit
from open_r1.models.saving import save_side_files, save_weights, side_files
from open_r1.report.next_steps import ending, flags_of_run, next_evaluation
from open_r1.tasks.recipe import copy_recipe, read_recipe
from open_r1.tasks.registry import TASKS

WHOLE = {"dtype": torch.float32}


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
    processor = processor_of(args)
    four_bit = recorded_four_bit(args.adapter)
    as_trained = four_bit and prompt_log_probs(
        load_adapter(args.adapter, base, four_bit=four_bit, **WHOLE, **code), processor, args
    )
    model = load_adapter(args.adapter, base, **WHOLE, **code)
    layers = adapter_counts(model)
    dtype = args.dtype or str(read_config(base, **code).dtype or "float32").removeprefix("torch.")
    merged = model.merge_and_unload(safe_merge=True)
    difference = (
        "" if as_trained is None else difference_text(prompt_log_probs(merged, processor, args) - as_trained, four_bit)
    )
    save(merged.to(getattr(torch, dtype)), processor, args)
    count = ", ".join(f"{number} {kind}" for kind, number in layers.items())
    return f"{args.out}: {base} with {args.adapter} merged in ({count}), {dtype}{difference}"


def processor_of(args: argparse.Namespace) -> ProcessorMixin:
    """The adapter's own processor; without one, that of the base model."""
    name, revision = processor_source(args.adapter)
    if args.base and name != args.adapter:
        name, revision = args.base, None
    return read_processor(name, revision, args.trust_remote_code)


@torch.no_grad()
def prompt_log_probs(model: torch.nn.Module, processor: ProcessorMixin, args: argparse.Namespace) -> torch.Tensor:
    """(T,) log-probs of the text tokens of the run's prompt, beside a made-up picture."""
    recipe = read_recipe(args.adapter)
    task = TASKS.get(recipe.task_type or "", TASKS["default"])  # of a task in a file, whose code does not run here
    prompt = recipe.prompt_template or task.prompts[recipe.prompt_mode or "think"]
    text = prompt.replace("{question}", "What is in this picture?")
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    picture = Image.linear_gradient("L").convert("RGB")
    inputs = processor(text=processor.apply_chat_template(chat), images=[[picture]], return_tensors="pt")
    ids = inputs["input_ids"][0, 1:]
    log_probs = model.eval()(**inputs).logits[0, :-1].log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    return log_probs[~torch.isin(ids, torch.tensor(image_token_ids(bare_model(model).config, processor)))]


def difference_text(difference: torch.Tensor, four_bit: FourBit) -> str:
    """Differences of log-probs in words."""
    return (
        f"\nthe adapter was trained around {four_bit}: log-probs of the prompt's {len(difference)} text tokens differ "
        f"by {difference.abs().mean():.3g} on average, {difference.abs().max():.3g} at most; evaluate the merged model"
    )


def save(model: PreTrainedModel, processor: ProcessorMixin, args: argparse.Namespace) -> None:
    """Write model and processor to a folder that gets its name when both are complete."""
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
