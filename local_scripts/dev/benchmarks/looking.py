"""Train `hinted_counting` by plain GRPO, by losses that reward looking and on filtered rows; print what is learned.

    python local_scripts/dev/benchmarks/looking.py --seeds 0 1 2 --json looking.json
    python local_scripts/dev/benchmarks/looking.py --methods plain filtered --seeds 0

In 70 % of the training rows the question tells the right number, in all held-out ones a wrong one; up to `MOST` items
make looking harder than believing. The start is `assets/tiny-vlm-shapes` after a short SFT on rows of its own, of
which half are answered by describing the picture and half by repeating the question's number. A run has 64 completions
a step. `filtered` leaves out the rows that the start answers blind: of `open_r1.survey`'s 8 answers to a blank picture
at least `BLIND` are right; it trains on the surveyed rows that stay. Columns: greedy accuracy on the held-out rows,
the share of held-out answers that repeat the number, the mean reward of the last ten steps, and the means of the
newest three measurements of `--vision_probe 5`; all of them are in `--json`. What is finished below --work is reused.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from open_r1.data.jsonl_io import each_line
from open_r1.report.curves import series
from open_r1.report.history import read_metrics

REPO = Path(__file__).resolve().parents[3]
MODEL, TOKENS, MOST = "assets/tiny-vlm-shapes", 64, 6
LOOKING = 0.5  # share of the start's lessons that are answered from the picture
BLIND = 0.25  # share of right answers to a blank picture from which a row is left out
METHODS: dict[str, dict[str, float]] = {
    "plain": {},
    "papo": {"perception_coef": 0.01},
    "papo_strong": {"perception_coef": 0.1},
    "vppo": {"visual_token_share": 0.4},
    "both": {"perception_coef": 0.01, "visual_token_share": 0.4},
    "filtered": {},
}
PROBED = {"dependency": "dependency, nats", "accuracy": "own", "blind_accuracy": "blank", "swapped_accuracy": "other"}


def call(*script: str, **flags: Any) -> None:
    """Run a script of the repository with flags; its output goes to stderr."""
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, *script, *words], cwd=REPO, env=environment, check=True, stdout=sys.stderr)


# -------------------------------------------------------------------------------------------------- rows and the start


def make_data(folder: Path, rows: int, heldout: int, seed: int, truthful: float = 0.7) -> None:
    if not (folder / "heldout.jsonl").exists():
        flags = {"out": folder, "rows": rows, "heldout_rows": heldout, "seed": seed, "most": MOST, "overlap": 0.1}
        flags |= {"truthful": truthful}
        call("local_scripts/make_dataset.py", "hinted_counting", **flags)


def make_start(out: Path, lessons: Path) -> Path:
    """The start model: taught both ways of answering."""
    if not (out / "checkpoint").exists():
        make_data(lessons, 1920, 8, seed=1, truthful=0.1)  # told numbers are no help to see
        rng = np.random.default_rng(0)
        lines = [as_lesson(line, looks=rng.random() < LOOKING) for line in each_line(lessons / "train.jsonl")]
        (lessons / "lessons.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        flags = {
            "learning_rate": 5e-4,
            "per_device_train_batch_size": 32,
            "num_train_epochs": 3,
            "save_strategy": "no",
        }
        rows = {"task_type": "hinted_counting", "data_file_paths": lessons / "lessons.jsonl", "image_folders": lessons}
        flags |= {"warmup_steps": 5, "gradient_checkpointing": "false", "disable_tqdm": "true", "report_to": "none"}
        call("src/open_r1/sft_jsonl.py", model_name_or_path=MODEL, output_dir=out, **rows, **flags)
    return out / "checkpoint"


def as_lesson(line: dict[str, Any], looks: bool) -> dict[str, Any]:
    """A row whose answer describes the picture, or repeats the question's number."""
    names = ", ".join(name.split(" ", 1)[1] for name in line["items"])
    question, answer = line["conversations"]
    thought, number = (names, answer["value"]) if looks else (f"counted {line['hint']}.", line["hint"])
    text = f"<think> {thought} </think> <answer> {number} </answer>"
    return line | {"conversations": [question, answer | {"value": text}]}


def filter_rows(start: Path, data: Path, out: Path, rows: int) -> None:
    """Write the surveyed rows that the start does not answer blind."""
    if (data / "filtered.jsonl").exists():
        return
    flags = {"task_type": "hinted_counting", "data_file_paths": data / "train.jsonl", "image_folders": data}
    flags |= {"rows": rows, "samples": 8, "picture_samples": 8, "num_generations": 8, "batch_size": 256}
    call("-m", "open_r1.survey", model=start, output_dir=out, max_completion_length=TOKENS, seed=0, **flags)
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for line in each_line(out / "answers-blank" / "predictions.jsonl"):
        right[line["id"]].append(line["right"])
    kept = [
        line for line in each_line(data / "train.jsonl") if line["id"] in right and fmean(right[line["id"]]) < BLIND
    ]
    truthful = fmean(line["hint"] == line["conversations"][1]["value"] for line in kept)
    print(f"{len(right)} rows surveyed, {len(kept)} kept, of which {truthful:.2f} tell the right number")
    (data / "filtered.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- runs


def train(start: Path, out: Path, data: Path, seed: int, steps: int, method: str) -> None:
    """One run of GRPO, unless it is finished."""
    if (out / "checkpoint").exists():
        return
    flags = {"num_generations": 8, "per_device_train_batch_size": 64, "max_completion_length": TOKENS, "beta": 0}
    flags |= {"learning_rate": 1e-4, "lr_scheduler_type": "linear", "warmup_steps": 5, "max_steps": steps}
    flags |= {"gradient_checkpointing": "false", "save_strategy": "no", "disable_tqdm": "true", "vision_probe": 5}
    file = "filtered.jsonl" if method == "filtered" else "train.jsonl"
    rows = {"task_type": "hinted_counting", "data_file_paths": data / file, "image_folders": data}
    script = "src/open_r1/grpo_jsonl.py"
    call(script, model_name_or_path=start, output_dir=out, seed=seed, **rows, **flags, **METHODS[method])


def answers(model: Path, data: Path, out: Path) -> list[dict[str, Any]]:
    """The greedy answers to the held-out rows."""
    rows = {"data_file_paths": data / "heldout.jsonl", "image_folders": data, "by": "hint"}
    flags = {"task": "hinted_counting", "max_completion_length": TOKENS, "batch_size": 64, "output_dir": out}
    if not (out / "predictions.jsonl").exists():
        call("eval/evaluate.py", model=model, **rows, **flags)
    return list(each_line(out / "predictions.jsonl"))


def figures(method: str, seed: int | None, lines: list[dict[str, Any]], run: Path | None) -> dict[str, Any]:
    """A row of the table, and the measurements of the probe by step."""
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
    curves = {name: series(metrics, f"vision/{name}") for name in PROBED}
    row |= {title: fmean(curves[name][1][-3:]) for name, title in PROBED.items()}
    return row | {"curves": {name: list(zip(*curve, strict=True)) for name, curve in curves.items()}}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table, columns = Table(title="hinted_counting"), [name for name in rows[-1] if name != "curves"]
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        cells = (row.get(name) for name in columns)
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value or 0) for value in cells))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["plain", "papo", "vppo", "filtered"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--heldout_rows", type=int, default=256)
    parser.add_argument("--surveyed_rows", type=int, default=320)
    parser.add_argument("--work", type=Path, default=Path("output/looking"), help="dataset and runs")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    args = parser.parse_args()
    work = args.work.resolve()
    make_data(work / "data", args.rows, args.heldout_rows, seed=0)
    start = make_start(work / "start", work / "lessons")
    if "filtered" in args.methods:
        filter_rows(start, work / "data", work / "survey", args.surveyed_rows)
    rows = [figures("start", None, answers(start, work / "data", work / "start" / "before"), None)]
    for seed in args.seeds:
        for method in args.methods:
            run = work / f"{method}-{seed}-{args.steps}"
            train(start, run, work / "data", seed, args.steps, method)
            rows.append(figures(method, seed, answers(run / "checkpoint", work / "data", run / "after"), run))
    show(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
