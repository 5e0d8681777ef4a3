"""Writes a generator's examples as `SPLIT.jsonl` and pictures, in VLM-R1's line format."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from open_r1.data.row_formats import IMAGE_TAG
from open_r1.tasks.task import DrawnExample, Generator


def example_rows(example: DrawnExample, split: str, index: int) -> Iterator[dict[str, Any]]:
    """The JSONL rows of example `index`, in VLM-R1's line format; with the questions' extra fields."""
    names = image_names(example, split, index)
    for k, question in enumerate(example.questions):
        tags = "" if IMAGE_TAG in question.question else IMAGE_TAG * len(names)
        yield {
            "id": f"{split}-{index * len(example.questions) + k}",
            "image": names[0] if len(names) == 1 else names,
            "conversations": [
                {"from": "human", "value": tags + question.question},
                {"from": "gpt", "value": question.answer},
            ],
            **question.extra,
        }


def image_names(example: DrawnExample, split: str, index: int) -> list[str]:
    """Paths of an example's pictures below the dataset's folder."""
    stem = f"images/{split}_{index:06d}"
    return [f"{stem}.png"] if len(example.images) == 1 else [f"{stem}_{k}.png" for k in range(len(example.images))]


def write_split(out: Path, split: str, generator: Generator, rows: int, seed: int) -> Path:
    """Writes `out/SPLIT.jsonl` with `rows` rows, and its pictures; returns its path."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    per_example = len(generator.example(seed, split, 0).questions)
    with open(out / f"{split}.jsonl", "w", encoding="utf-8") as lines:
        for index in track(range(-(-rows // per_example)), description=f"{split}: {rows} rows"):
            example = generator.example(seed, split, index)
            for name, image in zip(image_names(example, split, index), example.images, strict=True):
                image.save(out / name)
            for row in list(example_rows(example, split, index))[: rows - index * per_example]:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return out / f"{split}.jsonl"
