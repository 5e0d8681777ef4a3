"""Draw what `quickstart_video.sh` learned: reward by step, and accuracy with frames in order and shuffled.

    python local_scripts/dev/figures/video_curves.py assets/benchmarks/motion.json assets/figures/video_curves.png

Lines and bars are means over seeds, bands and whiskers their range.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from learning_figures import save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from open_r1.report.curves import smooth

BARS = {"before": "0.7", "before_shuffled": "0.85", "after": "C0", "after_shuffled": "C9"}
NAMES = {
    "before": "before",
    "before_shuffled": "before, frames shuffled",
    "after": "after",
    "after_shuffled": "after, frames shuffled",
}


def reward_panel(axis: Axes, runs: list[dict[str, Any]]) -> None:
    """The smoothed reward, of accuracy and format together, by step."""
    curves_ST = np.array([smooth(run["reward"], 0.8) for run in runs])
    steps = np.arange(1, curves_ST.shape[1] + 1)
    axis.fill_between(steps, curves_ST.min(0), curves_ST.max(0), color="C0", alpha=0.25, linewidth=0)
    axis.plot(steps, curves_ST.mean(0), color="C0", linewidth=2)
    axis.set_xlabel("step")
    axis.set_title(f"reward of 64 completions, {len(runs)} seeds", fontsize=11)
    axis.grid(alpha=0.3)


def accuracy_panel(axis: Axes, runs: list[dict[str, Any]]) -> None:
    """Held-out accuracy of all rows and of each kind, in each evaluation."""
    groups = ["all", *runs[0]["before"]["kinds"]]
    for number, (name, color) in enumerate(BARS.items()):
        values_SG = np.array([[run[name]["accuracy"], *run[name]["kinds"].values()] for run in runs])
        mean = values_SG.mean(0)
        ends = np.abs(np.stack([values_SG.min(0), values_SG.max(0)]) - mean)
        places = np.arange(len(groups)) + (number - 1.5) * 0.2
        axis.bar(places, mean, 0.19, yerr=ends, color=color, label=NAMES[name], error_kw={"linewidth": 0.8})
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylim(0, 1.3)
    axis.set_title("held-out accuracy, greedy", fontsize=11)
    axis.legend(fontsize=8, ncols=2, loc="upper center")
    axis.grid(alpha=0.3, axis="y")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what video_table.py --json wrote")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    runs = json.loads(args.results.read_text(encoding="utf-8"))["runs"]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    reward_panel(left, runs)
    accuracy_panel(right, runs)
    save(figure, args.out)


if __name__ == "__main__":
    main()
