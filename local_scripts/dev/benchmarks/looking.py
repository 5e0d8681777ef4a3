"""Train `hinted_counting` by plain GRPO and by losses that reward looking; print what is learned, and what is seen.

    python local_scripts/dev/benchmarks/looking.py --seeds 0 1 2 --steps 150
    python local_scripts/dev/benchmarks/looking.py --methods plain papo --seeds 0 --steps 60 --json looking.json

In 70 % of the training rows the question tells the right number, in all held-out ones a wrong one. Each run starts
from the embedded tiny model of shapes, with 64 completions a step. Columns: greedy accuracy on the held-out rows, the
share of held-out answers that repeat the question's number, the mean reward of the last ten steps, and the means of
the newest five measurements of `--vision_probe 10`. A finished run below --work is reused.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from open_r1.data.jsonl_io import each_line
from open_r1.report.curves import series
from open_r1.report.history import read_metrics

REPO = Path(__file__).resolve().parents[3]
MODEL, TOKENS = "assets/tiny-vlm-shapes", 48
METHODS: dict[str, dict[str, float]] = {
    "plain": {},
    "papo": {"perception_coef": 0.01},
    "vppo": {"visual_token_share": 0.4},
    "both": {"perception_coef": 0.01, "visual_token_share": 0.4},
}
PROBED = {"dependency": "dependency, nats", "accuracy": "own", "blind_accuracy": "blank", "swapped_accuracy": "other"}


def call(script: str, *positional: str, **flags: Any) -> None:
    """Run a script of the repository with flags; its output goes to stderr."""
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, script, *positional, *words]
    subprocess.run(command, cwd=REPO, env=environment, check=True, stdout=sys.stderr)


def make_data(folder: Path, rows: int, heldout: int) -> None:
    if not (folder / "heldout.jsonl").exists():
        make = "local_scripts/make_dataset.py"
        call(make, "hinted_counting", out=folder, rows=rows, heldout_rows=heldout, seed=0)


def train(out: Path, data: Path, seed: int, steps: int, method: str) -> None:
    """One run of GRPO, unless it is finished."""
    if (out / "checkpoint").exists():
        return
    flags = {"num_generations": 8, "per_device_train_batch_size": 64, "max_completion_length": TOKENS, "beta": 0}
    flags |= {"learning_rate": 1e-4, "lr_scheduler_type": "linear", "warmup_steps": 5, "max_steps": steps}
    flags |= {"gradient_checkpointing": "false", "save_strategy": "no", "disable_tqdm": "true", "vision_probe": 10}
    rows = {"task_type": "hinted_counting", "data_file_paths": data / "train.jsonl", "image_folders": data}
    script = "src/open_r1/grpo_jsonl.py"
    call(script, model_name_or_path=MODEL, output_dir=out, seed=seed, **rows, **flags, **METHODS[method])


def answers(model: Path | str, data: Path, out: Path) -> list[dict[str, Any]]:
    """The greedy answers to the held-out rows."""
    rows = {"data_file_paths": data / "heldout.jsonl", "image_folders": data, "by": "hint"}
    flags = {"task": "hinted_counting", "max_completion_length": TOKENS, "batch_size": 64, "output_dir": out}
    if not (out / "predictions.jsonl").exists():
        call("eval/evaluate.py", model=model, **rows, **flags)
    return list(each_line(out / "predictions.jsonl"))


def figures(method: str, seed: int | None, lines: list[dict[str, Any]], run: Path | None) -> dict[str, Any]:
    """A row of the table."""
    row = {
        "method": method,
        "seed": seed,
        "held out": fmean(line["right"] for line in lines),
        "repeats the number": fmean(str(line["parsed"]) == line["by"]["hint"] for line in lines),
    }
    if run is None:
        return row
    metrics = read_metrics(run)
    row["reward"] = fmean(series(metrics, "reward")[1][-10:])
    return row | {title: fmean(series(metrics, f"vision/{name}")[1][-5:]) for name, title in PROBED.items()}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table(title="hinted_counting")
    for name in rows[-1]:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        cells = (row.get(name) for name in rows[-1])
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value or 0) for value in cells))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["plain", "papo", "vppo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--heldout_rows", type=int, default=256)
    parser.add_argument("--work", type=Path, default=Path("output/looking"), help="dataset and runs")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args()
    work = args.work.resolve()
    make_data(work / "data", args.rows, args.heldout_rows)
    rows = [figures("start", None, answers(MODEL, work / "data", work / "start"), None)]
    for seed in args.seeds:
        for method in args.methods:
            run = work / f"{method}-{seed}-{args.steps}"
            train(run, work / "data", seed, args.steps, method)
            rows.append(figures(method, seed, answers(run / "checkpoint", work / "data", run / "after"), run))
    show(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
