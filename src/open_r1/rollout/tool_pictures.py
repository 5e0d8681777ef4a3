"""Whether pictures that tools put into a completion are to a model what pictures of one conversation are.

A tool's picture is processed when the tool returns it, and joined with those that were there before. An engine that
reads the conversation as one text, or a user who does so with the trained model, has them processed together. Both are
the same only where a picture's fields, tokens and positions do not depend on the pictures beside it, which is found by
trying the run's own processor; no name of a family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from open_r1.rollout.batching import merge_images
from open_r1.rollout.processing import process
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import Prompt, prompt_from_fields, rotary_positions

SHOWN_BEFORE = ((96, 64), (40, 112))  # (width, height) of the pictures before a tool's
SHOWN_BY_TOOL = ((64, 160), (200, 56))
OPENING, CLOSING = "Look", "seen"  # words around the pictures of a turn


def why_no_tool_pictures(
    processor: ProcessorMixin, fields: PromptFields, template: Mapping[str, Any] | None = None
) -> str | None:
    """Why pictures of tools cannot stand in completions of this processor and model, or None.

    `template` holds options of the chat template. Tried with one picture and with two before a tool's one and two.
    """
    name = type(processor).__name__
    for count in (1, 2):
        first, tools = SHOWN_BEFORE[:count], SHOWN_BY_TOOL[:count]
        chats = [[turn_with(first)], [turn_with(tools)], [turn_with(first), answer(), turn_with(tools)]]
        try:
            alone, tool, whole = (process(processor, [chat], template) for chat in chats)
        except Exception as error:  # each processor refuses in its own way
            return f"{name} takes no pictures in two turns: {' '.join(str(error).split())[:100]}"
        counting = replace(fields, rope=None)
        parts = Parts(*(prompt_from_fields(values, counting) for values in (alone, tool, whole)))
        if reason := parts.why_tokens_differ(processor) or parts.why_pictures_differ() or parts.why_turned(fields):
            return f"{name}: {reason}"
    return None


def turn_with(sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """A turn of the user with grey pictures of these sizes between two words."""
    shown = [{"type": "image", "image": Image.new("RGB", size, (size[0],) * 3)} for size in sizes]
    opening, closing = ({"type": "text", "text": word} for word in (OPENING, CLOSING))
    return {"role": "user", "content": [opening, *shown, closing]}


def answer() -> dict[str, Any]:
    """A turn of the model."""
    return {"role": "assistant", "content": [{"type": "text", "text": "So"}]}


@dataclass(frozen=True)
class Parts:
    """A turn before a tool's and one with the tool's pictures, each processed alone, and both in one conversation."""

    first: Prompt
    tool: Prompt
    whole: Prompt

    @property
    def prefix(self) -> int:
        """Tokens that the conversation has in common with its first turn."""
        return common_prefix(self.first.ids, self.whole.ids)

    def why_tokens_differ(self, processor: ProcessorMixin) -> str | None:
        """Why tokens of a picture are not those that it has alone, or None."""
        ending = common_prefix(self.tool.ids.flip(0), self.whole.ids.flip(0))
        begun, ended = self.whole.ids[: self.prefix], self.whole.ids[len(self.whole.ids) - ending :]
        texts = zip((CLOSING, OPENING), map(processor.tokenizer.decode, (begun.tolist(), ended.tolist())), strict=True)
        same = all(word in text for word, text in texts)
        return None if same else "the tokens of a picture depend on the pictures beside it"

    def why_pictures_differ(self) -> str | None:
        """Why fields of pictures are not those that they have alone, joined, or None."""
        joined = merge_images([self.first, self.tool], packed=True)
        for name, value in self.whole.images.items():
            if not (joined[name].shape == value.shape and torch.equal(joined[name], value)):
                return f"{name} of a picture depends on the pictures beside it"
        return None

    def why_turned(self, fields: PromptFields) -> str | None:
        """Why the model's positions of the conversation do not go on behind its first turn as they would alone."""

        def positions(tokens: slice, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
            types = {name: value[None, tokens] for name, value in self.whole.types.items()}
            return rotary_positions(self.whole.ids[None, tokens], {**types, **images}, fields.rope)

        cut = min(self.prefix, len(self.whole.ids) - 1)
        begun, after = positions(slice(cut), self.first.images), positions(slice(cut, None), self.tool.images)
        whole = positions(slice(None), self.whole.images)
        same = torch.equal(torch.cat([begun, begun[..., -1:] + 1 + after], dim=-1), whole)
        return None if same else "the positions of a picture depend on the pictures before it"


def common_prefix(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many tokens two sequences begin with alike.

    >>> common_prefix(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4, 5]))
    2
    """
    shorter = min(len(one), len(other))
    differing = (one[:shorter] != other[:shorter]).nonzero()
    return int(differing[0]) if len(differing) else shorter
