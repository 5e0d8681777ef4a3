"""What completions answer on a picture, as fractions of it, and drawn: gold beside answered."""

import json

import numpy as np
import pytest
from PIL import Image, ImageColor

from open_r1.data.geometry.polygons import Polygon, polygon_json
from open_r1.data.record import Record
from open_r1.rewards.base import Outline
from open_r1.rewards.drawing import ANSWERED, GOLD, answered_outlines, draw_outlines, gold_outlines

BOX = ((0.25, 0.2), (0.75, 0.2), (0.75, 0.8), (0.25, 0.8))
CIRCLE = Polygon((100, 50), (20.0,), (100, 200))
GOLDS = {  # method -> (gold in pixels of 200 x 100, its first corners)
    "rec": ("[50, 20, 150, 80]", BOX),
    "iou": ("[50, 20, 150, 80]", BOX),
    **dict.fromkeys(
        ("od_ap", "od_ap50", "odLength", "weighted_sum", "map"),
        (json.dumps([{"bbox_2d": [50, 20, 150, 80], "label": "cat"}]), BOX),
    ),
    "mask_iou": (polygon_json(CIRCLE), ((0.6, 0.5),)),  # theta 0 points right: (100 + 20) / 200
}


def row(method: str, gold: str, **extra: object) -> Record:
    return Record("1", ("a.png",), "", (), gold, {"image_wh": [200, 100], **extra}, accu_reward_method=method)


@pytest.mark.parametrize("method", GOLDS)
def test_gold_is_drawn_where_it_lies_whatever_the_frame_of_the_model(method):
    gold, corners = GOLDS[method]
    for family in ("original", "qwen3_vl", "qwen2_5_vl"):
        (outline,) = gold_outlines(row(method, gold, model_family=family))
        assert np.allclose(outline.points[: len(corners)], corners)
        assert outline.label == ("cat" if "cat" in gold else None)


@pytest.mark.parametrize(("method", "answer"), [("rec", "[250, 200, 750, 800]"), ("od_ap", "[250, 200, 750, 800]")])
def test_an_answer_is_drawn_where_the_reward_sees_it(method, answer):
    (outline,) = answered_outlines(
        f"<answer>{answer}</answer>", row(method, GOLDS[method][0], model_family="qwen3_vl")
    )
    assert np.allclose(outline.points, BOX)


def test_a_polygon_states_its_own_size():
    half = polygon_json(Polygon((50, 25), (10.0,), (50, 100)))  # of an image of half the size
    (outline,) = answered_outlines(f"<answer>{half}</answer>", row("mask_iou", polygon_json(CIRCLE)))
    assert np.allclose(outline.points, gold_outlines(row("mask_iou", polygon_json(CIRCLE)))[0].points)


@pytest.mark.parametrize("method", ["rec", "od_ap", "mask_iou", "default"])
@pytest.mark.parametrize("text", ["", "<answer>", "<answer>none</answer>", "no box \ud800 \0"])
def test_what_answers_nothing_draws_nothing(method, text):
    assert answered_outlines(text, row(method, GOLDS.get(method, ("3",))[0])) == ()


def test_outlines_stay_on_the_picture():
    (outline,) = answered_outlines("<answer>[-999999, 0, 999999, 50]</answer>", row("rec", "[0, 0, 1, 1]"))
    assert outline.points == ((0, 0), (1, 0), (1, 0.5), (0, 0.5))


def test_both_are_drawn_in_their_colours_and_only_on_their_picture():
    ground = Image.new("RGB", (200, 100), "white")
    answered = Outline(((0.0, 0.5), (1.0, 0.5)), "dog")
    drawing = draw_outlines(ground, [Outline(BOX)], [answered])
    colours = {drawing.getpixel((x, y)) for x in range(200) for y in range(100)}
    assert {ImageColor.getrgb(GOLD), ImageColor.getrgb(ANSWERED), (255, 255, 255)} <= colours
    assert drawing.size == ground.size
    assert list(draw_outlines(ground, [Outline(BOX)], [answered], number=1).getdata()) == [(255, 255, 255)] * 20_000
