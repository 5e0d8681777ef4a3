"""Positions of videos are those that the models were trained with: absolute time, and text behind the last frame."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import families
from transformers.video_utils import VideoMetadata

from open_r1.data.video.inputs import grey_video, metadata_of
from open_r1.models.video_positions import positions_of_row

# (t, h, w) in patches of a video, its seconds a grid, and the times of its grids in Qwen's own code, 4 a second
CLIPS = [((4, 4, 6), 0.5, [0, 2, 4, 6]), ((3, 8, 4), 0.999, [0, 3, 7]), ((2, 4, 4), 2.0, [0, 8])]
WIDTHS = {"qwen2_vl": None, "qwen2_5_vl": 4}


def counted(name, grids, seconds, text=3):
    """(3, P) positions of text, then each video with `text` tokens behind it."""
    model = families.tiny(name).base_model
    model.config.vision_config.tokens_per_second = WIDTHS[name] or 1
    types = [0] * text
    for t, h, w in grids:
        types += [2] * (t * h * w // 4) + [0] * text
    kinds = torch.tensor([types])
    given = {"second_per_grid_ts": torch.tensor(seconds)} if WIDTHS[name] else {}
    positions, ahead = model.get_rope_index(
        torch.zeros_like(kinds), kinds, video_grid_thw=torch.tensor(grids), **given
    )
    assert int(ahead) == int(positions.max()) + 1 - len(types)
    return positions[:, 0]


@pytest.mark.parametrize("name", WIDTHS)
def test_text_goes_on_behind_the_last_frame_and_time_is_absolute(name):
    grids, seconds = [grid for grid, _, _ in CLIPS], [each for _, each, _ in CLIPS]
    positions, begin, at = counted(name, grids, seconds), 3, 3
    for (t, h, w), _, times in CLIPS:
        times = times if WIDTHS[name] else list(range(t))
        of_video = positions[:, at : at + t * h * w // 4].view(3, t, h // 2, w // 2)
        assert (of_video[0, :, 0, 0] - begin).tolist() == times
        assert (of_video[1, 0, :, 0] - begin).tolist() == list(range(h // 2))
        assert (of_video[2, 0, 0, :] - begin).tolist() == list(range(w // 2))
        at += t * h * w // 4
        begin += max(times[-1], h // 2 - 1, w // 2 - 1) + 1
        assert positions[:, at : at + 3].tolist() == [list(range(begin, begin + 3))] * 3
        at, begin = at + 3, begin + 3


def test_pictures_and_padding_keep_the_positions_that_transformers_counts():
    backbone = families.tiny("qwen2_5_vl").base_model
    types = torch.tensor([[0, 0, 0, *[1] * 6, 0], [0, *[1] * 8, 0]])
    grids, mask = torch.tensor([[1, 4, 6], [1, 8, 4]]), torch.ones_like(types)
    mask[0, 0] = 0
    given = {"image_grid_thw": grids, "attention_mask": mask}
    ours, own = (
        count(torch.zeros_like(types), types, **given)
        for count in (backbone.get_rope_index, type(backbone).get_rope_index.__wrapped__.__get__(backbone))
    )
    for one, other in zip(ours, own, strict=True):
        torch.testing.assert_close(one, other)


SPANS = sorted({round(n / rate, 3) for rate in (10, 24, 25, 29.97) for n in range(7, 600, 7)})  # seconds of clips


def seconds_a_grid(frames, span):
    """Qwen2.5-VL's, of a video of so many frames, as its processor counts them."""
    clip = grey_video(frames, 1, 1, span)
    return torch.tensor([2 / VideoMetadata(**metadata_of(clip)).sampled_fps])


@pytest.mark.parametrize("tokens_per_second", [2, 4, 25])
def test_times_are_the_same_in_every_precision(tokens_per_second):
    """The trainer counts in float32; vLLM in float64, of seconds that it first rounds to the type of the weights."""
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=tokens_per_second)
    for frames, span in product((4, 6, 10, 14, 32, 64), SPANS):
        seconds, grids = seconds_a_grid(frames, span), frames // 2
        ours = positions_of_row([2] * grids, {2: iter([[grids, 2, 2]])}, iter(seconds), vision)[0]
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            factor = seconds.to(dtype).item() * tokens_per_second
            theirs = (np.arange(grids) * factor).astype(np.int64)
            assert ours.tolist() == theirs.tolist(), (frames, span, dtype)
        assert abs(seconds.item() - 2 * span / frames) <= 2**-8 * 2 * span / frames
