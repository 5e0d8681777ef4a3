"""The frames that are shown of a video are those that qwen_vl_utils takes, but for the bounds that are ours."""

import logging
import random

import pytest
import torch
from qwen_vl_utils.vision_process import calculate_video_frame_range, smart_nframes

from open_r1.data.video.decoding.frame_choice import chosen_pictures, frame_count, frame_rate, spaced_places, window_of
from open_r1.data.video.types import FrameSampling, Video

CLIP = Video(("a.mp4",))
RATES = (1.0, 7.5, 12.0, 24000 / 1001, 25.0, 30000 / 1001, 60.0, 119.88)
SAMPLINGS = ((2.0, 32), (1.0, 768), (4.0, 16), (0.5, 2), (29.97, 64))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("qwen_vl_utils.vision_process"), "disabled", True)


def totals() -> list[int]:
    draw = random.Random(0)
    return [*range(2, 130), *(draw.randrange(130, 200_000) for _ in range(150))]


@pytest.mark.parametrize("rate", RATES)
def test_as_many_frames_at_the_same_places_as_in_qwen_vl_utils(rate):
    for total in totals():
        for fps, most in SAMPLINGS:
            theirs = smart_nframes({"fps": fps, "max_frames": most}, total, rate)
            assert frame_count(total, rate, CLIP, FrameSampling(fps, most)) == theirs, (total, fps, most)
            places = torch.linspace(7, 7 + total - 1, theirs).round().long().tolist()
            assert spaced_places(7, 7 + total - 1, theirs) == places, (total, theirs)


@pytest.mark.parametrize("rate", RATES)
def test_a_window_holds_the_frames_that_it_holds_in_qwen_vl_utils(rate):
    draw = random.Random(rate)
    times = [number / rate for number in range(600)]
    for _ in range(200):
        start, end = sorted(draw.uniform(0, 600 / rate) for _ in range(2))
        try:
            first, last, _ = calculate_video_frame_range({"video_start": start, "video_end": end}, 600, rate)
        except ValueError:  # no two frames: one is shown here, or none
            continue
        assert window_of(times, start, end) == (first, last + 1)


@pytest.mark.parametrize(
    ("nframes", "total", "most", "shown"),
    [(8, 100, 32, 8), (7, 100, 32, 8), (64, 100, 32, 32), (64, 10, 32, 10), (64, 9, 32, 8), (1, 100, 32, 1)],
)
def test_a_rows_own_number_is_even_and_within_the_bounds(nframes, total, most, shown):
    assert frame_count(total, 25.0, Video(("a.mp4",), nframes=nframes), FrameSampling(2.0, most)) == shown


@pytest.mark.parametrize(("total", "shown"), [(1, 1), (2, 2), (3, 2), (5, 4)])
def test_short_videos_are_shown_whole_or_but_for_one_frame(total, shown):
    assert frame_count(total, 25.0, CLIP, FrameSampling()) == shown


def test_the_rate_is_that_of_the_file_unless_its_frames_are_elsewhere():
    even = [number / 29.97 for number in range(90)]
    assert frame_rate(even, 29.97) == 29.97
    assert frame_rate([round(time, 3) for time in even], 29.97) == 29.97  # Matroska counts in milliseconds
    assert frame_rate([0.0, 0.1, 2.0], 25.0) == 1.0
    assert frame_rate([0.4], None) == 1.0


@pytest.mark.parametrize(
    ("video", "places", "span"),
    [
        (Video(tuple("abcde"), of_frames=True), [0, 1, 2, 3, 4], 2.5),  # without a rate: as sampled at the run's
        (Video(tuple("abcde"), of_frames=True, fps=1.0), [0, 1, 2, 3, 4], 5.0),
        (Video(tuple("abcdefghijklmnop"), of_frames=True, fps=4.0), [0, 2, 4, 6, 9, 11, 13, 15], 4.0),
        (Video(tuple("abcdefgh"), of_frames=True, nframes=2), [0, 7], 4.0),
        (Video(tuple("abcdefgh"), of_frames=True, start=1.0, end=2.0), [2, 3, 4], 1.5),
        (Video(tuple("abc"), of_frames=True, start=9.0), [], 0.0),
        (Video(tuple("a" * 40), of_frames=True), [0, 13, 26, 39], 20.0),
    ],
)
def test_listed_pictures_are_all_shown_or_evenly_chosen(video, places, span):
    sampling = FrameSampling(2.0, 4 if len(video.paths) == 40 else 32)
    chosen, seconds, whole = chosen_pictures(video, sampling)
    assert (chosen, whole) == (places, span)
    assert seconds == [place / (video.fps or 2.0) for place in places]
