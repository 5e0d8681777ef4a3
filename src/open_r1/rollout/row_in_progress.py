"""A row whose completion is being sampled: its turns, what tools answered, and the prompt of its next turn."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from open_r1.rollout.batching import merge_images
from open_r1.rollout.kept_rows import Continuation, KeptRow
from open_r1.rollout.processing import Values
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.trajectory import Segment, ToolTurns, Trajectory
from open_r1.rollout.vision_features import joined_parts
from open_r1.tools.answering import Answers
from open_r1.tools.environment_state import Earned
from open_r1.tools.episodes import Episode
from open_r1.tools.messages import ModelTurn


@dataclass
class Row:
    """A row in progress; `made` is what the processor made of each segment of tools; `episode` its environment;
    `answers` those to come to its last turn, None where it calls nothing that may be answered; `earned`, to come from
    its environment once the row has ended.
    `tensors_of` makes tensors of a trajectory and what was made, `place` brings them to the device."""

    example: Example
    prompt: Prompt
    tensors_of: Callable[[Trajectory, Sequence[Values]], ToolTurns]
    place: Callable[[ToolTurns], ToolTurns]
    episode: Episode | None = None
    segments: list[Segment] = field(default_factory=list)
    made: list[Values] = field(default_factory=list)
    turns: list[ModelTurn] = field(default_factory=list)
    limit: str | None = None
    answers: Future[Answers] | None = None
    earned: Future[Earned] | None = None

    @property
    def trajectory(self) -> Trajectory:
        """The segments so far."""
        return Trajectory(tuple(self.segments))

    @property
    def between(self) -> list[str]:
        """The text of each segment of tools, one token a picture."""
        return [segment.text for segment in self.segments if not segment.sampled]

    @property
    def pictures(self) -> list[Image.Image]:
        """The row's own pictures, then those of tools."""
        return [*self.example.pictures, *self.trajectory.pictures]

    @property
    def tensors(self) -> ToolTurns | None:
        """Its tool turns on the device, None where it has none."""
        return self.place(self.tensors_of(self.trajectory, self.made)) if self.made else None

    @property
    def continued(self) -> Prompt:
        """The prompt of its next turn."""
        turns = self.tensors
        return self.prompt if turns is None else continued(self.prompt, self.trajectory.ids, turns)

    def behind(self, kept: KeptRow) -> Continuation:
        """What its next turn begins with, of which the last turn's cache is kept: what a tool answered is new."""
        begin, ids = kept.tokens - len(self.prompt.ids), self.trajectory.ids
        turns = self.tensors_of(self.trajectory, self.made)
        answer = self.tensors_of(Trajectory(self.segments[-1:]), self.made[-1:])
        whole = continued(
            replace(self.prompt, images={}, features=None), ids, replace(turns, images={}).to(self.prompt.ids.device)
        )
        new = self.place(replace(turns.behind(begin), images=answer.images))
        rest = Prompt(
            whole.ids[kept.tokens :],
            whole.positions[..., kept.tokens :],
            new.types,
            new.images,
            new.joins,
            new.features,
        )
        return Continuation(kept, rest, whole)


def continued(prompt: Prompt, ids: Sequence[int], turns: ToolTurns) -> Prompt:
    """A prompt and the completion so far, token `ids` (C,), as the prompt of what follows."""
    positions = torch.cat([prompt.positions, prompt.positions[..., -1:] + 1 + turns.positions], dim=-1)
    pictured = [part for part in (prompt, turns) if part.images]
    features = [part.features for part in pictured]
    known = bool(features) and all(each is not None for each in features)
    return Prompt(
        torch.cat([prompt.ids, torch.tensor(ids, device=prompt.ids.device)]),
        positions,
        {name: torch.cat([value, turns.types[name]]) for name, value in prompt.types.items()},
        merge_images(pictured, packed=True),
        prompt.joins or turns.joins,
        joined_parts(features) if known else None,
    )
