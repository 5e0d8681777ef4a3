"""A completion as segments: what the model sampled, what a tool answered, what the model sampled then, ...

A completion of one segment is what it is without tools. Rollouts make trajectories, rewards and reports read them;
forward passes read `ToolTurns`, which hold the same as tensors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from open_r1.rollout.device_copies import fields_to_device, to_device
from open_r1.rollout.media_joins import Join


@dataclass(frozen=True)
class Segment:
    """Tokens of one turn, pictures expanded: `sampled` by the model, or put in by a tool with its `pictures`, from the
    `text` that the processor was given with them.

    `logps`: the log-probs that an engine sampled the tokens with, None where it tells none.
    """

    ids: Sequence[int]
    sampled: bool
    pictures: Sequence[Image.Image] = ()
    logps: Sequence[float] | None = None
    text: str = ""

    def cut(self, tokens: int) -> "Segment":
        """Its first `tokens` tokens."""
        return replace(self, ids=self.ids[:tokens], logps=self.logps and self.logps[:tokens])

    def saved(self) -> dict[str, Any]:
        """It as plain values, for `torch.save`, without log-probs; pictures as (height, width, 3) bytes."""
        pictures = [torch.from_numpy(np.array(picture.convert("RGB"))) for picture in self.pictures]
        return {"ids": list(self.ids), "sampled": self.sampled, "pictures": pictures, "text": self.text}


@dataclass(frozen=True)
class Trajectory:
    """The segments of one completion, in order; the first is sampled."""

    segments: Sequence[Segment]

    @property
    def ids(self) -> list[int]:
        """All token ids, (C,)."""
        return [token for segment in self.segments for token in segment.ids]

    @property
    def scored(self) -> list[bool]:
        """(C,) true for tokens that the model sampled."""
        return [segment.sampled for segment in self.segments for _ in segment.ids]

    @property
    def logps(self) -> list[float] | None:
        """(C,) the log-probs that an engine sampled with, NaN at tokens of tools; None where it told none.

        >>> Trajectory((Segment([5, 6], True, logps=[-1.0, -2.0]), Segment([7], False))).logps
        [-1.0, -2.0, nan]
        """
        if self.segments[0].logps is None:
            return None
        return [logp for s in self.segments for logp in (s.logps if s.sampled else [math.nan] * len(s.ids))]

    @property
    def sampled_ids(self) -> list[int]:
        """The token ids that the model sampled."""
        return [token for segment in self.segments if segment.sampled for token in segment.ids]

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures of tools, in order."""
        return [picture for segment in self.segments for picture in segment.pictures]

    def saved(self) -> list[dict[str, Any]]:
        """Its segments as plain values, for `torch.save`."""
        return [segment.saved() for segment in self.segments]


def loaded_trajectory(saved: Sequence[Mapping[str, Any]]) -> Trajectory:
    """What `Trajectory.saved` returned, as it was, without log-probs."""
    return Trajectory(
        tuple(
            Segment(**{**segment, "pictures": tuple(Image.fromarray(one.numpy()) for one in segment["pictures"])})
            for segment in saved
        )
    )


def one_turn(ids: Sequence[int]) -> Trajectory:
    """The trajectory of a completion without tools."""
    return Trajectory((Segment(ids, sampled=True),))


@dataclass(frozen=True)
class ToolTurns:
    """What tools put into one completion of C tokens, for forward passes.

    `scored` (C,) bool, which stays on the host: true for tokens that the model sampled; `positions` (C,) or
    (channels, C): rotary positions, counted from the completion's first token; `types`: per-token fields (C,);
    `images`: the processor's fields of the tools' pictures, and `joins`: how those of several completions are joined;
    `features`: a frozen vision tower's output for them, else None.
    """

    scored: torch.Tensor
    positions: torch.Tensor
    types: dict[str, torch.Tensor]
    images: dict[str, torch.Tensor]
    joins: Mapping[str, Join] = field(default_factory=dict)
    features: Any = None

    def behind(self, token: int) -> "ToolTurns":
        """The part from a token of the completion on, whose pictures are those of the whole."""
        types = {name: values[token:] for name, values in self.types.items()}
        return replace(self, scored=self.scored[token:], positions=self.positions[..., token:], types=types)

    def to(self, device: torch.device) -> "ToolTurns":
        """A copy on a device."""
        types, images = fields_to_device(self.types, device), fields_to_device(self.images, device)
        positions = to_device(self.positions, device)
        return replace(self, positions=positions, types=types, images=images)


def counted_places(lengths: Sequence[int], turns: Sequence[ToolTurns | None], width: int) -> torch.Tensor:
    """(N, width) bool, on the host: the tokens of N completions of `lengths` that count, all of a completion without
    tools and those that were sampled of another; `turns` is empty where no tool acted.

    >>> counted_places([3, 1], (), 3).tolist()
    [[True, True, True], [True, False, False]]
    """
    counted = torch.arange(width) < torch.tensor(lengths)[:, None]
    for row, turn in zip(counted, turns, strict=bool(turns)):
        if turn is not None:
            row[: len(turn.scored)] &= turn.scored[:width]
    return counted
