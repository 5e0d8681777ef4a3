"""Convert a DeepSpeed checkpoint to a plain model folder in float32, from the master weights of its ranks.

    python local_scripts/consolidate_zero.py output/my-run/checkpoint-100 output/my-run/merged

`checkpoint-N` is itself a model folder where `stage3_gather_16bit_weights_on_model_save` was on (as in the files
beside this script), in the training type. This script is for the float32 master weights, and for runs without it.
DeepSpeed's own `zero_to_fp32.py` reads the same files, but fails to write safetensors of a model with tied
embeddings, and runs code inside the files; this script accepts files with weights only.
"""

import argparse
import sys
from pathlib import Path
from pickle import UnpicklingError  # nosec B403 # the exception alone

import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from open_r1.config.remote_code import load_weights_only
from open_r1.models.generation_defaults import make_savable
from open_r1.models.saving import save_side_files, save_weights, side_files
from open_r1.tasks.recipe import copy_recipe


def consolidate(checkpoint: Path, out: Path) -> None:
    """Write model and processor to `out`. Raises ValueError for weights of other names than the model's, and
    UnpicklingError for a file that holds more than weights."""
    load_weights_only()
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    result = model.load_state_dict(get_fp32_state_dict_from_zero_checkpoint(checkpoint), strict=False, assign=True)
    model.tie_weights()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing or result.unexpected_keys:
        raise ValueError(
            f"{checkpoint}: missing {missing[:3]}, unexpected {result.unexpected_keys[:3]}; expected all weights of a "
            f"{config.model_type}. A LoRA checkpoint holds its adapter ready to use: merge that instead"
        )
    if (checkpoint / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint)
        make_savable(model, str(checkpoint))
    save_weights(model, out)
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
    recipe = {"recipe.json": lambda folder: copy_recipe(str(checkpoint), folder)}
    save_side_files({**side_files(model, processor), **recipe}, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    if not (args.checkpoint / "latest").is_file() or not (args.checkpoint / "config.json").is_file():
        sys.exit(f"{args.checkpoint}: expected a checkpoint-N of a DeepSpeed run, with config.json and `latest` in it")
    try:
        consolidate(args.checkpoint, args.out)
    except UnpicklingError as error:
        sys.exit(f"{args.checkpoint}: got a file that holds code, expected weights alone; do not use it\n{error}")
    except ValueError as error:
        sys.exit(str(error))
    sys.stderr.write(f"{args.out}: float32 weights, configuration and processor\n")


if __name__ == "__main__":
    main()
