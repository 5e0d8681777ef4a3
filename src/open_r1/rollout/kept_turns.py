"""Turns by transformers' `generate`: a row that calls a tool keeps its KV cache until the tool has answered."""

from collections.abc import Sequence
from typing import Protocol

from open_r1.rollout.generation import Keep, RowEnded
from open_r1.rollout.kept_rows import Continuation, KeptRow
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import OpenTurns


class SampleTurn(Protocol):
    """`generate_groups` of a model for the prompts of turns, of at most `most` tokens, of rows of these numbers."""

    def __call__(
        self,
        prompts: Sequence[Prompt],
        numbers: Sequence[int],
        most: int,
        tell: RowEnded,
        going_on: Sequence[Continuation],
    ) -> list[list[int]]: ...


class KeptTurns:
    """A `Sample` for one batch of rows, whose later turns go on from the KV cache of earlier ones.

    Where the model's cache cannot be kept (`kept_rows.why_read_anew`), each turn reads prompt and completion anew.
    """

    def __init__(self, sample: SampleTurn):
        self.sample = sample
        self.kept: dict[int, KeptRow] = {}  # number of a row that waits for a tool -> its cache

    def __call__(self, turns: OpenTurns) -> None:
        kept, self.kept = {number: self.kept[number] for number in turns.numbers if number in self.kept}, {}
        pairs = zip(turns.rows, turns.numbers, strict=True)
        going_on = [row.behind(kept[number]) for row, number in pairs if number in kept]
        prompts = [each.whole for each in going_on] or [row.continued for row in turns.rows]

        def ended(place: int, ids: list[int], keep: Keep | None) -> None:
            if turns.end(place, Segment(ids, sampled=True)) and keep is not None:
                self.kept[turns.numbers[place]] = keep()

        turns.end_others(self.sample(prompts, turns.numbers, max(turns.budgets), ended, going_on))
