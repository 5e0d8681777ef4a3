"""Print flags that shrink a recipe to a smoke test: the tiny VLM, eight generated rows of its task, two steps.

    python local_scripts/smoke.py src/open_r1/grpo_jsonl.py --task_type digits ...

`run_scripts/launch.sh` appends them, one a line, to a recipe's own flags when SMOKE is set, so that the recipe runs
the same code on any machine in a minute. Data and output go to a new folder below $SMOKE_DIR (default: output/smoke).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset, Features, Image, Value

ROWS = 8
TINY_OPTIONS = {  # options that make pictures small enough for the tiny VLM; other generators draw small ones
    "decode_words": "--alphabet 6 --size 84 --dark",
    "decode_sequences": "--alphabet 6 --size 84 --dark",
    "area": "--size 112 --dark",
}
STAND_INS = {"default": "counting", "math": "counting"}  # tasks without a generator
CLIPS = "motion"  # of recipes that say how videos are sampled
SMALL = "--max_steps 2 --gradient_accumulation_steps 1 --logging_steps 1 --report_to none"
SMALL_GROUPS = "--num_generations 4 --per_device_train_batch_size 4 --max_completion_length 24"


def make_data(task: str, out: Path) -> None:
    """Generates the rows of a task."""
    script = Path(__file__).with_name("make_dataset.py")
    command = [sys.executable, script, task, "--out", out, "--rows", ROWS, "--heldout_rows", ROWS]
    command += TINY_OPTIONS.get(task, "").split()
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def as_hub_dataset(data: Path) -> Path:
    """The training rows with columns image, problem, solution, as `grpo.py` reads them, with R1-V's answer tags."""
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    columns = [
        {
            "image": str(data / row["image"]),
            "problem": row["conversations"][0]["value"],
            "solution": f"<answer> {row['conversations'][1]['value']} </answer>",
        }
        for row in rows
    ]
    features = Features({"image": Image(), "problem": Value("string"), "solution": Value("string")})
    Dataset.from_list(columns, features=features).save_to_disk(data / "hub")
    return data / "hub"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path)
    parser.add_argument("--task_type")
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--val_split_ratio", type=float)
    parser.add_argument("--video_max_frames", type=int)
    args, _ = parser.parse_known_args()
    task = args.task_type or ("rec" if args.script.stem == "grpo_rec" else "default")
    rows = STAND_INS.get(task, task) if args.video_max_frames is None else CLIPS
    tiny = "assets/tiny-vlm" if args.video_max_frames is None else "assets/tiny-vlm-motion"
    model = args.model_name_or_path if Path(args.model_name_or_path).is_dir() else tiny
    parent = Path(os.environ.get("SMOKE_DIR", "output/smoke"))
    parent.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix=f"{args.script.stem}-{task}-", dir=parent))
    make_data(rows, out / "data")
    flags = ["--model_name_or_path", model, "--output_dir", out, *SMALL.split()]
    flags += SMALL_GROUPS.split() if args.script.stem.startswith("grpo") else ["--per_device_train_batch_size", 2]
    if args.val_split_ratio:
        flags += ["--val_split_ratio", 0.5, "--eval_steps", 2, "--per_device_eval_batch_size", 4]
    if args.script.stem == "grpo":
        flags += ["--dataset_name", as_hub_dataset(out / "data")]
    else:
        flags += ["--data_file_paths", out / "data" / "train.jsonl", "--image_folders", out / "data"]
    if not torch.cuda.is_available():
        flags += ["--use_cpu", "true", "--bf16", "false"]
    print(*flags, sep="\n")


if __name__ == "__main__":
    main()
