"""Scores saved completions without a model: the reward of each, and what the parser read.

    python -m open_r1.score --reward_method rec --rows completions.jsonl --out scored.jsonl
    python -m open_r1.score --task digits --rows completions.jsonl --out scored.jsonl
    python -m open_r1.score --task digits --rewards tool_bonus tool_errors --rows completions.jsonl --out scored.jsonl
    python -m open_r1.score --reward_method rec --box_space yx_1000 --rows completions.jsonl --out scored.jsonl

A row holds `completion`, `gold`, and whatever its method needs: `options`; for boxes `box_space` (--box_space is one
for all rows) or the `model_family` whose space it is, and `image_wh`
([width, height] of the original image, or with several images a list of them and `box_image`, the number from 1 of
the one that the gold is on), `min_pixels`, `max_pixels`, and where the gold is no xyxy box, `gold_format` xywh. A
row's own `accu_reward_method` wins. The output repeats each row with `score` and `parsed` (letter, number, box in
pixels of the original, text; null for nothing), with `reward_values` (--rewards), or with `error`. A completion with
tool turns is a list of chat messages (`open_r1.rewards.turns`). Exit status 1 where a row could
not be graded, 2 where the arguments are wrong. Needs no torch.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.console import Console
from rich.progress import Progress

from open_r1.data.geometry.coordinates import SPACES
from open_r1.data.jsonl_io import atomic_write
from open_r1.data.record import Record
from open_r1.rewards.custom import parameter_names
from open_r1.rewards.judge.group import asked_together
from open_r1.rewards.judge.method import judge_metrics
from open_r1.rewards.judge.settings import judge_facts, judge_text
from open_r1.rewards.registry import METHODS, REWARDS, get_method, prepare_methods
from open_r1.rewards.sandbox.worker_pool import WORKERS
from open_r1.rewards.saved_completions import decode_saved, judged_completions, read_saved, saved_completion
from open_r1.rewards.trl_adapter import lost_gradings
from open_r1.rewards.turns import Message, messages_of
from open_r1.tasks.find import TASK_HELP, find_task

LINES_AT_ONCE = 512
QUIET_SECONDS = 2  # before the progress bar shows


@dataclass
class Summary:
    """Counts over the rows so far."""

    rows: int = 0
    errors: int = 0
    parsed: int = 0
    total: float = 0.0

    def add(self, row: dict[str, Any]) -> None:
        """Count one scored row."""
        self.rows += 1
        self.errors += "error" in row
        self.parsed += row.get("parsed") is not None
        self.total += row.get("score", 0.0)

    def __str__(self) -> str:
        graded = self.rows - self.errors
        mean = f"mean score {self.total / graded:.4f}, parsed {self.parsed / graded:.1%}" if graded else "none graded"
        return f"{self.rows} rows, {mean}, {self.errors} errors"


def score_line(
    line: bytes, where: str, method: str, box_space: str | None = None, rewards: Sequence[str] = ()
) -> dict[str, Any]:
    """One JSONL line with its `score` and `parsed`, or with `error`; `box_space` wins over the row's own.

    With `rewards`, names of `REWARDS`, their values too; the row's accuracy method is then `method`.

    >>> score_line(b'{"completion": "<answer>B</answer>", "gold": "(B)"}', "a.jsonl:1", "mcq")["score"]
    1.0
    """
    row: dict[str, Any] = {}
    try:
        row = decode_saved(line, where)
        completion, record = read_saved(row, where, box_space)
        accuracy = get_method(record.accu_reward_method or method)
        found = {"score": accuracy.score(completion, record), "parsed": accuracy.parse(completion, record)}
        if rewards:
            graded = replace(record, accu_reward_method=record.accu_reward_method or method)
            trajectory = messages_of(saved_completion(row, where))
            found["reward_values"] = {name: reward_value(name, completion, graded, trajectory) for name in rewards}
        return row | found
    except (ValueError, TypeError) as error:  # a field is missing (DataError) or of a wrong type
        return {**row, "error": str(error)}


def reward_value(name: str, completion: str, record: Record, trajectory: Sequence[Message]) -> float | None:
    """The value of a reward of this package; those of tools see the whole trajectory."""
    reward = REWARDS[name]
    whole = {"trajectory": trajectory} if "trajectory" in parameter_names(reward) else {}
    return reward(completion, record, **whole)


def score_file(
    rows: Path, out: Path, method: str, box_space: str | None = None, rewards: Sequence[str] = ()
) -> Summary:
    """Scores every line of `rows` into `out`, which is created when all are done. Skips blank lines."""
    summary = Summary()
    with open(rows, "rb") as source, atomic_write(out) as target:
        for row in _scored(_numbered(_with_progress_bar(source, rows)), str(rows), method, box_space, rewards):
            summary.add(row)
            target.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    return summary


def _scored(
    lines: Iterator[tuple[int, bytes]], name: str, method: str, box_space: str | None, rewards: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The scored rows in order; in batches to bound memory, in threads to keep the grading workers busy."""
    with ThreadPoolExecutor(2 * WORKERS) as threads:
        while batch := [(f"{name}:{number}", line) for number, line in islice(lines, LINES_AT_ONCE)]:
            with asked_together(judged_completions(batch, method, box_space)):
                yield from threads.map(lambda i: score_line(i[1], i[0], method, box_space, rewards), batch)


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _with_progress_bar(source: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of a file, with a progress bar after QUIET_SECONDS."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"scoring {path}", total=path.stat().st_size, visible=False)
        for line in source:
            yield line
            bar.update(task, advance=len(line), visible=bar.tasks[0].elapsed > QUIET_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m open_r1.score", description=(__doc__ or "").partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--reward_method", metavar="M", help=f"accuracy method: {', '.join(METHODS)}")
    source.add_argument("--task", help=f"the accuracy method of this task: {TASK_HELP}")
    parser.add_argument("--box_space", choices=SPACES, help="space of the completions' boxes (default: the rows')")
    parser.add_argument("--rewards", nargs="+", default=(), choices=REWARDS, help="rewards to add as `reward_values`")
    parser.add_argument("--rows", type=Path, required=True, help="JSONL with completion and gold")
    parser.add_argument("--out", type=Path, required=True, help="JSONL to write")
    args = parser.parse_args(arguments)
    try:
        method = find_task(args.task, flag="--task").method if args.task else args.reward_method
        prepare_methods([method])
        summary = score_file(args.rows, args.out, method, args.box_space, args.rewards)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{method}: {summary}")
    if judged := judge_metrics():
        print(f"judged by {judge_text(judge_facts())}")
        print("judge: " + ", ".join(f"{name.removeprefix('judge/')} {value:.6g}" for name, value in judged.items()))
    failures = {name: int(count) for name, count in lost_gradings().items() if count and name != "judge/asked"}
    if summary.errors or failures:
        errors = [f"{summary.errors} rows with an error, see `error` in {args.out}"] if summary.errors else []
        gradings = [f"{count} {name} (scored as wrong)" for name, count in failures.items()]
        print(", ".join([*errors, *gradings]), file=sys.stderr)
    return int(summary.errors > 0)


if __name__ == "__main__":
    sys.exit(main())
