"""Join the two evaluations of a quickstart in `summary.json`; print the changes and the paths of the results.

python local_scripts/quickstart_summary.py output/quickstart --seed 0
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from open_r1.report.history import read_metrics

ROW_NAMES = {"accuracy": "accuracy", "format_rate": "format rate", "mean_tokens": "mean tokens"}
INTERVAL = "{accuracy:.3f} [{low:.3f}, {high:.3f}] of {n}"
SHUFFLED = ("before_shuffled", "after_shuffled")  # evaluations of videos with their frames in another order


def think(folder: Path) -> dict[str, Any]:
    """The figures of an evaluation's folder."""
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))["think"]


def train_seconds(folder: Path) -> float:
    """Seconds of `trainer.train()`, from the last line of `metrics.jsonl`."""
    return next(line["train_runtime"] for line in reversed(read_metrics(folder)) if "train_runtime" in line)


def show(before: dict[str, Any], after: dict[str, Any], folder: Path, seconds: float) -> None:
    """Prints the table before and after training, and what each file of the folder holds."""
    table = Table(title=f"Held-out rows, greedy, before and after {seconds:.0f} s of GRPO")
    for column in ("", "before", "after"):
        table.add_column(column)
    table.add_row("accuracy [95 % interval]", INTERVAL.format(**before), INTERVAL.format(**after))
    if (folder / SHUFFLED[0]).exists():
        table.add_row("accuracy, frames shuffled", *(INTERVAL.format(**think(folder / name)) for name in SHUFFLED))
    for key in ("format_rate", "mean_tokens"):
        table.add_row(ROW_NAMES[key], f"{before[key]:.3f}", f"{after[key]:.3f}")
    console = Console()
    console.print(table, width=None if console.is_terminal else 100)
    for name, what in (
        ("reward_curve.png", "reward, each reward function, length, groups without signal, by step"),
        ("report.html", "curves, findings, settings, and sampled groups with images, boxes, rewards, advantages"),
        ("summary.json", "the table above"),
        ("metrics.jsonl", "every number of every step"),
        ("checkpoint", "the trained model with its processor"),
        ("before/predictions.jsonl", "each answer before; after/predictions.jsonl: after"),
    ):
        console.print(f"  {folder / name}: {what}", soft_wrap=True, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    before, after = (think(args.folder / name) for name in ("before", "after"))
    seconds = train_seconds(args.folder)
    summary = {"seed": args.seed, "before": before, "after": after, "train_seconds": seconds}
    (args.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    show(before, after, args.folder, seconds)


if __name__ == "__main__":
    main()
