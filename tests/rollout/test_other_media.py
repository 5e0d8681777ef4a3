"""Views of rows: of the same sizes and times, told by (seed, row) alone, and none of the row's own files."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.clips import WAYS, clip_rows, moving_square
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.data.media_views import OF_TIME, VIEWS, has_view
from open_r1.data.record import Record
from open_r1.data.video.files import load_videos
from open_r1.data.video.types import FrameSampling, Video, VideoFrames
from open_r1.rollout.other_media import OtherMedia
from open_r1.rollout.other_pictures import donor_of
from open_r1.rollout.prompts import RowMedia

GREY = (10, 20, 30)
MEDIA = OtherMedia(GREY, FrameSampling(), seed=3)


def film(count: int = 6) -> VideoFrames:
    pixels = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1) + np.zeros((1, 4, 5, 3), np.uint8)
    return VideoFrames(pixels, tuple(n / 2 for n in range(count)), count / 2)


def record(name: str = "a", **fields) -> Record:
    known = {"images": (f"{name}.png",), "videos": (Video((f"{name}.mp4",)),)} | fields
    return Record(name, known.pop("images"), "f", (), name, where=f"train.jsonl:{name}", **known)


def order(video: VideoFrames) -> list[int]:
    return video.pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "other"])
def test_a_view_keeps_sizes_and_times_and_changes_what_it_says(view):
    own = RowMedia([Image.new("RGB", (8, 6), "red")], [film(), film(3)])
    shown = MEDIA.shown(view, record(), own, None)
    assert [picture.size for picture in shown.pictures] == [(8, 6)]
    for before, after in zip(own.videos, shown.videos, strict=True):
        assert (after.pixels.shape, after.seconds, after.span) == (before.pixels.shape, before.seconds, before.span)
    pictures_stay = view == "own" or view in OF_TIME
    assert (shown.pictures[0].getpixel((0, 0)) == (255, 0, 0)) == pictures_stay
    kept = [sorted(order(video)) for video in shown.videos] == [[0, 1, 2, 3, 4, 5], [0, 1, 2]]
    assert kept == (view in ("own", "shuffled_frames"))
    assert all((order(video) == sorted(order(video))) == (view != "shuffled_frames") for video in shown.videos)
    if view == "first_frame":
        assert order(shown.videos[0]) == [0] * 6
    if view == "blank":
        assert shown.videos[0].pixels[3, 2, 1].tolist() == [*GREY]


def test_the_order_of_frames_is_told_by_seed_and_row_and_is_never_the_true_one():
    def shuffled(where: str, seed: int, count: int) -> list[int]:
        own = RowMedia([], [film(count)])
        return order(replace(MEDIA, seed=seed).shown("shuffled_frames", record(where), own, None).videos[0])

    assert shuffled("a", 0, 8) == shuffled("a", 0, 8)
    assert len({tuple(shuffled(where, seed, 8)) for where in "abcd" for seed in range(4)}) > 12
    assert all(shuffled(where, 0, 2) == [1, 0] for where in "abcdefgh")
    assert shuffled("a", 0, 1) == [0]


def test_frames_that_are_alike_have_no_other_order_and_two_kinds_have_one():
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    still = VideoFrames(pixels, tuple(map(float, range(6))), 6.0)
    (shown,) = MEDIA.shown("shuffled_frames", record(), RowMedia([], [still]), None).videos
    assert (shown.pixels == pixels).all()
    blink = replace(still, pixels=pixels + np.array([0, 0, 0, 0, 0, 1], np.uint8).reshape(6, 1, 1, 1))
    for name in "abcdefgh":
        (shown,) = MEDIA.shown("shuffled_frames", record(name), RowMedia([], [blink]), None).videos
        assert (shown.pixels != blink.pixels).any()


def test_a_donors_clip_takes_the_number_size_and_times_of_the_rows_own(tmp_path):
    records = load_records(str(clip_rows(tmp_path, 4)), str(tmp_path))
    own = load_videos([records[0]], FrameSampling(max_frames=2))[0]
    donor = donor_of(records[0], records, 0)
    assert donor.solution != records[0].solution and donor.videos != records[0].videos
    (shown,) = MEDIA.shown("other", records[0], RowMedia([], own), donor).videos
    assert (shown.pixels.shape, shown.seconds) == (own[0].pixels.shape, own[0].seconds)
    its_own = load_videos([donor], FrameSampling())[0][0].pixels
    assert (shown.pixels == its_own[[0, -1]]).all() and (shown.pixels != own[0].pixels).any()
    small = VideoFrames(moving_square(size=(32, 24))[:3], (0.0, 1.0, 2.0), 3.0)
    assert MEDIA.shown("other", records[0], RowMedia([], [small]), donor).videos[0].pixels.shape == (3, 24, 32, 3)


def test_a_donor_has_the_kinds_that_a_row_has_and_none_of_its_files():
    rows = {
        "both": record("both"),
        "picture": record("picture", videos=()),
        "clip": record("clip", images=()),
        "same clip": record("other", images=(), videos=(Video(("clip.mp4",), start=1.0),)),
        "text": record("text", images=(), videos=()),
    }
    donors = {
        name: {o for o, other in rows.items() if o != name and donor_of(row, [other], 0) is not None}
        for name, row in rows.items()
    }
    assert donors == {
        "both": set(),
        "picture": {"both"},
        "clip": {"both"},
        "same clip": {"both"},
        "text": set(),
    }
    views = {view: [name for name, row in rows.items() if has_view(view, row, None)] for view in VIEWS}
    assert views["shuffled_frames"] == views["first_frame"] == ["both", "clip", "same clip"]
    assert views["blank"] == ["both", "picture", "clip", "same clip"]
    assert views["own"] == [*rows] and views["other"] == []


def test_the_four_ways_of_a_square_differ_in_the_order_of_their_frames_alone():
    right, left = moving_square("right"), moving_square("left")
    assert (right == left[::-1]).all() and set(WAYS) == {"right", "left", "down", "up"}
