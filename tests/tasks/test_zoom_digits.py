"""The scenes of `zoom_digits`: one asked frame among others, whose digits are read enlarged and not in the scene."""

import json

import numpy as np
import pytest
from helpers.repository import make_dataset
from PIL import Image

from open_r1.tasks.zoom_digits import (
    ASKED_COLOR,
    FRAME_WH,
    MOST_FRAMES,
    OTHER_COLOR,
    SCENE_WH,
    ZoomScenes,
    frame_boxes,
)


def colors_at_corner(scene: Image.Image, boxes: list[list[int]]) -> list[tuple[int, ...]]:
    return [scene.getpixel((x1, y1)) for x1, y1, _, _ in boxes]


@pytest.mark.parametrize("frames", range(1, MOST_FRAMES + 1))
def test_one_frame_is_asked_and_no_frame_lies_on_another(frames):
    for index in range(100):
        example = ZoomScenes(frames=frames).example(5, "train", index)
        (scene,), (question,) = example.images, example.questions
        boxes, contents = question.extra["frames"], question.extra["contents"]
        assert colors_at_corner(scene, boxes) == [ASKED_COLOR, *[OTHER_COLOR] * (frames - 1)]
        assert json.loads(question.answer) == sorted(contents[0]) and len(contents) == len(boxes) == frames
        covered = np.zeros(SCENE_WH[::-1], int)
        for x1, y1, x2, y2 in boxes:
            assert (x2 - x1, y2 - y1) == FRAME_WH and x2 <= SCENE_WH[0] and y2 <= SCENE_WH[1]
            covered[y1:y2, x1:x2] += 1
        assert covered.max() == 1
        assert not np.asarray(scene)[covered == 0].any()  # black


def test_frames_stand_everywhere_and_the_asked_one_in_no_favoured_place():
    places = [frame_boxes(np.random.default_rng(seed), 3) for seed in range(600)]
    first, last = ([tuple(boxes[k]) for boxes in places] for k in (0, 2))
    assert len(set(first)) == len(set(last)) == 12
    assert max(first.count(place) for place in set(first)) < 0.2 * len(first)


@pytest.mark.parametrize("frames", [0, -1, MOST_FRAMES + 1])
def test_a_number_of_frames_without_room_is_refused(frames):
    with pytest.raises(ValueError, match=f"frames: got {frames}, expected 1 to {MOST_FRAMES}"):
        ZoomScenes(frames=frames).example(0, "train", 0)


def test_rows_depend_on_seed_split_and_index_alone(tmp_path):
    for name, rows, seed in (("short", 5, 0), ("long", 9, 0), ("other", 5, 1)):
        make_dataset("zoom_digits", tmp_path / name, "--rows", rows, "--heldout_rows", 2, "--seed", seed)
    lines = {n: (tmp_path / n / "train.jsonl").read_text().splitlines() for n in ("short", "long", "other")}
    assert lines["long"][:5] == lines["short"] != lines["other"]
    image = json.loads(lines["short"][4])["image"]
    assert (tmp_path / "short" / image).read_bytes() == (tmp_path / "long" / image).read_bytes()
    assert lines["short"] != (tmp_path / "short" / "heldout.jsonl").read_text().splitlines()
