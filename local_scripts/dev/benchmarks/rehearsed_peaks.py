"""Rehearse ten settings of real sizes on CUDA tensors without a GPU, and write their peaks to assets/benchmarks.

    python local_scripts/dev/benchmarks/rehearsed_peaks.py [NUMBER ...]      # all, or those of these numbers, again

`rehearsed_table.py` puts them beside the planner's figures, and `tests/plan` holds the planner to them. It takes
some minutes; settings in 4 bits need bitsandbytes (bash setup.sh --quant). Each setting is one of `SETTINGS` with one
row: a picture of so many tokens and a short question, in groups of 8.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from open_r1.rehearse.flags import parse_rehearsal
from open_r1.rehearse.one_step import rehearse_step
from open_r1.rehearse.step import Step

REPO = Path(__file__).resolve().parents[3]
RESULTS = REPO / "assets/benchmarks/rehearsed_peaks.json"
SIDE = 28  # pixels of an image token of Qwen2.5-VL


@dataclass(frozen=True)
class Setting:
    """A line of the table: size of Qwen2.5-VL, tokens of the picture and of a completion, flags of the run."""

    size: str
    image: int
    completion: int
    flags: str
    name: str


BFLOAT16 = "--dtype bfloat16 --bf16 false"
ALL = "--gradient_checkpointing false"
SETTINGS = (
    Setting("3B", 512, 64, f"{BFLOAT16} {ALL}", "bfloat16"),
    Setting("3B", 512, 64, BFLOAT16, "bfloat16, checkpointing"),
    Setting("3B", 512, 64, f"--bf16 true {ALL}", "float32 under autocast"),
    Setting(
        "3B",
        512,
        256,
        "--bf16 true --per_device_train_batch_size 16",
        "float32 under autocast, checkpointing, two groups",
    ),
    Setting(
        "3B",
        512,
        256,
        f"{BFLOAT16} {ALL} --per_device_train_batch_size 32 --tokens_per_forward 2816",
        "bfloat16, four groups, --tokens_per_forward 2816",
    ),
    Setting("7B", 512, 64, f"{BFLOAT16} {ALL}", "bfloat16"),
    Setting("7B", 1024, 512, f"{BFLOAT16} --beta 0.04", "bfloat16, checkpointing, reference model"),
    Setting("7B", 512, 64, f"--bf16 true --dtype bfloat16 {ALL} --use_peft true --lora_r 64", "LoRA of rank 64"),
    Setting(
        "7B",
        1024,
        512,
        "--bf16 true --dtype bfloat16 --use_peft true --lora_r 64 --gradient_accumulation_steps 2 --beta 0.04",
        "LoRA of rank 64, checkpointing",
    ),
    Setting(
        "7B",
        512,
        512,
        "--bf16 true --use_peft true --lora_r 32 --load_in_4bit true --use_bnb_nested_quant true "
        "--optim adamw_bnb_8bit --freeze_vision_modules true --gradient_accumulation_steps 4 --beta 0.04",
        "4 bits, nested scales, LoRA of rank 32, 8-bit moments, checkpointing",
    ),
)


def rows_of(image: int, count: int, folder: Path) -> Path:
    """A JSONL file of `count` rows with a picture of so many tokens."""
    Image.new("RGB", (SIDE * image // 16, SIDE * 16)).save(folder / "picture.png")
    human = {"from": "human", "value": "<image>Where is the left one of the two cups? Answer with a box."}
    row = {"image": "picture.png", "conversations": [human, {"from": "gpt", "value": "[1, 2, 3, 4]"}]}
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row | {"id": number}) + "\n" for number in range(count)), encoding="utf-8")
    return file


def command_of(setting: Setting, file: Path) -> list[str]:
    """The flags of a setting's rehearsal."""
    model = REPO / "assets/configs" / f"Qwen2.5-VL-{setting.size}"
    shape = "--use_vllm true --num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1"
    shape += f" --max_completion_length {setting.completion} --max_pixels {setting.image * SIDE**2}"
    data = f"--data_file_paths {file} --image_folders {file.parent}"
    return (
        f"--model_name_or_path {model} --processor {REPO / 'assets/tiny-vlm'} {data} {shape} {setting.flags}".split()
    )


def rehearsed(setting: Setting) -> Step:
    """The step of a setting."""
    with TemporaryDirectory() as folder:
        flags = command_of(setting, rows_of(setting.image, 32, Path(folder)))
        return rehearse_step(parse_rehearsal(flags))


def facts_of(setting: Setting, step: Step) -> dict[str, Any]:
    """What is written of a setting: the planner's settings of the run, and the rehearsed peak of an update."""
    run = {name: value for name, value in asdict(step.run).items() if name != "engine"}
    peak = max(step.peak(phase) for phase in ("policy", "optimizer"))
    return {"name": setting.name, "size": setting.size, "flags": setting.flags, "run": run, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, help="settings to rehearse again, counted from 1")
    numbers = parser.parse_args().numbers or range(1, len(SETTINGS) + 1)
    known = json.loads(RESULTS.read_text(encoding="utf-8"))["settings"] if RESULTS.is_file() else {}
    for number in numbers:
        setting = SETTINGS[number - 1]
        known[str(number)] = facts_of(setting, rehearsed(setting))
        print(f"{number}. {setting.size} {setting.name}", known[str(number)]["peak"], file=sys.stderr)
        text = {"command": "python local_scripts/dev/benchmarks/rehearsed_peaks.py", "date": date.today().isoformat()}
        RESULTS.write_text(json.dumps(text | {"settings": known}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
