"""Print what runs of `quickstart_video.sh` learned, as rows of a Markdown table, and write it as JSON.

    for SEED in 0 1 2; do SEED=$SEED OUT=output/video$SEED bash run_scripts/quickstart_video.sh; done
    python local_scripts/dev/benchmarks/video_table.py output/video? [--json assets/benchmarks/motion.json]

A row is an evaluation: before or after training, with the clips' own frames or with these shuffled; its accuracy with
Wilson's 95 % interval, and the accuracy of each kind of question.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from open_r1.data.jsonl_io import each_line
from open_r1.report.curves import series
from open_r1.report.history import read_metrics

EVALUATIONS = {
    "before": "before",
    "before_shuffled": "before, frames shuffled",
    "after": "after",
    "after_shuffled": "after, frames shuffled",
}
KINDS = ("way", "turn", "next", "visits")


def figures(run: Path, name: str) -> dict[str, Any]:
    """The figures of an evaluation: its summary, and the accuracy of each kind."""
    kinds = {line["id"]: line["kind"] for line in each_line(run / "data" / "heldout.jsonl")}
    right = {kind: [] for kind in KINDS}
    for line in each_line(run / name / "predictions.jsonl"):
        right[kinds[line["id"]]].append(line["right"])
    summary = json.loads((run / name / "summary.json").read_text(encoding="utf-8"))["think"]
    values = {key: round(summary[key], 4) for key in ("accuracy", "low", "high")}
    return values | {"n": summary["n"], "kinds": {kind: round(fmean(marks), 4) for kind, marks in right.items()}}


def results(run: Path) -> dict[str, Any]:
    """All evaluations of a run, and its rewards by step."""
    lines, summary = read_metrics(run), json.loads((run / "summary.json").read_text(encoding="utf-8"))
    found = {name: figures(run, name) for name in EVALUATIONS}
    rewards = [round(value, 4) for value in series(lines, "reward")[1]]
    return {"seed": summary["seed"], "seconds": round(summary["train_seconds"], 1), **found, "reward": rewards}


def cells(run: dict[str, Any], name: str) -> list[str]:
    """The cells of an evaluation's row."""
    one = run[name]
    kinds = [f"{one['kinds'][kind]:.3f}" for kind in KINDS]
    return [str(run["seed"]), EVALUATIONS[name], "{accuracy:.3f} [{low:.3f}, {high:.3f}]".format(**one), *kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="where all figures are written")
    args = parser.parse_args()
    runs = [results(run) for run in args.runs]
    header = ["`SEED=`", "", "accuracy [95 % interval]", *KINDS]
    for row in (header, ["---"] * len(header), *(cells(run, name) for run in runs for name in EVALUATIONS)):
        print(f"| {' | '.join(row)} |")
    print("seconds of training:", *(run["seconds"] for run in runs))
    if args.json:
        args.json.write_text(json.dumps({"task": "motion", "runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
