"""What rewards read in the completions of a step: answers, lengths, ends; and the metric `parse_rate`."""

from collections.abc import Collection, Sequence
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.rewards.base import read_final_text
from open_r1.rewards.registry import parsed
from open_r1.rewards.trl_adapter import CompletionMessages, completion_text


def read(
    records: Sequence[Record],
    completions: Sequence[CompletionMessages],
    ids: Sequence[Sequence[int]],
    ends: Collection[int],
    graded: bool = True,
) -> dict[str, list[Any]]:
    """Parallel lists, one entry a completion: `parsed` (None: nothing), `tokens`, `truncated` (no end token came).

    Where accuracy is not `graded` the gold may be none that its method could use: what is read is the final text.

    >>> row = Record("1", (), "", (), "A", accu_reward_method="mcq")
    >>> read([row, row], ["(B)", "Well"], [[5, 9], [5, 5]], ends={9})
    {'parsed': ['B', None], 'tokens': [2, 2], 'truncated': [False, True]}
    """
    parse = parsed if graded else read_final_text
    return {
        "parsed": [parse(completion_text(c), record) for c, record in zip(completions, records, strict=True)],
        "tokens": [len(row) for row in ids],
        "truncated": [row[-1] not in ends for row in ids],
    }


def log_parse_rate(trainer: Any, answers: Sequence[Any]) -> None:
    """The share in [0, 1] of this step's completions, on all ranks, in which the accuracy method reads an answer."""
    mine = torch.tensor([answer is not None for answer in answers], device=trainer.accelerator.device)
    share = trainer.accelerator.gather(mine).float().mean().item()
    trainer._metrics["train" if trainer.model.training else "eval"]["parse_rate"].append(share)
