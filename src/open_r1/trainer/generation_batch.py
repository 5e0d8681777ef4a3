"""State that TRL's methods pass on to each other: the rows of a generation, and the rows of a loss."""

from dataclasses import dataclass, field
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.rollout.prompts import Example, Prompt


@dataclass
class GenerationBatch:
    """The N rows of one generation on this rank, while TRL samples and scores their completions.

    `examples` and `prompts` have one entry a row, the same object for rows of one group; prompts are on the device.
    `skip_old_pass`: TRL's next call for log-probs, of the old policy, needs none. `stats` are those of
    `completion_stats`, set when rewards are computed.
    """

    examples: list[Example]
    prompts: list[Prompt]
    skip_old_pass: bool
    stats: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """The record of each row."""
        return [example.record for example in self.examples]


@dataclass
class LossRows:
    """The rows of a micro-batch, from TRL's loss to the forward pass, which stores its log-probs (N, C) here."""

    prompts: list[Prompt | None]  # None: a row that cannot move the policy
    logps: torch.Tensor | None = None
