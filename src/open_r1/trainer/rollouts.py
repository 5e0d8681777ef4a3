"""What was sampled, for people: `rollouts.jsonl` with small pictures beside it, and R1-V's debug log.

A line of `rollouts.jsonl` is one group:
`{"step", "where", "prompt", "images": [file under rollout_images], "solution", "completions": [{"text", "rewards": {},
"advantage"}]}`. `open_r1.report` turns the file into a page.
"""

import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from PIL import Image

from open_r1.conversation import plain_text
from open_r1.errors import UsageError
from open_r1.trainer.prompts import Example

MAX_SIDE = 448  # pixels of a saved picture's longer side


class Rollouts:
    """The first `groups` groups of each generation on rank 0; and everything to LOG_PATH when DEBUG_MODE=true."""

    def __init__(self, output_dir: str, groups: int, rank: int):
        self.folder, self.groups, self.rank = Path(output_dir), groups if rank == 0 else 0, rank

    def add(self, step: int, examples: list[Example], scored: dict[str, Any], group: int) -> None:
        """`examples` and the lists of `scored` are parallel, one entry a completion, groups of `group` in a row."""
        heads = range(0, len(examples), group)
        lines = [self._group(step, examples[i], scored, range(i, i + group)) for i in heads[: self.groups]]
        if lines:
            append(self.folder / "rollouts.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if os.environ.get("DEBUG_MODE", "").lower() == "true":
            self._debug([self._entry(step, e.record, scored, i) for i, e in enumerate(examples)])

    def _group(self, step: int, example: Example, scored: dict[str, Any], rows: range) -> dict[str, Any]:
        record = example.record
        return {
            "step": step,
            "where": record.where,
            "prompt": plain_text(example.conversation),
            "images": [self._save(image) for image in example.pictures],
            "solution": record.solution,
            "completions": [
                {
                    "text": scored["completions"][i],
                    "rewards": {name: values[i] for name, values in scored["rewards"].items()},
                    "advantage": scored["advantages"][i],
                }
                for i in rows
            ],
        }

    def _save(self, image: Image.Image) -> str:
        small = image.copy()
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        name = f"{hashlib.sha256(small.tobytes()).hexdigest()[:16]}.png"
        path = self.folder / "rollout_images" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            small.save(path)
        return name

    def _entry(self, step: int, record: Any, scored: dict[str, Any], i: int) -> str:
        rewards = ", ".join(f"{name} {values[i]}" for name, values in scored["rewards"].items())
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        head = f"------------- {stamp} step {step} {record.where} rewards: {rewards} -------------"
        return f"{head}\nContent: {scored['completions'][i]}\nSolution: {record.solution}\n"

    def _debug(self, entries: list[str]) -> None:
        path = os.environ.get("LOG_PATH")
        if not path:
            raise UsageError("DEBUG_MODE=true: got no LOG_PATH, expected the file to write rollouts to; set LOG_PATH")
        append(Path(path if self.rank == 0 else f"{path}.rank{self.rank}"), "".join(entries))


def newest(trainer: Any, count: int) -> dict[str, Any]:
    """This rank's `count` newest completions with rewards and advantages; TRL logs those of all ranks in order."""
    ranks, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index

    def mine(values: Any) -> list[Any]:
        return list(values)[-ranks * count :][rank * count : (rank + 1) * count]

    return {
        "completions": [completion[0]["content"] for completion in mine(trainer._logs["completion"])],
        "rewards": {
            name: [None if math.isnan(value) else value for value in mine(values)]  # NaN: does not apply
            for name, values in trainer._logs["rewards"].items()
        },
        "advantages": mine(trainer._logs["advantages"]),
    }


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
