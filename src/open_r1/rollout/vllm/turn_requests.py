"""Requests for later turns of completions with tools: one a row and turn, as token ids. (Does not import vLLM)

What was sampled is sent as it was sampled and never tokenized again; what tools answered stands between with one token
a picture, and all pictures go along in order. The engine computes anew only what is behind its prefix cache.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.vllm.types import Request, SampledCompletion


def next_request(request: Request, row: Row, tokens: int, tokenizer: Any) -> Request:
    """The request for the next turn of a row, of at most `tokens`, from that for its first."""
    between = iter(row.between)
    parts = [
        s.ids if s.sampled else tokenizer(next(between), add_special_tokens=False)["input_ids"] for s in row.segments
    ]
    return replace(
        request,
        ids=[*request.ids, *(token for part in parts for token in part)],
        expanded=[*request.expanded, *row.trajectory.ids],
        pictures=[*request.pictures, *row.trajectory.pictures],
        chat=None,
        seed=turn_seed(request.seed, len(row.made)),
        tokens=tokens,
    )


def sampled_segments(answers: Sequence[Sequence[SampledCompletion]]) -> list[Segment]:
    """The completions of all requests, in order, as segments of their rows."""
    return [Segment(one.ids, sampled=True, logps=one.logps) for answer in answers for one in answer]


def turn_seed(seed: int, turn: int) -> int:
    """The seed of a turn from that of its completion, which is that of the first.

    >>> turn_seed(7, 0), turn_seed(7, 1) == turn_seed(7, 2)
    (7, False)
    """
    return random.Random(f"{seed}/turn {turn}").getrandbits(31) if turn else seed
