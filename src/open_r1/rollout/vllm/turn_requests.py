"""Requests for the turns of completions with tools: one a row and turn, as token ids. (Does not import vLLM)

What was sampled is sent as it was sampled and never tokenized again; what tools answered stands between with one token
a picture, and all pictures go along in order. The engine computes anew only what is behind its prefix cache.
"""

import random
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import OpenTurns
from open_r1.rollout.vllm.types import Request, SampledCompletion


class TurnRequests:
    """A `RequestSource` of rows with tools: a row whose calls are answered goes on at once, whatever others do.

    `request(row, number)` is that for the first turn of a row; `number` is its place in the batch.
    """

    def __init__(self, turns: OpenTurns, request: Callable[[Row, int], Request], tokenizer: Any):
        self.turns, self.request, self.tokenizer = turns, request, tokenizer
        self.places: list[int] | None = None  # of the row of each request

    @property
    def awaited(self) -> Collection[Future[Any]]:
        return self.turns.awaited.keys()

    def take(self) -> list[Request]:
        """One request for each row whose next turn begins. Raises what a tool's fault raises."""
        begin = range(len(self.turns.rows)) if self.places is None else self.turns.going_on()
        self.places = [*(self.places or ()), *begin]
        return [self.next(place) for place in begin]

    def next(self, place: int) -> Request:
        """The request for a row's next turn."""
        row = self.turns.rows[place]
        first = self.request(row, self.turns.numbers[place])
        return next_request(first, row, self.turns.budget(place), self.tokenizer)

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        (one,) = completions
        self.turns.end(self.places[number], Segment(one.ids, sampled=True, logps=one.logps))


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


def turn_seed(seed: int, turn: int) -> int:
    """The seed of a turn from that of its completion, which is that of the first.

    >>> turn_seed(7, 0), turn_seed(7, 1) == turn_seed(7, 2)
    (7, False)
    """
    return random.Random(f"{seed}/turn {turn}").getrandbits(31) if turn else seed
