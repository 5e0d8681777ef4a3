"""The metrics of a run by step, thinned to bounded memory. (torch-free)

A line takes about 2.5 KB. Of a long run the first and the newest steps stay, and evenly spaced ones between them;
`metrics.jsonl` has all.
"""

from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import each_line

MOST = 5_000  # steps, more than a chart has pixels; thinned to half of them beyond that
ENDS = 100  # steps at either end, which all stay


class History:
    """Lines by step, at most about `most`; values that are logged again for a step replace the first.

    Steps with an evaluation or with numbers that were not finite always stay.
    """

    def __init__(self, most: int = MOST):
        self.by_step: dict[int, dict[str, Any]] = {}
        self.most, self.capacity, self.stride = most, most, 1

    def add(self, line: dict[str, Any]) -> None:
        """Add a line of metrics."""
        self.by_step[line["step"]] = self.by_step.get(line["step"], {}) | line
        if len(self.by_step) > self.capacity:
            self._thin()

    def lines(self) -> list[dict[str, Any]]:
        """All lines in the order of steps."""
        return [self.by_step[step] for step in sorted(self.by_step)]

    def _thin(self) -> None:
        """Keep multiples of a power of two, so that steps of earlier and later thinnings are equally spaced."""
        steps = sorted(self.by_step)
        first, between, last = steps[:ENDS], steps[ENDS:-ENDS], steps[-ENDS:]
        while len(even := [step for step in between if step % self.stride == 0]) > self.most // 2:
            self.stride *= 2
        notable = [step for step in between if is_notable(self.by_step[step])]
        self.by_step = {step: self.by_step[step] for step in sorted({*first, *even, *notable, *last})}
        self.capacity = max(self.most, 2 * len(self.by_step))


def is_notable(line: dict[str, Any]) -> bool:
    """Whether a line has an evaluation or numbers that were not finite, so that thinning must keep it.

    >>> is_notable({"step": 1, "reward": 0.5}), is_notable({"step": 2, "eval_reward": 0.5})
    (False, True)
    """
    return "not_finite" in line or any(key.startswith("eval_") for key in line)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` by step, thinned for a long run; values that a resumed run logged again replace the
    first. Raises FileNotFoundError without the file."""
    history = History()
    for line in each_line(folder / "metrics.jsonl"):
        history.add(line)
    return history.lines()
