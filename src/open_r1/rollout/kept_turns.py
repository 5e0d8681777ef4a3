"""Turns by transformers' `generate`: a row that calls a tool keeps its KV cache until the tool has answered."""

from collections.abc import Sequence
from typing import Protocol

from open_r1.rollout.generation import Keep, RowEnded
from open_r1.rollout.kept_rows import Continuation, KeptRow
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.trajectory import Segment
from open_r1.rollout.turns import TurnEnded


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

    def __call__(
        self, rows: Sequence[Row], numbers: Sequence[int], budgets: Sequence[int], tell: TurnEnded
    ) -> list[Segment]:
        kept, self.kept = {number: self.kept[number] for number in numbers if number in self.kept}, {}
        going_on = [row.behind(kept[number]) for row, number in zip(rows, numbers, strict=True) if number in kept]
        prompts = [each.whole for each in going_on] or [row.continued for row in rows]

        def ended(place: int, ids: list[int], keep: Keep | None) -> None:
            if tell(place, ids) and keep is not None:
                self.kept[numbers[place]] = keep()

        ids = self.sample(prompts, numbers, max(budgets), ended, going_on)
        return [Segment(each, sampled=True) for each in ids]
