"""The clips of `motion`: only the order of frames tells the answer."""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations, product

import av
import numpy as np
import pytest
from helpers.repository import make_dataset

from open_r1.tasks.motion import (
    CLIP_FRAMES,
    COLOR_FRAMES,
    KINDS_OF_CLIPS,
    MOST_VISITS,
    TURNS,
    WAYS,
    MotionClips,
    color_round,
    places,
    turned_degrees,
    visits,
)

SIDE, SPEED = 12, 1
COLORS = ("red", "green", "blue")
States = Sequence[Hashable]  # what each frame of a clip shows
REVERSED = {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}
REVERSED |= {way: next(w for w, step in WAYS.items() if step == (-x, -y)) for way, (x, y) in WAYS.items()}
REVERSED |= {colors: colors[::-1] for colors in (COLORS, COLORS[::-1])} | {k: k for k in range(1, MOST_VISITS + 1)}


def parts(number: int) -> list[list[int]]:
    """All ways of cutting half a clip into so many parts."""
    cuts = combinations(range(1, MOST_VISITS), number - 1)
    return [np.diff([0, *cut, MOST_VISITS]).tolist() for cut in cuts]


def all_clips(kind: str) -> dict[Hashable, list[States]]:
    """Answer -> all clips of a kind that have it, each as likely as the others: one size, one speed."""
    if kind == "way":
        corners = list(product(range(SIDE), repeat=2))
        return {way: [places(corner, way, SPEED, SIDE) for corner in corners] for way in WAYS}
    if kind == "turn":
        return {turn: [turned_degrees(start, turn, 37) for start in range(360)] for turn in TURNS}
    if kind == "next":
        offsets = range(COLOR_FRAMES * len(COLORS))
        return {colors: [color_round(colors, offset) for offset in offsets] for colors in (COLORS, COLORS[::-1])}
    return {
        number: [visits(a, b, first) for a, b, first in product(parts(number), parts(number), (False, True))]
        for number in range(1, MOST_VISITS + 1)
    }


def shares(values: Iterable[Hashable]) -> dict[Hashable, float]:
    counts = Counter(values)
    return {value: count / counts.total() for value, count in counts.items()}


EACH_KIND = pytest.mark.parametrize("kind", ["way", "turn", "next", "visits"])


@EACH_KIND
def test_no_frame_tells_the_answer(kind):
    clips = all_clips(kind)
    for number in range(CLIP_FRAMES):
        first, *others = [shares(states[number] for states in clips[answer]) for answer in clips]
        assert all(other == pytest.approx(first) for other in others), number


@EACH_KIND
def test_frames_without_their_order_are_as_likely_with_the_opposite_answer(kind):
    bags = {answer: shares(tuple(sorted(states)) for states in same) for answer, same in all_clips(kind).items()}
    assert all(bags[REVERSED[answer]] == pytest.approx(bag) for answer, bag in bags.items())
    if kind == "visits":  # whose reversed clips have the same answer
        assert all(bag == pytest.approx(bags[1]) for bag in bags.values())


@EACH_KIND
def test_a_reversed_clip_has_the_opposite_answer(kind):
    clips = {answer: Counter(map(tuple, same)) for answer, same in all_clips(kind).items()}
    for answer, same in clips.items():
        assert Counter(states[::-1] for states in same.elements()) == clips[REVERSED[answer]], answer


@EACH_KIND
def test_the_clip_itself_tells_the_answer(kind):
    clips = {answer: set(map(tuple, same)) for answer, same in all_clips(kind).items()}
    assert all(clips[one].isdisjoint(clips[other]) for one, other in combinations(clips, 2))


def test_kinds_take_turns_and_answers_are_balanced():
    questions = [MotionClips().example(0, "train", index).questions[0] for index in range(1600)]
    assert [question.extra["kind"] for question in questions[:5]] == ["way", "turn", "next", "visits", "way"]
    for number, kind in enumerate(("way", "turn", "next", "visits")):
        answers = Counter(question.answer for question in questions[number :: len(KINDS_OF_CLIPS)])
        expected = 400 / {"way": 8, "turn": 2, "next": 4, "visits": 4}[kind]
        assert all(abs(count - expected) < 5 * expected**0.5 for count in answers.values()), (kind, answers)


@pytest.mark.parametrize("size", [56, 112])
def test_what_is_drawn_changes_and_is_whole(size):
    for index in range(40):
        (clip,) = MotionClips(size=size).example(3, "train", index).videos
        assert clip.pixels.shape == (CLIP_FRAMES, size, size, 3) and clip.span == 4.0
        lit = clip.pixels.any(axis=-1).sum(axis=(1, 2))
        kind = index % len(KINDS_OF_CLIPS)
        assert (lit > 0).sum() == (CLIP_FRAMES / 2 if kind == 3 else CLIP_FRAMES)
        shown = {frame.tobytes() for frame in clip.pixels}
        assert len(shown) in ({7, 8}, {8}, {3}, {2})[kind]  # at some speeds a shape is back after seven frames
        assert np.ptp(lit[lit > 0]) <= (0.25 * lit.max() if kind == 1 else 0)  # drawn over the edge, it loses nothing


def test_sizes_of_shapes_are_of_one_split():
    sides = {}
    for split in MotionClips.splits:
        clips = [MotionClips().example(0, split, 4 * k + 3).videos[0].pixels for k in range(60)]
        columns = [np.flatnonzero(pixels.any(axis=(0, 1, 3))) for pixels in clips]
        sides[split] = {int(np.ptp(own)) + 1 for own in columns}
    assert max(sides["train"]) > min(sides["train"]) and sides["train"].isdisjoint(sides["heldout"])


@pytest.mark.parametrize("size", [0, 55, 57, -56])
def test_a_size_that_cannot_be_drawn_is_refused(size):
    with pytest.raises(ValueError, match=f"size: got {size}, expected an even number of pixels from 56 on"):
        MotionClips(size=size)


def test_files_hold_what_was_drawn_and_depend_on_seed_and_index_alone(tmp_path):
    for name, rows, seed in (("short", 5, 0), ("long", 9, 0), ("other", 5, 1)):
        make_dataset("motion", tmp_path / name, "--rows", rows, "--heldout_rows", 2, "--seed", seed)
    lines = {n: (tmp_path / n / "train.jsonl").read_text().splitlines() for n in ("short", "long", "other")}
    assert lines["long"][:5] == lines["short"] != lines["other"]
    row = json.loads(lines["short"][4])
    assert "image" not in row and row["conversations"][0]["value"].startswith("<video>Which way")
    assert not (tmp_path / "short" / "images").exists()
    assert (tmp_path / "short" / row["video"]).read_bytes() == (tmp_path / "long" / row["video"]).read_bytes()
    with av.open(tmp_path / "short" / row["video"]) as file:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    (drawn,) = MotionClips().example(0, "train", 4).videos
    assert tuple(time for time, _ in frames) == drawn.seconds
    assert np.abs(np.stack([pixels for _, pixels in frames]).astype(int) - drawn.pixels).mean() < 3
