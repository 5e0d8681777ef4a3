"""Completions to fixed accuracies for a toy policy in seconds, to choose among ways of drawing rows before real runs.

    python local_scripts/dev/benchmarks/toy_row_choice.py                     # all variants, 4 seeds
    python local_scripts/dev/benchmarks/toy_row_choice.py --variants difficulty --set REVISITED=1.0 NEW_SHARE=0.1

A row is right with probability sigmoid(w x + o): x are about 5 of `--skills` skills that rows share, o is its own
difficulty. Of 4,000 rows 60 % are hopeless (0.0005), 25 % trivial (0.995), the others are learned. w follows GRPO by
Adam with a constant learning rate, 8 groups of 8 a step. Rows are drawn by the trainer's own `RowChoice`, and replaced
as `--resample_zero_variance 4` does; accuracy is the mean over 600 rows never drawn. Variants as in
bench_row_choice.py: `filtered` has a survey of 480 rows with 4 completions each, which count; `surveyed` draws by
difficulty from all rows and begins with what that survey saw; `known` draws learnable rows alone. What a toy leaves
out: rows that are learned by heart, and skills that are never learned.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import numpy as np
from bench_row_choice import GROUP, PROMPTS, SURVEY_SAMPLES, SURVEYED, completions_to
from rich.console import Console
from rich.table import Table

from open_r1.data.record import SURVEY_RATE, Record
from open_r1.data.record import SURVEY_SAMPLES as SURVEY_SAMPLES_FIELD
from open_r1.trainer import row_choice, row_difficulty

ROWS, HELD_OUT, ROUNDS = 4000, 600, 4
SHARES, CHANCES = (0.60, 0.25, 0.15), {0: 0.0005, 1: 0.995}  # hopeless, trivial, learnable; chances of the first two
TARGETS = (0.6, 0.7, 0.8, 0.85, 0.9)
VARIANTS = ("uniform", "resample", "difficulty", "both", "filtered", "surveyed", "known")


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@dataclass
class Policy:
    """Weights (skills + 1,) of shared skills, by Adam; `features` (N, skills + 1), `own` (N,) and `part` (N,) of rows,
    the last `HELD_OUT` of which are never drawn."""

    skills: int
    seed: int
    learning_rate: float
    step: int = 0
    first: float | np.ndarray = 0.0
    second: float | np.ndarray = 0.0
    weights: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng, count = np.random.default_rng(self.seed), ROWS + HELD_OUT
        self.features = np.column_stack([rng.random((count, self.skills)) < 5 / self.skills, np.ones(count)])
        self.part = rng.choice(3, count, p=SHARES)
        self.part[ROWS:] = 2
        self.own = rng.normal(0, 1.2, count)
        self.weights = rng.normal(-0.45, 0.5, self.skills + 1)

    def chances(self, rows: np.ndarray) -> np.ndarray:
        """(R,) the chance that a completion of a row is right."""
        learned = sigmoid(self.features[rows] @ self.weights + self.own[rows])
        return np.select([self.part[rows] == part for part in CHANCES], list(CHANCES.values()), learned)

    def accuracy(self) -> float:
        """The mean chance of the rows that are never drawn."""
        return float(self.chances(np.arange(ROWS, ROWS + HELD_OUT)).mean())

    def learn(self, rows: np.ndarray, right: np.ndarray) -> None:
        """One step on groups `right` (R, G) of `rows` (R,)."""
        centred = right - right.mean(axis=1, keepdims=True)
        advantages = centred / (right.std(axis=1, ddof=1, keepdims=True) + 1e-4)
        slopes = (advantages * (right - self.chances(rows)[:, None])).mean(axis=1) * (self.part[rows] == 2)
        gradient = slopes @ self.features[rows] / len(rows)
        self.step += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean, square = self.first / (1 - 0.9**self.step), self.second / (1 - 0.999**self.step)
        self.weights = self.weights + self.learning_rate * mean / (np.sqrt(square) + 1e-6)


@dataclass
class Run:
    """One run of a variant: draws rows, samples, replaces, learns; `live` has a verdict of each sampled group."""

    variant: str
    policy: Policy
    rng: np.random.Generator
    sampled: int = 0
    live: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        rates = self.survey() if self.variant in ("filtered", "surveyed") else {}
        mixed = np.array([row for row, rate in rates.items() if 0 < rate < 1])
        pools = {"known": np.flatnonzero(self.policy.part[:ROWS] == 2), "filtered": mixed}
        self.pool, self.order = pools.get(self.variant, np.arange(ROWS)), iter(())
        by_difficulty = self.variant in ("difficulty", "both", "surveyed")
        self.rounds = ROUNDS if self.variant in ("resample", "both") else 0
        self.choice = row_choice.RowChoice(
            [Record(str(row), (), "", (), "", surveyed_fields(rates, row)) for row in range(ROWS)],
            GRPOLike(GROUP, self.policy.seed, "difficulty" if by_difficulty else "uniform"),
            rank=0,
            ranks=1,
        )

    def survey(self) -> dict[int, float]:
        """Row -> share of right completions, of `SURVEYED` rows."""
        rows = self.rng.permutation(ROWS)[:SURVEYED]
        return dict(zip(rows.tolist(), self.sample(rows, SURVEY_SAMPLES).mean(axis=1).tolist(), strict=True))

    def sample(self, rows: np.ndarray, samples: int = GROUP) -> np.ndarray:
        """(R, samples) 1 where a completion is right."""
        self.sampled += len(rows) * samples
        return (self.rng.random((len(rows), samples)) < self.policy.chances(rows)[:, None]).astype(float)

    def next_rows(self) -> np.ndarray:
        """The rows of a step: by difficulty, or each of the pool once an epoch."""
        if self.choice.difficulty is not None:
            return np.array(self.choice.draw(PROMPTS, self.policy.step))
        rows = list(islice(self.order, PROMPTS))
        while len(rows) < PROMPTS:
            self.order = iter(self.rng.permutation(self.pool).tolist())
            rows += islice(self.order, PROMPTS - len(rows))
        return np.array(rows)

    def step(self) -> None:
        rows = self.next_rows()
        right = self.sample(rows)
        seen, outcomes = rows.copy(), right.copy()
        for attempt in range(1, self.rounds + 1):
            if not len(dead := np.flatnonzero(right.std(axis=1) == 0)):
                break
            fresh = np.array(self.choice.draw(len(dead), self.policy.step, attempt, set(seen.tolist())))
            results = self.sample(fresh)
            seen, outcomes = np.concatenate([seen, fresh]), np.concatenate([outcomes, results])
            alive = np.flatnonzero(results.std(axis=1) > 0)
            rows[dead[: len(alive)]], right[dead[: len(alive)]] = fresh[alive], results[alive]
        self.live += (outcomes.std(axis=1) > 0).tolist()
        if self.choice.difficulty is not None:
            self.choice.difficulty.update(seen, outcomes)
        self.policy.learn(rows, right)

    def points(self, budget: int) -> list[dict[str, float]]:
        """Completions and accuracy, at the start and after each step."""
        points = [{"completions": self.sampled, "accuracy": self.policy.accuracy()}]
        while self.sampled < budget and points[-1]["accuracy"] < TARGETS[-1]:
            self.step()
            points.append({"completions": self.sampled, "accuracy": self.policy.accuracy()})
        return points


class GRPOLike(NamedTuple):
    """The flags that `RowChoice` reads."""

    num_generations: int
    seed: int
    row_sampling: str


def surveyed_fields(rates: Mapping[int, float], row: int) -> dict[str, float]:
    """What a survey writes into a row."""
    return {SURVEY_RATE: rates[row], SURVEY_SAMPLES_FIELD: SURVEY_SAMPLES} if row in rates else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--seeds", type=int, default=4, help="so many, from 0")
    parser.add_argument("--skills", type=int, default=48)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--completions", type=int, default=24_000, help="budget of a run")
    parser.add_argument("--set", nargs="*", default=[], metavar="CONSTANT=VALUE", help="of row_choice, row_difficulty")
    args = parser.parse_args()
    for name, value in (word.split("=") for word in args.set):
        setattr(row_choice if hasattr(row_choice, name) else row_difficulty, name, float(value))
    table = Table("", *(f"to {target:g}" for target in TARGETS), "live")
    for variant in args.variants:
        policies = [Policy(args.skills, seed, args.learning_rate) for seed in range(args.seeds)]
        runs = [Run(variant, policy, np.random.default_rng([policy.seed, 9])) for policy in policies]
        curves = [run.points(args.completions) for run in runs]
        reached = [[completions_to(points, target) for points in curves] for target in TARGETS]
        cells = ["–" if None in values else f"{fmean(values):.0f}" for values in reached]
        table.add_row(variant, *cells, f"{fmean(np.concatenate([run.live for run in runs])):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
