"""State that TRL's methods pass on to each other: the rows of a generation, and the rows of a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.trajectory import ToolTurns
from open_r1.rollout.turns import TurnRollout


@dataclass(frozen=True)
class SampledBatch:
    """Completions and rewards of a batch that has them before TRL asks: `ids` and, from vLLM, `logps` of this rank's
    rows, and the `rewards` (rows, functions) of all ranks' rows, in the order of ranks."""

    ids: list[list[int]]
    logps: list[list[float]] | None
    rewards: torch.Tensor


@dataclass
class GenerationBatch:
    """The N rows of one generation on this rank, while TRL samples and scores their completions.

    `rows`, `examples` and `prompts` have one entry a row, the same object for rows of one group; prompts are on the
    device; a probe's greedy answers have no `rows`. `skip_old_pass`: TRL's next call for log-probs, of the old policy,
    needs none. `sampled`: what was sampled and scored already (`resampling`). `turns`: what tools put into each
    completion, empty without tools, as are the `rollouts`. `stats` are those of `completion_stats`, set when TRL asks
    for rewards.
    """

    rows: list[RowNumber]
    examples: list[Example]
    prompts: list[Prompt]
    skip_old_pass: bool
    sampled: SampledBatch | None = None
    turns: Sequence[ToolTurns | None] = ()
    rollouts: Sequence[TurnRollout] = ()
    stats: dict[str, list[Any]] = field(default_factory=dict)

    def take_rollouts(self, rollouts: Sequence[TurnRollout]) -> None:
        """Hold the completions of a run with tools, one a row."""
        self.rollouts, self.turns = rollouts, [one.tensors for one in rollouts]

    @property
    def records(self) -> list[Record]:
        """The record of each row."""
        return [example.record for example in self.examples]


@dataclass(frozen=True)
class Scores:
    """Scores of N completions padded to C: log-probs (N, C) and entropies (N, C) in nats, 0 at padding; MoE loss."""

    logps: torch.Tensor
    entropies: torch.Tensor | None
    aux_loss: torch.Tensor | None


@dataclass
class LossRows:
    """The rows of a micro-batch, from TRL's loss to the forward pass, which stores its log-probs (N, C) here.

    `turns`: what tools put into each, empty without tools; `scores`: those of the policy, where they were computed
    before TRL's loss.
    """

    prompts: list[Prompt | None]  # None: a row that cannot move the policy
    turns: Sequence[ToolTurns | None] = ()
    logps: torch.Tensor | None = None
    scores: Scores | None = None
