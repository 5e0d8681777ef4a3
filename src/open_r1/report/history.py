"""The metrics of a run by step, in bounded memory however long it is. (torch-free)

A line takes about 2.5 KB. Of a long run the first and the newest steps stay whole, and those between evenly spaced;
`metrics.jsonl` holds them all.
"""

from pathlib import Path
from typing import Any

from open_r1.data.jsonl_io import each_line

MOST = 5_000  # steps, more than a chart has pixels; half of them are left once there are more
ENDS = 100  # steps at either end of which each stays


class History:
    """Lines by step, at most `most`; what is logged of a step a second time wins.

    Steps with an evaluation, and those with numbers that were not finite, stay besides.
    """

    def __init__(self, most: int = MOST):
        self.by_step: dict[int, dict[str, Any]] = {}
        self.most, self.full, self.stride = most, most, 1

    def add(self, line: dict[str, Any]) -> None:
        self.by_step[line["step"]] = self.by_step.get(line["step"], {}) | line
        if len(self.by_step) > self.full:
            self._thin()

    def lines(self) -> list[dict[str, Any]]:
        """By step."""
        return [self.by_step[step] for step in sorted(self.by_step)]

    def _thin(self) -> None:
        """Multiples of a power of two: what an earlier thinning left is as even as what came since."""
        steps = sorted(self.by_step)
        first, between, last = steps[:ENDS], steps[ENDS:-ENDS], steps[-ENDS:]
        while len(even := [step for step in between if step % self.stride == 0]) > self.most // 2:
            self.stride *= 2
        told = [step for step in between if tells(self.by_step[step])]
        self.by_step = {step: self.by_step[step] for step in sorted({*first, *even, *told, *last})}
        self.full = max(self.most, 2 * len(self.by_step))


def tells(line: dict[str, Any]) -> bool:
    """Whether a line holds what its neighbours do not.

    >>> tells({"step": 1, "reward": 0.5}), tells({"step": 2, "eval_reward": 0.5})
    (False, True)
    """
    return "not_finite" in line or any(key.startswith("eval_") for key in line)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` by step, fewer of a long run; where a resumed run logged a step again, its values
    win. Raises FileNotFoundError without the file."""
    history = History()
    for line in each_line(folder / "metrics.jsonl"):
        history.add(line)
    return history.lines()
