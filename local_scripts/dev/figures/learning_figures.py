"""Draw the results of `learning_curves.py`: learning curves with bands over seeds, and GRPO beside SFT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from open_r1.report.curves import smooth

Results = dict[str, Any]  # one task's JSON
SPLITS = {"heldout": "in distribution", "ood": "unseen colour-shape pairs"}
NAMES = {"before": "before", "sft": "SFT", "grpo": "GRPO"}
COLORS = {"before": "0.7", "sft": "C1", "grpo": "C0"}


def accuracies(results: Results, method: str, split: str) -> list[float]:
    """Accuracies of each seed after a method; for "before" the one accuracy of the start model.

    >>> accuracies({"before": {"heldout": {"accuracy": 0.5}}, "runs": []}, "before", "heldout")
    [0.5]
    """
    if method == "before":
        return [results["before"][split]["accuracy"]]
    return [run["after"][split]["accuracy"] for run in results["runs"] if run["method"] == method]


def draw_curves(all_results: Sequence[Results], path: Path) -> None:
    """Draw a panel for each task (reward by step, mean and range over seeds), one of accuracies before and after."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    for axis, results in zip(axes, all_results, strict=False):
        _reward_panel(axis, results)
    _accuracy_panel(axes[len(all_results)], all_results)
    for axis in axes[len(all_results) + 1 :]:
        axis.set_axis_off()
    save(figure, path)


def _reward_panel(axis: Axes, results: Results) -> None:
    curves = [run["reward"] for run in results["runs"] if run["method"] == "grpo"]
    curves_ST = np.array([smooth(curve, 0.8) for curve in curves])
    steps = np.arange(1, curves_ST.shape[1] + 1)
    axis.fill_between(steps, curves_ST.min(0), curves_ST.max(0), color="C0", alpha=0.25, linewidth=0)
    axis.plot(steps, curves_ST.mean(0), color="C0", linewidth=2)
    before, after = accuracies(results, "before", "heldout")[0], accuracies(results, "grpo", "heldout")
    name = results["task"].replace("_", " ")
    axis.set_title(f"{name}: {results['metric']}, {before:.2f} → {np.mean(after):.2f}", fontsize=11)
    axis.set_xlabel("step")
    axis.set_ylabel(f"reward, {len(curves)} seed{'s' * (len(curves) > 1)}")
    axis.grid(alpha=0.3)


def _accuracy_panel(axis: Axes, all_results: Sequence[Results]) -> None:
    for place, results in enumerate(all_results):
        before = results["before"]["heldout"]
        after = accuracies(results, "grpo", "heldout")
        _bar(axis, place - 0.2, [before["accuracy"]], COLORS["before"], (before["low"], before["high"]))
        _bar(axis, place + 0.2, after, COLORS["grpo"], (min(after), max(after)))
    names = [results["task"].replace("_", "\n") for results in all_results]
    axis.set_xticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(0, 1.1)
    axis.set_title("held-out accuracy: before (95 % interval),\nafter GRPO (range over seeds)", fontsize=10)
    axis.grid(alpha=0.3, axis="y")


def draw_methods(all_results: Sequence[Results], path: Path) -> None:
    """Draw accuracies of the start, SFT and GRPO for each task and split, mean and range over seeds."""
    if not all_results:
        return
    figure = Figure(figsize=(5 * len(all_results), 4), layout="constrained")
    for axis, results in zip(figure.subplots(1, len(all_results), squeeze=False)[0], all_results, strict=True):
        for place, split in enumerate(SPLITS):
            for k, method in enumerate(NAMES):
                values = accuracies(results, method, split)
                if values:
                    _bar(axis, place + (k - 1) * 0.27, values, COLORS[method], (min(values), max(values)), width=0.25)
        axis.set_xticks(range(len(SPLITS)), list(SPLITS.values()))
        axis.set_ylim(0, 1.05)
        seeds = ", ".join(f"{len(accuracies(results, m, 'ood'))} of {NAMES[m]}" for m in ("sft", "grpo"))
        axis.set_title(f"{results['task']}: {results['metric']} (seeds: {seeds})", fontsize=11)
        axis.grid(alpha=0.3, axis="y")
    figure.axes[0].legend(figure.axes[0].patches[: len(NAMES)], list(NAMES.values()), loc="upper left", fontsize=9)
    save(figure, path)


def _bar(
    axis: Axes, x: float, values: list[float], color: str, ends: tuple[float, float], width: float = 0.38
) -> None:
    mean = float(np.mean(values))
    axis.bar(x, mean, width, color=color)
    axis.errorbar(x, mean, yerr=[[max(0.0, mean - ends[0])], [max(0.0, ends[1] - mean)]], color="0.2", capsize=3)
    axis.text(x, ends[1] + 0.015, f"{mean:.2f}", ha="center", fontsize=8)


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
