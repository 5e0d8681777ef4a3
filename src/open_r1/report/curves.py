"""Draw `reward_curve.png` from `metrics.jsonl`: reward, each reward function, length, groups without signal, KL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_r1.data.jsonl_io import atomic_write
from open_r1.report.history import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "reward": "reward (weighted sum, mean over completions)",
    "completions/mean_length": "completion length (tokens)",
    "frac_reward_zero_std": "share of groups without signal (all rewards equal)",
    "kl": "KL to the reference (per token)",
}


def series(lines: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one metric where it was logged.

    >>> series([{"step": 1, "kl": 0.5}, {"step": 2}], "kl")
    ([1], [0.5])
    """
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average with bias correction.

    >>> [round(v, 3) for v in smooth([1.0, 1.0, 0.0], 0.5)]
    [1.0, 1.0, 0.429]
    """
    mean, total, means = 0.0, 0.0, []
    for value in values:
        mean, total = weight * mean + value, weight * total + 1
        means.append(mean / total)
    return means


def draw_curves(folder: Path) -> Path:
    """Draw `folder/reward_curve.png` from `folder/metrics.jsonl` (FileNotFoundError without it); returns its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to import, before every run
    from matplotlib.figure import Figure

    lines = read_metrics(folder)
    keys = {key for line in lines for key in line}
    rewards = {key: key.split("/")[1] for key in sorted(keys) if key.startswith("rewards/") and key.endswith("/mean")}
    panels = [key for key in TITLES if key in keys]
    figure = Figure(figsize=(11, 3.2 * ((len(panels) + 2) // 2)), layout="constrained")
    axes = figure.subplots((len(panels) + 2) // 2, 2, squeeze=False).flatten()
    for axis, key in zip(axes, panels, strict=False):
        _panel(axis, TITLES[key], {"": series(lines, key)})
    _panel(
        axes[len(panels)], "each reward function (mean)", {name: series(lines, key) for key, name in rewards.items()}
    )
    for axis in axes[len(panels) + 1 :]:
        axis.set_axis_off()
    FigureCanvasAgg(figure)
    with atomic_write(folder / "reward_curve.png") as file:
        figure.savefig(file, dpi=110, format="png")
    return folder / "reward_curve.png"


def _panel(axis: Axes, title: str, curves: dict[str, tuple[list[int], list[float]]]) -> None:
    for number, (name, (steps, values)) in enumerate(curves.items()):
        axis.plot(steps, values, color=f"C{number}", alpha=0.25, linewidth=1)
        axis.plot(steps, smooth(values), color=f"C{number}", linewidth=2, label=name)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    if any(curves):
        axis.legend(fontsize=9)
