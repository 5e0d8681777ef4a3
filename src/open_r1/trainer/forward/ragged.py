"""A packed group as kernels for sequences of different lengths take it; made on the host, which knows the lengths."""

from dataclasses import dataclass
from itertools import accumulate

import torch

from open_r1.rollout.device_copies import to_device


@dataclass(frozen=True)
class Lengths:
    """On the host: tokens of the B prefixes and of the R suffixes, and the prefix that each suffix continues."""

    prefixes: list[int]
    suffixes: list[int]
    group: list[int]


@dataclass(frozen=True)
class RaggedSuffixes:
    """What kernels for sequences of different lengths take, cumulative ends (int32) from 0 each: of prefixes (B + 1,),
    of suffixes (R + 1,), and of their `keys` (T,), the tokens of each one's prefix and its own."""

    prefix_ends: torch.Tensor
    suffix_ends: torch.Tensor
    key_ends: torch.Tensor
    keys: torch.Tensor
    longest_keys: int


def ragged_suffixes(lengths: Lengths, device: torch.device) -> RaggedSuffixes:
    """The sequences of a layout, made on the host."""
    starts = list(accumulate([*lengths.prefixes, *lengths.suffixes], initial=0))
    prefixes = [torch.arange(start, start + n) for start, n in zip(starts, lengths.prefixes, strict=False)]
    own = zip(starts[len(prefixes) :], lengths.suffixes, lengths.group, strict=False)
    keys = [torch.cat([prefixes[b], torch.arange(start, start + n)]) for start, n, b in own]
    counts = (lengths.prefixes, lengths.suffixes, list(map(len, keys)))
    ends = [to_device(torch.tensor([0, *accumulate(n)], dtype=torch.int32), device) for n in counts]
    return RaggedSuffixes(*ends, to_device(torch.cat(keys), device), max(counts[2]))
