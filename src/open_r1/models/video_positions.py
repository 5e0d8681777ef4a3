"""Rotary positions of videos as Qwen2-VL, Qwen2.5-VL and ERNIE 4.5 VL were trained with.

transformers 5.17 counts otherwise, in two ways. Of Qwen2.5-VL it takes whole seconds a grid of frames, so that frames
less than a second apart all have the time of the first; and behind a video it goes on from the longer side of a frame,
where a long video's last frames already are. In Qwen's own code, as in vLLM's, time is absolute (seconds times
`tokens_per_second`, cut to a whole number), and text goes on behind the last of all three channels.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import groupby
from typing import Any

import torch

_TEXT, _PICTURE, _VIDEO = 0, 1, 2  # in `mm_token_type_ids`
Positions = tuple[torch.Tensor, torch.Tensor]


def count_all_channels(count: Callable[..., Positions]) -> Callable[..., Positions]:
    """A model's `get_rope_index`, with text behind the last of all channels, and with absolute time where the model
    has `tokens_per_second`: (3, B, P) positions, and (B, 1) how far they are ahead of the tokens."""

    @wraps(count)
    def get_rope_index(
        self: torch.nn.Module,
        input_ids: torch.Tensor,
        mm_token_type_ids: torch.Tensor,
        image_grid_thw: torch.Tensor | None = None,
        video_grid_thw: torch.Tensor | None = None,
        second_per_grid_ts: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Positions:
        grids = {_PICTURE: iter(rows_of(image_grid_thw)), _VIDEO: iter(rows_of(video_grid_thw))}
        seconds = iter([1.0] * len(rows_of(video_grid_thw)) if second_per_grid_ts is None else second_per_grid_ts)
        positions = torch.zeros(3, *input_ids.shape, dtype=torch.long, device=input_ids.device)
        ahead = []
        for row, types in enumerate(mm_token_type_ids):
            there = torch.ones_like(types, dtype=torch.bool)
            there = there if attention_mask is None else attention_mask[row].bool()
            counted = positions_of_row(types[there].tolist(), grids, seconds, self.config.vision_config)
            positions[:, row, there] = counted.to(positions.device)
            ahead.append(int(counted.max()) + 1 - counted.shape[1])
        return positions, torch.tensor(ahead, device=input_ids.device)[:, None]

    return get_rope_index


def rows_of(grids: torch.Tensor | None) -> list[list[int]]:
    """(t, h, w) of each picture or video, in patches."""
    return [] if grids is None else grids.tolist()


def positions_of_row(
    types: list[int], grids: dict[int, Iterator[list[int]]], seconds: Iterator[torch.Tensor | float], vision: Any
) -> torch.Tensor:
    """(3, P) positions of a row of tokens of these `types`; `grids` and `seconds` give those of its pictures and
    videos, in order; `vision` is the configuration of the tower."""
    parts, begin = [], 0
    for kind, tokens in groupby(types):
        if kind == _TEXT:
            part = torch.arange(len(list(tokens))).expand(3, -1)
        else:
            t, h, w = next(grids[kind])
            merge, of_time = vision.spatial_merge_size, getattr(vision, "temporal_merge_size", 1)
            times = torch.arange(t // of_time if kind == _VIDEO else t)
            if kind == _VIDEO:  # whole at the same frames in any precision: `data/video/inputs.py:metadata_of`
                times = (times * next(seconds) * getattr(vision, "tokens_per_second", 1)).long()
            axes = times, torch.arange(h // merge), torch.arange(w // merge)
            part = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        parts.append(part + begin)
        begin = int(parts[-1].max()) + 1
    return torch.cat(parts, dim=1)
