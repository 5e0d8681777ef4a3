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

`open_r1.trainer.forward.shared_prefix` computes attention over this; all else in a transformer works token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from open_r1.rollout.batching import groups_of
from open_r1.rollout.device_copies import to_device
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.forward.ragged import Lengths, RaggedSuffixes, ragged_suffixes

NO_IMAGE = -1


@dataclass(frozen=True)
class ImageSight:
    """Whether tokens of one image see each other in both directions: in layers with full attention, in those with a
    sliding window, and there also `beyond` the window."""

    full: bool = False
    sliding: bool = False
    beyond: bool = False

    def __bool__(self) -> bool:
        return bool(self.full or self.sliding)


@dataclass(frozen=True)
class Layout:
    """B prefixes of `prefix_lengths` (B,), then R suffixes of `suffix_lengths` (R,), where r continues `group[r]`.

    Padded to P and S they are B x P + R x S places: `token_index` is the token at each place, 0 where `real` is false,
    and `place_index` (L,) the place of each token. `blocks` (B, P) is the image that a prefix token belongs to, for
    models whose images see themselves in both directions, in layers of `sight`.
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
    sight: ImageSight = ImageSight()
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
            visible = (order[:, None] <= place) & ((key < begin) | (key >= longest))[:, None]
            if window:
                visible &= order[:, None] > place - window
            self.masks[window, heads] = visible.repeat(1, heads, 1)[:, None]
        return self.masks[window, heads]

    def prefix_mask(self, window: int | None) -> torch.Tensor | None:
        """(B, 1, P, P) bool: the keys that a prefix token sees in layers of this `window`, None for full attention;
        None where that is causal and nothing else."""
        longest, blocks = self.sizes[1], self.blocks
        blocks = blocks if self.sight and (self.sight.sliding if window else self.sight.full) else None
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
            self.masks[key] = seen_by_prefixes(causal, near, same, self.sight.beyond)[:, None]
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


def seen_by_prefixes(
    causal: torch.Tensor, near: torch.Tensor, same: torch.Tensor | None, beyond: bool
) -> torch.Tensor:
    """Masks of keys: before the query, in its window, and, where images see themselves, of the `same` image."""
    if same is None:
        return causal & near
    return (causal & near) | same if beyond else (causal | same) & near


@dataclass(frozen=True)
class Packed:
    """A packed batch: `inputs` for the model's call, and where each completion token lies in it.

    `index` (T,) into the suffixes' tokens, `row` (T,) and `column` (T,) of the T completion tokens.
    """

    inputs: dict[str, Any]
    index: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


def pack(
    prompts: Sequence[Prompt], completions: torch.Tensor, lengths: Sequence[int], sight: ImageSight = ImageSight()
) -> Packed:
    """Pack rows into one sequence. `prompts` has one entry a row, the same object for rows of a group, which are
    neighbours; `completions` (N, C) token ids, of which the first `lengths[i]` count. `sight`: how images see
    themselves."""
    (heads, group), device = groups_of(prompts), completions.device
    trimmed = [row[: max(1, n)] for row, n in zip(completions, lengths, strict=True)]  # an empty one keeps its place
    rows = list(zip(prompts, trimmed, strict=True))
    ids = [p.ids[:-1] for p in heads] + [torch.cat([p.ids[-1:], c[:-1]]) for p, c in rows]
    positions = [p.positions[..., :-1] for p in heads]
    positions += [p.positions[..., -1:] + torch.arange(len(c), device=device) for p, c in rows]
    labels = torch.cat([c if n else torch.full_like(c, -100) for c, n in zip(trimmed, lengths, strict=True)])
    position_ids = torch.cat(positions, dim=-1)
    types = {  # a completion is of the type of its prompt's last token, which is text
        name: torch.cat([p.types[name][:-1] for p in heads] + [p.types[name][-1:].expand(len(c)) for p, c in rows])
        for name in heads[0].types
    }
    inputs = {name: values[None] for name, values in types.items()} | {
        "input_ids": torch.cat(ids)[None],
        "position_ids": position_ids[None] if position_ids.ndim == 1 else position_ids[:, None],
        "attention_mask": torch.ones(1, 1, 1, 1, device=device),  # of four dimensions: models hand it on unread
        "shift_labels": labels[None],
        "shared_prefix": lay_out(
            torch.tensor([len(p.ids) - 1 for p in heads]),
            torch.tensor(list(map(len, trimmed))),
            torch.tensor(group),
            blocks_of(heads) if sight else None,
            device,
            sight,
        ),
    }
    counted = torch.tensor(lengths)
    row, column = (torch.arange(completions.shape[1]) < counted[:, None]).nonzero(as_tuple=True)
    index = (counted > 0).repeat_interleave(counted.clamp(min=1)).nonzero()[:, 0]  # an empty one's place has no label
    return Packed(inputs, *(to_device(tensor, device) for tensor in (index, row, column)))


def lay_out(
    prefix_lengths: torch.Tensor,
    suffix_lengths: torch.Tensor,
    group: torch.Tensor,
    blocks: torch.Tensor | None,
    device: torch.device,
    sight: ImageSight = ImageSight(),
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
    return Layout(*tensors, sizes, each, int(prefix_lengths.sum()), lengths, blocks, sight)


def blocks_of(prompts: Sequence[Prompt]) -> torch.Tensor:
    """(B, P) the running number of the image that each prefix token belongs to, NO_IMAGE for text and padding."""
    numbered = [numbered_images(types_of(prompt)[:-1]) for prompt in prompts]
    return pad_sequence(numbered, batch_first=True, padding_value=NO_IMAGE)


def types_of(prompt: Prompt) -> torch.Tensor:
    """(P,) 1 at image tokens, from the prompt's field of token types; 0 everywhere without one."""
    return next(
        (ids for name, ids in prompt.types.items() if name.endswith("token_type_ids")), torch.zeros_like(prompt.ids)
    )


def numbered_images(types: torch.Tensor) -> torch.Tensor:
    """The running number of the image that each token belongs to, NO_IMAGE for text.

    >>> numbered_images(torch.tensor([0, 1, 1, 0, 1]))
    tensor([-1,  1,  1, -1,  2])
    """
    image = types == 1
    starts = image & ~torch.nn.functional.pad(image, (1, 0))[:-1]
    return torch.where(image, starts.cumsum(0), NO_IMAGE)
