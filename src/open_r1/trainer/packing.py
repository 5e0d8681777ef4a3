"""The packed layout: a group as ONE prompt with its images and all its completions, several groups in a sequence.

Two groups, the first of two completions, the second of one, in ONE sequence without padding:

    tokens     p0 p1 p2 | p3 a1 a2 | p3 b1 || q0 q1 | q2 c1 c2
    position    0  1  2    3  4  5    3  4     0  1    2  3  4
    label       -  -  -   a1 a2 a3   b1 b2     -  -   c1 c2 c3

A prompt without its last token is a prefix. Each completion is a suffix that begins with the prompt's last token, so
that its first token is predicted inside its own suffix, and ends before its own last token, which predicts nothing.
A suffix token sees its own prefix and the suffix up to itself, as if it stood there alone:

               p0 p1 p2 | p3 a1 a2 | p3 b1
    p2          x  x  x
    a1          x  x  x    x  x
    b1          x  x  x               x  x

`open_r1.trainer.shared_prefix` computes attention over this; all else in a transformer works token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from open_r1.trainer.prompts import Prompt

NO_IMAGE = -1


@dataclass(frozen=True)
class Run:
    """Sequences one behind the other, as varlen kernels take them: token indices, cumulative ends from 0, maxima."""

    queries: torch.Tensor
    keys: torch.Tensor
    query_ends: torch.Tensor
    key_ends: torch.Tensor
    longest_query: int
    longest_key: int


def run_of(queries: list[torch.Tensor], keys: list[torch.Tensor]) -> Run:
    def ends(parts: list[torch.Tensor]) -> torch.Tensor:
        lengths = torch.tensor([0, *map(len, parts)], device=parts[0].device)
        return lengths.cumsum(0, dtype=torch.int32)

    longest = max(map(len, queries)), max(map(len, keys))
    return Run(torch.cat(queries), torch.cat(keys), ends(queries), ends(keys), *longest)


@dataclass(frozen=True)
class Layout:
    """Where B prefixes (at most P long) and R suffixes (at most S long) lie in a sequence of L tokens.

    `prefix` (B, P) and `suffix` (R, S) are token indices, 0 where padded, of `prefix_lengths` (B,) and
    `suffix_lengths` (R,); `group` (R,) the prefix that a suffix continues; `back` (L,) where each token went in the
    two, flattened one behind the other; `blocks` (B, P) the image that a prefix token belongs to, for models whose
    images see themselves in both directions.
    """

    prefix: torch.Tensor
    suffix: torch.Tensor
    prefix_lengths: torch.Tensor
    suffix_lengths: torch.Tensor
    group: torch.Tensor
    back: torch.Tensor
    blocks: torch.Tensor | None = None
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)  # made once per forward, used by every layer

    def suffix_mask(self, window: int | None) -> torch.Tensor:
        """(R, 1, S, P + S) bool: the keys that a suffix token sees; one row where all are alike."""
        if ("suffix", window) not in self.masks:
            (_, longest), (_, length) = self.prefix.shape, self.suffix.shape
            key, query = torch.arange(longest + length, device=self.group.device), torch.arange(length).to(self.group)
            begin = self.prefix_lengths if len(self.prefix) == 1 else self.prefix_lengths[self.group]
            order = torch.where(key < longest, key, key - longest + begin[:, None])  # (R, P + S), within a row
            place = (begin[:, None] + query)[:, :, None]  # (R, S, 1)
            seen = (order[:, None] <= place) & ((key < begin[:, None]) | (key >= longest))[:, None]
            if window:
                seen &= order[:, None] > place - window
            self.masks["suffix", window] = seen[:, None]
        return self.masks["suffix", window]

    def prefix_mask(self, window: int | None) -> torch.Tensor | None:
        """(B, 1, P, P) bool: the keys that a prefix token sees; None where that is causal and nothing else."""
        longest = self.prefix.shape[1]
        window = window if window and window < longest else None
        if window is None and self.blocks is None:
            return None
        if ("prefix", window) not in self.masks:
            at = torch.arange(longest, device=self.prefix.device)
            seen = (at <= at[:, None])[None]
            if self.blocks is not None:
                same = self.blocks[:, None] == self.blocks[:, :, None]
                seen = seen | (same & (self.blocks != NO_IMAGE)[:, None])
            if window:
                seen = seen & (at > at[:, None] - window)
            self.masks["prefix", window] = seen[:, None]
        return self.masks["prefix", window]

    @cached_property
    def runs(self) -> list[Run]:
        """Prefixes, then suffixes over prefix and suffix, without padding."""
        prefixes = [row[:n] for row, n in zip(self.prefix, self.prefix_lengths.tolist(), strict=True)]
        suffixes = [row[:n] for row, n in zip(self.suffix, self.suffix_lengths.tolist(), strict=True)]
        keys = [torch.cat([prefixes[b], row]) for b, row in zip(self.group.tolist(), suffixes, strict=True)]
        return [run_of(prefixes, prefixes), run_of(suffixes, keys)]


@dataclass(frozen=True)
class Packed:
    """A packed batch: `inputs` for the model's call, and where each completion token lies in it.

    `at` (T,) indices into the sequence, `row` (T,) and `column` (T,) of the T completion tokens.
    """

    inputs: dict[str, Any]
    at: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


def pack(
    prompts: Sequence[Prompt], completions: torch.Tensor, lengths: Sequence[int], bidirectional: bool = False
) -> Packed:
    """Rows -> one sequence. `prompts` has one entry a row, the same object for rows of a group, groups in a row;
    `completions` (N, C) token ids of which the first `lengths[i]` count. `bidirectional`: images see themselves."""
    device = completions.device
    heads = [i for i, prompt in enumerate(prompts) if i == 0 or prompt is not prompts[i - 1]]
    unique = [prompts[i] for i in heads]
    ids, positions, labels, prefixes, suffixes, group = [], [], [], [], [], []
    at = 0
    for b, (begin, end) in enumerate(zip(heads, [*heads[1:], len(prompts)], strict=True)):
        prompt, before = prompts[begin], len(prompts[begin].ids) - 1
        ids.append(prompt.ids[:-1])
        positions.append(prompt.positions[..., :-1])
        labels.append(torch.full_like(prompt.ids[:-1], -100))
        prefixes.append(range(at, at + before))
        at += before
        for i in range(begin, end):
            n = max(1, lengths[i])  # a completion without any token keeps its place
            said = completions[i, :n]
            ids.append(torch.cat([prompt.ids[-1:], said[:-1]]))
            positions.append(prompt.positions[..., -1:] + torch.arange(n, device=device))
            labels.append(said if lengths[i] else torch.full_like(said, -100))
            suffixes.append(range(at, at + n))
            group.append(b)
            at += n
    labels = torch.cat(labels)
    layout = lay_out(prefixes, suffixes, group, device, blocks_of(unique) if bidirectional else None)
    position_ids = torch.cat(positions, dim=-1)
    inputs = {
        "input_ids": torch.cat(ids)[None],
        "position_ids": position_ids[None] if position_ids.ndim == 1 else position_ids[:, None],
        "attention_mask": torch.ones(1, 1, 1, 1, device=device),  # of four dimensions: models hand it on unread
        "shift_labels": labels[None],
        "shared_prefix": layout,
    }
    row, column = (torch.arange(completions.shape[1]) < torch.tensor(lengths)[:, None]).nonzero(as_tuple=True)
    return Packed(inputs, (labels != -100).nonzero()[:, 0], row.to(device), column.to(device))


def lay_out(
    prefixes: list[range],
    suffixes: list[range],
    group: list[int],
    device: torch.device,
    blocks: torch.Tensor | None = None,
) -> Layout:
    def padded(ranges: list[range]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.tensor([len(r) for r in ranges])
        return pad_sequence([torch.tensor(r, dtype=torch.long) for r in ranges], batch_first=True), lengths

    (prefix, before), (suffix, after) = padded(prefixes), padded(suffixes)
    in_prefix = torch.arange(prefix.shape[1]) < before[:, None]
    in_suffix = torch.arange(suffix.shape[1]) < after[:, None]
    flat = torch.cat([prefix.flatten(), suffix.flatten()])
    real = torch.cat([in_prefix.flatten(), in_suffix.flatten()]).nonzero()[:, 0]
    back = torch.empty(len(real), dtype=torch.long)
    back[flat[real]] = real
    tensors = (prefix, suffix, before, after, torch.tensor(group), back)
    return Layout(*(tensor.to(device, non_blocking=True) for tensor in tensors), blocks)


def blocks_of(prompts: Sequence[Prompt]) -> torch.Tensor:
    """(B, P) the running number of the image that each prefix token belongs to, NO_IMAGE for text and padding."""

    def blocks(types: torch.Tensor) -> torch.Tensor:
        image = types == 1
        starts = image & ~torch.nn.functional.pad(image, (1, 0))[:-1]
        return torch.where(image, starts.cumsum(0), NO_IMAGE)

    numbered = [blocks(prompt.types["token_type_ids"][:-1]) for prompt in prompts]
    return pad_sequence(numbered, batch_first=True, padding_value=NO_IMAGE)
