"""A trajectory as the tensors of forward passes: which tokens count, rotary positions, types, pictures of tools."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from transformers import ProcessorMixin

from open_r1.rollout.batching import merge_images
from open_r1.rollout.processing import Values
from open_r1.rollout.processor_fields import PromptFields
from open_r1.rollout.prompts import prompt_from_fields, rotary_positions
from open_r1.rollout.trajectory import ToolTurns, Trajectory


def processed_answer(processor: ProcessorMixin, text: str, pictures: Sequence[Image.Image]) -> Values:
    """The processor's fields of a text with its pictures, expanded."""
    images = {"images": [list(pictures)]} if pictures else {}
    made = processor(text=[text], add_special_tokens=False, return_tensors="pt", **images)
    return {name: value for name, value in made.items() if torch.is_tensor(value)}


def turns_again(trajectory: Trajectory, fields: PromptFields, processor: ProcessorMixin) -> ToolTurns | None:
    """The tool turns of a completion that was saved or sent, as they were made; on the CPU, None where it has none."""
    tools = [segment for segment in trajectory.segments if not segment.sampled]
    made = [processed_answer(processor, segment.text, segment.pictures) for segment in tools]
    return tool_turns_of(trajectory, fields, made) if made else None


def tool_turns_of(trajectory: Trajectory, fields: PromptFields, made: Sequence[Values]) -> ToolTurns:
    """The tool turns of a completion of C tokens, on the CPU.

    `made` is the processor's output for each segment of a tool, in order: token ids (1, T), their types, its pictures.
    Positions are those of the completion alone, by the model's own count; sampled tokens are of type 0, text.
    """
    tools = [prompt_from_fields(values, replace(fields, rope=None)) for values in made]
    types = {name: types_of_trajectory(trajectory, [tool.types.get(name) for tool in tools]) for name in fields.tokens}
    images = merge_images(tools, packed=True)
    values = {name: value[None] for name, value in types.items()} | images
    positions = rotary_positions(torch.tensor([trajectory.ids]), values, fields.rope)
    return ToolTurns(torch.tensor(trajectory.scored), positions, types, images, fields.joins)


def types_of_trajectory(trajectory: Trajectory, of_tools: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """(C,) types of a completion's tokens, from those of each segment of a tool; None: they are text, type 0."""
    given = iter(of_tools)
    of_each = [None if segment.sampled else next(given) for segment in trajectory.segments]
    dtype = next((types.dtype for types in of_tools if types is not None), torch.long)
    parts = zip(trajectory.segments, of_each, strict=True)
    return torch.cat([torch.zeros(len(s.ids), dtype=dtype) if types is None else types for s, types in parts])
