"""What a generation and a loss hand from one of TRL's methods to the next, as values with names."""

from dataclasses import dataclass, field
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.rollout.prompts import Example, Prompt


@dataclass
class GenerationBatch:
    """The N rows of one generation on this rank while TRL makes completions and scores of them.

    `examples` and `prompts` have one entry a row, the same object for rows of one group; prompts are on the device.
    `skip_old_pass`: TRL asks next for log-probs of the old policy that are not needed. `stats` are what was read in
    the completions, parallel to them, once rewards are computed.
    """

    examples: list[Example]
    prompts: list[Prompt]
    skip_old_pass: bool
    stats: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        return [example.record for example in self.examples]


@dataclass
class LossRows:
    """The rows of a micro-batch as TRL's loss hands them on to the forward pass, which leaves its log-probs (N, C)."""

    prompts: list[Prompt | None]  # None: a row that cannot move the policy
    logps: torch.Tensor | None = None
