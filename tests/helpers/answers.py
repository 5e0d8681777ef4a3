"""Rows of answers, graded by the command that users call."""

import json
from pathlib import Path

from helpers.repository import REPO
from open_r1.score import main

CORPUS = sorted((REPO / "tests" / "rewards" / "corpus").glob("*.jsonl"))


def read(path: Path) -> list[dict]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(rows: list[dict], method: str, folder: Path) -> list[dict]:
    """The rows with their `score`, `parsed` or `error`, by `python -m open_r1.score`."""
    source, out = folder / f"{method}.jsonl", folder / f"{method}-scored.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["--reward_method", method, "--rows", str(source), "--out", str(out)])
    return read(out)
