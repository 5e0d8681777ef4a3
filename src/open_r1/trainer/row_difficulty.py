"""Each row's success rate as a Beta posterior, and from it the chance that a group of its completions has spread.

A group teaches by the spread of its rewards, and most rows of real data are always right or always wrong for a policy.
A completion's success is its accuracy reward where the run pays one, else its first reward, cut to [0, 1]; values
between count in part. The prior of a row is Beta(0.2, 0.2): rows tend to be solved or hopeless. At each visit what was
seen before counts half, as the policy has moved; so does what `python -m open_r1.survey` saw (the fields `survey_rate`
and `survey_samples` of a row). Of rows that nobody has seen, the share that has spread is estimated from those that
were seen for the first time of late.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from open_r1.data.record import SURVEY_RATE, SURVEY_SAMPLES, Record
from open_r1.errors import DataError, Problem

PRIOR = 0.2  # pseudo-successes, and as many pseudo-failures, of a row of which nothing is known
VISIT_MEMORY = 0.5  # share of what was seen before that still counts at the next visit
NEW_MEMORY = 0.95  # share of the rows that were new before that still count after a generation
NEW_PRIOR = 4.0  # rows that the prior chance of spread of a new row counts as
SAVED = ("counts", "visits", "fresh")
SOLVED = 0.9  # mean rate from which a row counts as solved


def chance_of_spread(successes: np.ndarray, failures: np.ndarray, group: int) -> np.ndarray:
    """P(a group of `group` completions is neither all right nor all wrong) under each Beta(successes, failures).

    1 - E[p^G] - E[(1 - p)^G], with E[p^G] the product over i < G of (a + i) / (a + b + i).

    >>> chance_of_spread(np.array([1.0, 0.2, 4.2]), np.array([1.0, 16.2, 4.2]), 8).round(3)
    array([0.778, 0.079, 0.951])
    """
    all_right, all_wrong = np.ones_like(successes), np.ones_like(failures)
    for i in range(group):  # elementwise: one row alone has the same bits as all of them
        total = successes + failures + i
        all_right *= (successes + i) / total
        all_wrong *= (failures + i) / total
    return 1 - all_right - all_wrong


def surveyed(record: Record, group: int) -> tuple[float, float]:
    """Right and wrong completions of a row's survey, (0, 0) without one; without their number as many as a group.

    Raises DataError for a rate outside [0, 1].
    """
    rate, samples = record.extra.get(SURVEY_RATE), record.extra.get(SURVEY_SAMPLES) or group
    if rate is None:
        return 0.0, 0.0
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        remedy = "write the share of right answers, or remove the field"
        raise DataError([Problem(record.where, SURVEY_RATE, str(rate), "a number in [0, 1]", remedy)])
    return rate * samples, (1 - rate) * samples


class RowDifficulty:
    """The posteriors of N rows for groups of `group` completions. Equal on all ranks, which update it by the same."""

    def __init__(self, records: Sequence[Record], group: int):
        survey = np.array([surveyed(record, group) for record in records])
        self.group = group
        self.surveyed = survey.any(axis=1)
        self.counts = VISIT_MEMORY * survey  # (N, 2): successes and failures seen, older ones discounted
        self.visits = np.zeros(len(survey), np.int64)
        self.updates = 0
        self.fresh = NEW_PRIOR * np.array([chance_of_spread(*np.full((2, 1), PRIOR), group)[0], 1.0])
        # what the newest updates overwrote: rows, their counts, fresh
        self.undone: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.chances = self._chances(self.counts)

    @property
    def known(self) -> np.ndarray:
        """(N,) whether a row was seen or surveyed."""
        return self.surveyed | (self.visits > 0)

    @property
    def chance_of_new(self) -> float:
        """The share of rows with spread among those that are seen for the first time."""
        return float(self.fresh[0] / self.fresh[1])

    def _chances(self, counts: np.ndarray) -> np.ndarray:
        return chance_of_spread(*(PRIOR + counts).T, self.group)

    def update(self, rows: np.ndarray, successes: np.ndarray) -> None:
        """Count groups: `rows` (R,), each once, and `successes` (R, G) in [0, 1], NaN where there is no verdict."""
        self.undone.append((rows, self.counts[rows], self.fresh))
        right = np.nansum(successes, axis=1)
        number = np.isfinite(successes).sum(axis=1)
        new, has_spread = ~self.known[rows], (right > 0) & (right < number)
        self.fresh = NEW_MEMORY * self.fresh + np.array([(new & has_spread).sum(), new.sum()])
        self.counts[rows] = VISIT_MEMORY * self.counts[rows] + np.stack([right, number - right], axis=1)
        self.visits[rows] += 1
        self.updates += 1
        self.chances[rows] = self._chances(self.counts[rows])

    # -------------------------------------------------------------------------------------------------------- state

    def mark(self) -> int:
        """The number of updates so far, to which `rewind` goes back; what lies before it can no longer be undone."""
        self.undone.clear()
        return self.updates

    def rewind(self, mark: int) -> None:
        """Take back the updates after a mark, the newest first."""
        while self.updates > mark:
            rows, counts, self.fresh = self.undone.pop()
            self.counts[rows] = counts
            self.visits[rows] -= 1
            self.updates -= 1
            self.chances[rows] = self._chances(counts)

    def saved(self) -> dict[str, torch.Tensor | int]:
        """The state as plain values."""
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in SAVED}
        return {**arrays, "updates": self.updates}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Restore what `saved` returned."""
        self.counts, self.visits, self.fresh = (saved[name].numpy().copy() for name in SAVED)
        self.updates = saved["updates"]
        self.undone.clear()
        self.chances = self._chances(self.counts)

    # ------------------------------------------------------------------------------------------------------- report

    def rates(self) -> np.ndarray:
        """(N,) the mean of each posterior."""
        return (PRIOR + self.counts[:, 0]) / (2 * PRIOR + self.counts.sum(axis=1))

    def never_right(self) -> np.ndarray:
        """(N,) whether a row was seen, and never with any success."""
        return (self.visits > 0) & (self.counts[:, 0] == 0)

    def shares(self) -> dict[str, float]:
        """Metrics, shares of all N rows: seen, solved (mean rate of at least 0.9), and seen without any success."""
        seen = self.visits > 0
        return {
            "rows/seen": seen.mean().item(),
            "rows/solved": (seen & (self.rates() >= SOLVED)).mean().item(),
            "rows/never_right": self.never_right().mean().item(),
        }
