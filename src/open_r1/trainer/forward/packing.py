"""Packs groups into one sequence: each prompt with its images ONCE, followed by all its completions.

Two groups, the first of two completions (a, b), the second of one (c), without any padding:

    tokens     p0 p1 p2  q0 q1 | p3 a1 a2 | p3 b1 | q2 c1 c2
    position    0  1  2   0  1 |  3  4  5 |  3  4 |  2  3  4
    label                      | a1 a2 a3 | b1 b2 | c1 c2 c3

First come the prefixes: prompts without their last token. Each completion is a suffix that begins with the prompt's
last token, so that its first token is predicted inside its own suffix, and ends before its own last token, which
predicts nothing. A suffix token sees its own prefix and the suffix up to itself, as if it stood there alone:

               p0 p1 p2  q0 q1 | p3 a1 a2 | p3 b1 | q2 c1 c2
    p2          x  x  x
    a1          x  x  x           x  x
    b1          x  x  x                      x  x
    c2                    x  x                       x  x  x

Tokens and pictures that tools put into a completion stand in its suffix; they have no label.
`open_r1.trainer.forward.shared_prefix` computes attention over this; all else in a transformer works token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from open_r1.rollout.batching import groups_of
from open_r1.rollout.device_copies import to_device
from open_r1.rollout.prompts import Prompt
from open_r1.rollout.trajectory import ToolTurns, counted_places
from open_r1.trainer.forward.image_blocks import CAUSAL, NO_IMAGE, ImageSight, blocks_of, blocks_of_suffixes, seen
from open_r1.trainer.forward.ragged import Lengths, RaggedSuffixes, ragged_suffixes


@dataclass(frozen=True)
class Layout:
    """B prefixes of `prefix_lengths` (B,), then R suffixes of `suffix_lengths` (R,), where r continues `group[r]`.

    Padded to P and S they are B x P + R x S places: `token_index` is the token at each place, 0 where `real` is false,
    and `place_index` (L,) the place of each token. `blocks` (B, P) is the image that a prefix token belongs to, for
    models whose images see themselves in both directions, in layers of `sight`; `suffix_blocks` (R, S) that of a
    suffix token, None where no suffix has images.
    """

    prefix_lengths: torch.Tensor
    suffix_lengths: torch.Tensor
    group: torch.Tensor
    token_index: torch.Tensor
    place_index: torch.Tensor
    real: torch.Tensor
    sizes: tuple[int, int, int, int]  # B, P, R, S
    suffixes_per_prefix: int | None  # where that is one number
    prefix_tokens: int  # of all prefixes together
    lengths: Lengths
    blocks: torch.Tensor | None
    sight: ImageSight = CAUSAL
    suffix_blocks: torch.Tensor | None = None
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)  # made once per forward, used by every layer

    def to(self, device: torch.device, **options: Any) -> "Layout":
        """A copy on a device; accelerate moves batches by a method of this name."""
        tensors = {name: value.to(device, **options) for name, value in vars(self).items() if torch.is_tensor(value)}
        return replace(self, **tensors, masks={})

    @property
    def padded(self) -> bool:
        """Whether some places hold no token."""
        return len(self.token_index) != len(self.place_index)

    def suffix_mask(self, window: int | None, heads: int) -> torch.Tensor:
        """(R, 1, heads x S, P + S) bool: the keys that a suffix token sees, for `heads` query heads one behind the
        other; (1, ...) where all suffixes are of one prefix."""
        if (window, heads) not in self.masks:
            _, longest, _, length = self.sizes
            lengths = self.prefix_lengths
            begin = (lengths if len(lengths) == 1 else lengths[self.group])[:, None]
            key = torch.arange(longest + length, device=begin.device)
            query = key[:length]
            order = torch.where(key < longest, key, key - longest + begin)  # (R, P + S), positions in a row alone
            place = (begin + query)[:, :, None]  # (R, S, 1)
            near = order[:, None] > place - window if window else None
            visible = seen(order[:, None] <= place, near, self.same_image(window), self.sight.beyond)
            visible &= ((key < begin) | (key >= longest))[:, None]
            self.masks[window, heads] = visible.repeat(1, heads, 1)[:, None]
        return self.masks[window, heads]

    def same_image(self, window: int | None) -> torch.Tensor | None:
        """(R, S, P + S) bool: the keys of the image that a suffix token belongs to; None where layers of this `window`
        see images as text."""
        if self.suffix_blocks is None or not self.sight.acts(window):
            return None
        own = self.suffix_blocks
        theirs = torch.nn.functional.pad(own, (self.sizes[1], 0), value=NO_IMAGE)
        return (own[:, :, None] == theirs[:, None]) & (own != NO_IMAGE)[:, :, None]

    def prefix_mask(self, window: int | None) -> torch.Tensor | None:
        """(B, 1, P, P) bool: the keys that a prefix token sees in layers of this `window`, None for full attention;
        None where that is causal and nothing else."""
        longest, blocks = self.sizes[1], self.blocks if self.sight.acts(window) else None
        window = window if window and window < longest else None
        if window is None and blocks is None:
            return None
        key = ("prefix", window, blocks is None)
        if key not in self.masks:
            at = torch.arange(longest, device=self.prefix_lengths.device)
            causal, near = (at <= at[:, None])[None], (at > at[:, None] - (window or longest))[None]
            same = (
                (blocks[:, None] == blocks[:, :, None]) & (blocks != NO_IMAGE)[:, None] if blocks is not None else None
            )
            self.masks[key] = seen(causal, near, same, self.sight.beyond)[:, None]
        return self.masks[key]

    @cached_property
    def left_padded(self) -> "Layout":
        """The same with each prefix at the end of its P places."""
        if self.prefix_tokens == self.sizes[0] * self.sizes[1]:
            return self
        room = self.sizes[1] - self.prefix_lengths
        place_index = self.place_index.clone()
        place_index[: self.prefix_tokens] += room.repeat_interleave(
            self.prefix_lengths, output_size=self.prefix_tokens
        )
        tokens = torch.arange(len(place_index), device=place_index.device)
        token_index = torch.zeros_like(self.token_index).index_copy(0, place_index, tokens)
        real = torch.zeros_like(self.real).index_fill(0, place_index, True)
        return replace(self, place_index=place_index, token_index=token_index, real=real, masks={})

    @cached_property
    def ragged(self) -> RaggedSuffixes:
        """The two attention calls without padding: prefixes over themselves, then suffixes over prefix and suffix."""
        return ragged_suffixes(self.lengths, self.place_index.device)


@dataclass(frozen=True)
class Packed:
    """A packed batch: `inputs` for the model's call, and where each completion token lies in it.

    `index` (T,) into the suffixes' tokens, `row` (T,) and `column` (T,) of the T completion tokens that count.
    """

    inputs: dict[str, Any]
    index: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


def pack(
    prompts: Sequence[Prompt],
    completions: torch.Tensor,
    lengths: Sequence[int],
    sight: ImageSight = CAUSAL,
    turns: Sequence[ToolTurns | None] = (),
) -> Packed:
    """Pack rows into one sequence. `prompts` has one entry a row, the same object for rows of a group, which are
    neighbours; `completions` (N, C) token ids, of which the first `lengths[i]` are there. `sight`: how images see
    themselves; `turns`: what tools put into each completion, empty where no tool acted."""
    (heads, group), device = groups_of(prompts), completions.device
    trimmed = [row[: max(1, n)] for row, n in zip(completions, lengths, strict=True)]  # an empty one keeps its place
    rows = list(zip(prompts, trimmed, turns or [None] * len(prompts), strict=True))
    ids = [p.ids[:-1] for p in heads] + [torch.cat([p.ids[-1:], c[:-1]]) for p, c, _ in rows]
    positions = [p.positions[..., :-1] for p in heads] + [suffix_positions(p, len(c), turn) for p, c, turn in rows]
    counted = counted_places(lengths, turns, completions.shape[1])
    row, column = counted.nonzero(as_tuple=True)
    index = torch.cat([flags[: len(c)] for flags, c in zip(counted, trimmed, strict=True)]).nonzero()[:, 0]
    index, row, column = (to_device(tensor, device) for tensor in (index, row, column))
    said = torch.cat(trimmed)
    position_ids = torch.cat(positions, dim=-1)
    types = {
        name: torch.cat([p.types[name][:-1] for p in heads] + [suffix_types(p, name, len(c), t) for p, c, t in rows])
        for name in heads[0].types
    }
    inputs = {name: values[None] for name, values in types.items()} | {
        "input_ids": torch.cat(ids)[None],
        "position_ids": position_ids[None] if position_ids.ndim == 1 else position_ids[:, None],
        "attention_mask": torch.ones(1, 1, 1, 1, device=device),  # of four dimensions: models hand it on unread
        "shift_labels": torch.full_like(said, -100).index_copy(0, index, said[index])[None],
        "shared_prefix": lay_out(
            torch.tensor([len(p.ids) - 1 for p in heads]),
            torch.tensor(list(map(len, trimmed))),
            torch.tensor(group),
            blocks_of(heads) if sight else None,
            device,
            sight,
            blocks_of_suffixes(turns, list(map(len, trimmed)), device) if sight and any(turns) else None,
        ),
    }
    return Packed(inputs, index, row, column)


def suffix_positions(prompt: Prompt, tokens: int, turns: ToolTurns | None) -> torch.Tensor:
    """(..., tokens) rotary positions of a suffix: the prompt's last one, then those of the completion but its last."""
    last = prompt.positions[..., -1:]
    if turns is None:
        return last + torch.arange(tokens, device=last.device)
    return torch.cat([last, last + 1 + turns.positions[..., : tokens - 1]], dim=-1)


def suffix_types(prompt: Prompt, name: str, tokens: int, turns: ToolTurns | None) -> torch.Tensor:
    """(tokens,) types of a suffix; without tools all are those of the prompt's last token, which is text."""
    last = prompt.types[name][-1:]
    return last.expand(tokens) if turns is None else torch.cat([last, turns.types[name][: tokens - 1]])


def lay_out(
    prefix_lengths: torch.Tensor,
    suffix_lengths: torch.Tensor,
    group: torch.Tensor,
    blocks: torch.Tensor | None,
    device: torch.device,
    sight: ImageSight = CAUSAL,
    suffix_blocks: torch.Tensor | None = None,
) -> Layout:
    """A Layout on `device` from prefix and suffix lengths on the CPU."""
    both = (prefix_lengths, suffix_lengths)
    sizes = tuple(size for lengths in both for size in (len(lengths), int(lengths.max())))
    real = torch.cat([(torch.arange(int(lengths.max())) < lengths[:, None]).flatten() for lengths in both])
    place_index = real.nonzero()[:, 0]
    token_index = torch.zeros(len(real), dtype=torch.long)
    token_index[place_index] = torch.arange(len(place_index))
    counts = group.bincount().tolist()
    tensors = (to_device(tensor, device) for tensor in (*both, group, token_index, place_index, real))
    each = counts[0] if len(set(counts)) == 1 else None
    lengths = Lengths(prefix_lengths.tolist(), suffix_lengths.tolist(), group.tolist())
    return Layout(*tensors, sizes, each, int(prefix_lengths.sum()), lengths, blocks, sight, suffix_blocks)
