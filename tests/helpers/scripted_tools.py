"""Tools for tests that whatever was sampled calls."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from helpers.families.prompts import picture
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.limits import ToolLimits
from open_r1.tools.toolbox import RowCalls, ToolAnswer

LIMITS = ToolLimits(3, 3)


@dataclass(frozen=True)
class Scripted:
    """A toolbox that seven of eight turns call, by their words; they get 0 to 2 pictures and a text."""

    limits: ToolLimits = LIMITS
    native: bool = True
    schemas: Sequence[dict] = ()
    arena: None = None

    def read(self, text: str, in_thinking: bool = False) -> tuple[ToolCall, ...]:
        number = zlib.crc32(text.encode())
        return (ToolCall("look", {"number": number}),) if number % 8 else ()

    def answer_many(
        self, asked: Sequence[RowCalls], episodes: Sequence[None] = ()
    ) -> Iterator[tuple[int, tuple[ToolAnswer, ...]]]:
        for index, (calls, _, _) in reversed(list(enumerate(asked))):  # as they finish
            number = calls[0].arguments["number"]
            random = torch.Generator().manual_seed(number)
            shown = [picture((56, 56 + 28 * ((number + i) % 2)), random) for i in range(number // 3 % 3)]
            yield index, (ToolAnswer("look", ("<|im_end|>", *shown, str(number % 7)), error=number % 5 == 0),)
