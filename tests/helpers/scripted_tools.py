"""Tools for tests that whatever was sampled calls."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from helpers.families.prompts import picture
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.limits import ToolLimits
from open_r1.tools.toolbox import ToolAnswer

LIMITS = ToolLimits(3, 3)


@dataclass(frozen=True)
class Scripted:
    """A toolbox that seven of eight turns call, by their words; they get 0 to 2 pictures and a text."""

    limits: ToolLimits = LIMITS
    native: bool = True
    schemas: Sequence[dict] = ()
    arena: None = None
    workers: int = 2

    def read(self, text: str, in_thinking: bool = False) -> tuple[ToolCall, ...]:
        number = zlib.crc32(text.encode())
        return (ToolCall("look", {"number": number}),) if number % 8 else ()

    def answer(
        self, calls: Sequence[ToolCall], pictures: object, record: object, episode: None = None
    ) -> tuple[ToolAnswer, ...]:
        number = calls[0].arguments["number"]
        random = torch.Generator().manual_seed(number)
        shown = [picture((56, 56 + 28 * ((number + i) % 2)), random) for i in range(number // 3 % 3)]
        return (ToolAnswer("look", ("<|im_end|>", *shown, str(number % 7)), error=number % 5 == 0),)
