"""A small training run of a tiny family through the script that users start, in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.families.prompts import picture
from open_r1 import grpo_jsonl

SIZES = [(56, 56), (112, 64), (48, 96)]
FLAGS = {
    "max_steps": 2,
    "num_generations": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 6,
    "learning_rate": 1e-3,
    "bf16": "false",
    "gradient_checkpointing": "false",
    "save_steps": 2,
    "logging_steps": 1,
    "dataloader_num_workers": 0,
    "box_space": "relative_1000",
}


def make_rows(folder: Path) -> Path:
    """8 rows with one picture, none and two, of different sizes; returns the JSONL file."""
    random = torch.Generator().manual_seed(0)
    for i, size in enumerate(SIZES):
        picture(size, random).save(folder / f"{i}.png")
    images = [[], ["0.png"], ["1.png", "2.png"], ["2.png"]] * 2
    rows = [
        {"id": str(i), "image": shown, "problem": "<image>" * len(shown) + f"What is {i}?", "solution": str(i)}
        for i, shown in enumerate(images)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if v != []}) + "\n" for row in rows))
    return path


def make_reward(folder: Path) -> str:
    """A reward that differs within a group, as a value of --reward_funcs."""
    path = folder / "characters.py"
    path.write_text("def characters(completion, record):\n    return float(sum(map(ord, completion)) % 7)\n")
    return f"{path}:characters"


def run(model: Path, rows: Path, out: Path, **flags: Any) -> list[dict[str, Any]]:
    """Train a model folder on the rows; returns the logged steps."""
    words: Sequence[Any] = ("--model_name_or_path", model, "--data_file_paths", rows, "--image_folders", rows.parent)
    settings = [word for name, value in {**FLAGS, **flags}.items() for word in (f"--{name}", value)]
    grpo_jsonl.main([str(word) for word in (*words, "--output_dir", out, *settings)])
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
