"""Draw what `looking.py` measured: how much the policy looks by step, and what it gets right before and after.

    python local_scripts/dev/figures/looking_curves.py assets/benchmarks/looking.json assets/figures/looking_curves.png

Lines are means over seeds, bands their range.
"""

import argparse
import json
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from learning_figures import save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NAMES = {
    "plain": "plain GRPO",
    "papo": "--perception_coef 0.01",
    "papo_strong": "--perception_coef 0.1",
    "vppo": "--visual_token_share 0.4",
    "filtered": "rows filtered by a survey",
}


def dependency_panel(axis: Axes, runs: list[dict[str, Any]]) -> None:
    """Visual dependency by step, a line a method."""
    for number, (method, name) in enumerate(NAMES.items()):
        curves = np.array([run["curves"]["dependency"] for run in runs if run["method"] == method])  # seeds, points, 2
        steps, values = curves[0, :, 0], curves[:, :, 1]
        axis.fill_between(steps, values.min(0), values.max(0), color=f"C{number}", alpha=0.2, linewidth=0)
        axis.plot(steps, values.mean(0), color=f"C{number}", label=name)
    axis.set_xlabel("step")
    axis.set_title("visual dependency, nats a token (--vision_probe 5)", fontsize=11)
    axis.set_ylim(0, 3.4)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def accuracy_panel(axis: Axes, start: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Held-out accuracy, where all told numbers are wrong: a line for the start, a dot a seed."""
    axis.axhline(start["held out"], color="0.6", linestyle="--", label="start")
    for number, method in enumerate(NAMES):
        values = [run["held out"] for run in runs if run["method"] == method]
        axis.plot([number] * len(values), values, "o", color=f"C{number}")
    axis.set_xticks(range(len(NAMES)), [fill(name, 20, break_on_hyphens=False) for name in NAMES.values()], fontsize=7)
    axis.set_ylim(-0.03, 0.65)
    axis.set_title("held-out accuracy after 40 steps", fontsize=11)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3, axis="y")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what looking.py --json wrote")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    start, *runs = json.loads(args.results.read_text(encoding="utf-8"))
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    dependency_panel(left, runs)
    accuracy_panel(right, start, runs)
    save(figure, args.out)


if __name__ == "__main__":
    main()
