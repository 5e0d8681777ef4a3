"""Scenes of coloured shapes: tight boxes, true visible shares, splits that share no pair, clear descriptions."""

import json

import numpy as np
import pytest

from open_r1.rewards.referring import box_iou
from open_r1.tasks.rec import REC, ReferredShapes, kind_differences
from open_r1.tasks.shapes import COLORS, MIN_VISIBLE, SHAPES, SIZES, Kind, draw_scene, pairs, random_scene

EVERY = [Kind(color, shape, size) for color in COLORS for shape in SHAPES for size in SIZES]


@pytest.mark.parametrize("side", [56, 112, 224])
@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_a_box_is_as_tight_as_the_pixels_say(kind, side):
    image, (item,) = random_scene(np.random.default_rng(0), [kind], side)
    rows, columns = np.nonzero(np.asarray(image).any(axis=2))
    assert item.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert image.size == (side, side) and item.visible == 1.0
    assert set(map(tuple, np.asarray(image)[rows, columns].tolist())) == {COLORS[kind.color]}


def test_without_overlap_boxes_are_apart_and_with_it_they_keep_the_limit():
    rng, overlaps = np.random.default_rng(1), []
    for overlap in (0.0, 0.3):
        for _ in range(60):
            kinds = [EVERY[k] for k in rng.integers(len(EVERY), size=4)]
            _, items = random_scene(rng, kinds, 112, overlap)
            assert [item.kind for item in items] == kinds
            shared = [box_iou(a.box, b.box) for k, a in enumerate(items) for b in items[:k]]
            assert max(shared) <= overlap and min(item.visible for item in items) >= MIN_VISIBLE
            overlaps.append((overlap, max(shared), min(item.visible for item in items)))
    assert all(share == 0 and visible == 1 for overlap, share, visible in overlaps if overlap == 0)
    assert any(share > 0.1 and visible < 1 for overlap, share, visible in overlaps if overlap)


def test_the_visible_share_counts_the_pixels_left():
    kinds = [Kind("red", "circle", "large"), Kind("blue", "square", "small"), Kind("green", "cross", "small")]
    boxes = [(10, 10, 50, 50), (30, 30, 60, 60), (50, 50, 70, 70)]
    image, visible = draw_scene(kinds, boxes, 112)
    pixels = np.asarray(image)
    for kind, box, share in zip(kinds, boxes, visible, strict=True):
        alone = np.asarray(draw_scene([kind], [box], 112)[0]).any(axis=2)
        remaining = (pixels == COLORS[kind.color]).all(axis=2)
        assert share == pytest.approx(remaining.sum() / alone.sum())
    assert visible[0] < 1 and visible[1] < 1 and visible[2] == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="got 40 items"):
        random_scene(np.random.default_rng(0), [Kind("red", "circle", "large")] * 40)


def test_unseen_pairs_are_unseen_and_nothing_else_is_new():
    train, ood = set(pairs("train")), set(pairs("ood"))
    assert pairs("train") == pairs("heldout") and not train & ood and len(train | ood) == 16
    for half in (train, ood):
        assert sorted(color for color, _ in half) == sorted(list(COLORS) * 2)
        assert sorted(shape for _, shape in half) == sorted(list(SHAPES) * 2)


@pytest.mark.parametrize("split", ReferredShapes.splits)
def test_a_description_fits_one_shape_of_the_split_and_its_box_is_the_gold(split):
    for index in range(200):
        generator = ReferredShapes(most=4, distractors=2)
        (question,) = generator.example(0, split, index).questions
        items = question.extra["items"]
        matching = [item for item in items if f"the {item['name']}." in question.question]
        assert [item["box"] for item in matching] == [json.loads(question.answer)]
        kinds = [Kind(*(item["name"].split()[k] for k in (1, 2, 0))) for item in items]
        assert all((kind.color, kind.shape) in pairs(split) for kind in kinds)
        assert 2 <= len(kinds) <= 4
        alike = sum(kind_differences(kind, kinds[0]) == 1 for kind in kinds[1:])
        assert alike == min(2, len(kinds) - 1)  # `distractors`, as far as there are others


def test_pictures_of_112_pixels_are_what_qwen_sees():
    from open_r1.data.geometry.coordinates import from_original

    picture = ReferredShapes().example(0, "train", 0).images[0]
    box = (3, 5, 70, 111)
    assert from_original(box, "qwen2_5_vl", picture.size) == box
    assert REC.is_right(0.51) and not REC.is_right(0.5)
