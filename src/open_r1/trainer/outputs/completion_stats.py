"""Statistics of completions: parsed answers, lengths, truncation, and the metric `parse_rate`."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from open_r1.data.record import Record
from open_r1.rewards.base import read_final_text
from open_r1.rewards.registry import parsed
from open_r1.rewards.turns import CompletionMessages, completion_text


def completion_stats(
    records: Sequence[Record],
    completions: Sequence[CompletionMessages],
    ids: Sequence[Sequence[int]],
    ends: Collection[int],
    graded: bool = True,
) -> dict[str, list[Any]]:
    """Parallel lists, one entry a completion: `parsed` (None: nothing), `tokens`, `truncated` (no end token came).

    Without `graded` accuracy the gold may be unfit for its method, so `parsed` is the final text.

    >>> row = Record("1", (), "", (), "A", accu_reward_method="mcq")
    >>> completion_stats([row, row], ["(B)", "Well"], [[5, 9], [5, 5]], ends={9})
    {'parsed': ['B', None], 'tokens': [2, 2], 'truncated': [False, True]}
    """
    parse = parsed if graded else read_final_text
    return {
        "parsed": [parse(completion_text(c), record) for c, record in zip(completions, records, strict=True)],
        "tokens": [len(row) for row in ids],
        "truncated": [row[-1] not in ends for row in ids],
    }


def parse_rate(answers: Sequence[Any], accelerator: Accelerator) -> float:
    """The share in [0, 1] of the completions of all ranks that have an answer; `answers` are this rank's."""
    has_answer = torch.tensor([answer is not None for answer in answers], device=accelerator.device)
    return accelerator.gather(has_answer).float().mean().item()
