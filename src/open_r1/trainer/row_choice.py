"""Which rows a generation samples: TRL's order, others in place of groups without spread, or rows by their difficulty.

Rows are drawn for all ranks at once by a generator of (seed, micro-step, attempt), so that a resumed run and any
number of ranks draw the same, and nothing but the posteriors has to be saved.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from accelerate.utils import gather_object

from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.record import Record
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.trainer.protocols import RolloutTrainer
from open_r1.trainer.row_difficulty import RowDifficulty

ANY_SHARE = 0.1  # share of the draws by difficulty that are of any row alike
NEW_SHARE = 0.2  # least share of the others that are of rows never seen, while there are any
REVISITED = 0.1  # most rows that are drawn again, of the number of those seen that are expected to have spread
SHARPNESS = 2.0  # power of its chance of spread that a row is drawn again by


class RowChoice:
    """Draws training rows; with `--row_sampling difficulty` by their chance of spread, else all alike."""

    def __init__(self, records: Sequence[Record], args: GRPOArguments, rank: int, ranks: int):
        self.rows, self.group, self.seed = len(records), args.num_generations, args.seed
        self.rank, self.ranks = rank, ranks
        by_difficulty = args.row_sampling == "difficulty"
        self.difficulty = RowDifficulty(records, args.num_generations) if by_difficulty else None

    def draw(self, count: int, step: int, attempt: int = 0, excluded: Collection[int] = ()) -> list[int]:
        """`count` different rows outside `excluded`, or all that are left, in random order."""
        rng, left = np.random.default_rng([self.seed, step, attempt]), np.ones(self.rows, bool)
        left[list(excluded)] = False
        count, rows = min(count, int(left.sum())), []
        if self.difficulty is not None:
            chosen = count - int(rng.binomial(count, ANY_SHARE))
            again = self.count_again(left, chosen)
            rows += take(rng, left, self.difficulty.known * self.difficulty.chances**SHARPNESS, again)
            rows += take(rng, left, 1.0 * ~self.difficulty.known, chosen - again)
        rows += take(rng, left, np.ones(self.rows), count - len(rows))
        return [rows[place] for place in rng.permutation(count)]

    def count_again(self, left: np.ndarray, count: int) -> int:
        """How many of `count` rows, of those `left` (N,), are rows seen before; the others are new ones.

        The more, the likelier a row seen before has spread than a new one: none where all rows teach alike. No more
        than `REVISITED` of those that are expected to have it: each rests for about ten generations, and a few are not
        learned over and over while others are never found.
        """
        known = left & self.difficulty.known
        chances = self.difficulty.chances[known]
        if not known.any():
            return 0
        expected = (chances ** (SHARPNESS + 1)).sum() / (chances**SHARPNESS).sum()
        share = min(max(0.0, 1 - self.difficulty.chance_of_new / expected), 1 - NEW_SHARE)
        again = min(round(share * count), int(REVISITED * chances.sum()))
        return max(again, count - int(left.sum() - known.sum()))

    def of_this_rank(self, rows: Sequence[int]) -> list[RowNumber]:
        """This rank's share of rows drawn for all, as a data loader yields them: each once for each completion."""
        own = slice_of_rank(rows, self.rank, self.ranks)
        return [{"row": row, "split": "train"} for row in own for _ in range(self.group)]

    def rows_of_generation(self, loader_rows: list[RowNumber], step: int) -> list[RowNumber]:
        """This rank's rows of the generation at micro-step `step`: the data loader's, or as many by difficulty."""
        if self.difficulty is None:
            return loader_rows
        return self.of_this_rank(self.draw(self.ranks * len(loader_rows) // self.group, step))


def take(rng: np.random.Generator, left: np.ndarray, weights: np.ndarray, count: int) -> list[int]:
    """At most `count` rows that are `left` (N,) and have a weight, by weight without replacement; they leave `left`.

    They are the largest of log weight + Gumbel noise (Kool et al. 2019, arXiv 1903.06059, section 2.2).
    """
    candidates = np.flatnonzero(left & (weights > 0))
    keys = np.log(weights[candidates]) + rng.gumbel(size=len(candidates))
    rows = candidates[np.argsort(-keys, kind="stable")[: max(count, 0)]]
    left[rows] = False
    return rows.tolist()


def begin_next_rows(trainer: RolloutTrainer, loader_rows: list[RowNumber]) -> None:
    """Begin to load the rows of the next generation, where what was just learned of rows decides them."""
    if trainer.row_choice.difficulty is not None:
        every = trainer.args.steps_per_generation * trainer.num_iterations
        next_step = (trainer._step // every + 1) * every
        trainer.loader.prefetch(trainer.row_choice.rows_of_generation(loader_rows, next_step))


def learn_of_rows(trainer: RolloutTrainer, rewards: torch.Tensor) -> None:
    """Count the groups that all ranks sampled; `rewards` (completions, functions) stand in the order of ranks."""
    difficulty, group = trainer.row_choice.difficulty, trainer.num_generations
    if difficulty is None:
        return
    rows = np.array(gather_object([row["row"] for row in trainer.batch.rows[::group]]))
    expected = np.where(difficulty.known, difficulty.chances, difficulty.chance_of_new)[rows].mean().item()
    successes = successes_of(rewards, trainer.reward_func_names).view(-1, group)
    difficulty.update(rows, successes.double().cpu().numpy())
    for name, value in (difficulty.shares() | {"rows/chance_of_spread": expected}).items():
        trainer._metrics["train"][name].append(value)


def slice_of_rank(rows: Sequence[int], rank: int, ranks: int) -> Sequence[int]:
    """This rank's equal share of rows that were drawn for all.

    >>> slice_of_rank([4, 0, 7, 1], 1, 2)
    [7, 1]
    """
    share = len(rows) // ranks
    return rows[rank * share : (rank + 1) * share]


def successes_of(rewards: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """(completions,) the success in [0, 1] of each row of `rewards` (completions, functions), NaN without any."""
    return rewards[:, names.index("accuracy") if "accuracy" in names else 0].clamp(0, 1)
