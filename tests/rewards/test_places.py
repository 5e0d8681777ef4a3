"""Boxes, points and texts: every spelling of an answer gets one verdict, and a swap of gold and answer keeps it."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from helpers.cpu_time import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.drawing import answered_outlines, gold_outlines
from open_r1.rewards.gold import gold_answer, gold_completion, gold_score
from open_r1.rewards.parsing.boxes import last_box
from open_r1.rewards.parsing.points import last_point
from open_r1.rewards.registry import METHODS
from open_r1.trainer.sft_batches import target_completion

FULL_WIDTH = str.maketrans("0123456789,[]():", "０１２３４５６７８９，［］（）：")
BOXES = [  # spellings of (a, b, c, d)
    *("[{a}, {b}, {c}, {d}]", "({a},{b},{c},{d})", "[{a} {b} {c} {d}]", "{a},{b},{c},{d}", "box: {a} {b} {c} {d}"),
    *("<box>({a},{b}),({c},{d})</box>", "[[{a}, {b}], [{c}, {d}]]", "({a}, {b}) to ({c}, {d})"),
    *("Top-left: ({a}, {b})\n- Bottom-right: ({c}, {d})", "x1={a}, y1={b}, x2={c}, y2={d}"),
    *('{{"bbox_2d": [{a}, {b}, {c}, {d}], "label": "x"}}', "```json\n[{{'box': [{a},{b},{c},{d}]}}]\n```"),
    *("left: {a}, right: {c}, top: {b}, bottom: {d}", "<think>[1, 2, 3, 4]</think><answer>[{a},{b},{c},{d}]</answer>"),
]
POINTS = [  # spellings of (a, b)
    *("({a}, {b})", "[{a},{b}]", "{a}, {b}", "<point>{a} {b}</point>", "click({a}, {b})", "x={a}, y={b}"),
    *(
        "pyautogui.click(x={a}, y={b})",
        '{{"point_2d": [{a}, {b}]}}',
        '{{"action": "click", "coordinate": [{a}, {b}]}}',
    ),
    *('<points x="{a}" y="{b}" alt="ok">ok</points>', "click(start_box='({a},{b})')", "It is at ({a}, {b})."),
    *("<|box_start|>({a},{b})<|box_end|>", "<think>(1, 2)</think><answer>({a}, {b})</answer>", "[{a},{b},{a},{b}]"),
]
corners = st.tuples(*[st.integers(0, 99)] * 2, *[st.integers(100, 2000)] * 2)
texts = st.text(st.sampled_from("abcdef 12é猫"), min_size=1, max_size=12).filter(str.strip)


def row(method: str, gold: object, **extra: object) -> Record:
    gold = gold if isinstance(gold, str) else json.dumps(gold)
    return Record("7", ("a.png",), "", (), gold, {"image_wh": [640, 425], **extra}, "a.jsonl:7", method)


def score(method: str, gold: object, answer: object, **extra: object) -> float:
    return METHODS[method].score(answer if isinstance(answer, str) else json.dumps(answer), row(method, gold, **extra))


@settings(max_examples=200, deadline=None)
@given(corners, st.sampled_from(BOXES), st.booleans())
def test_every_spelling_of_a_box_is_that_box(box: tuple, spelling: str, wide: bool) -> None:
    text = spelling.format(**dict(zip("abcd", box, strict=True)))
    assert last_box(text.translate(FULL_WIDTH) if wide else text).xyxy == box


@settings(max_examples=200, deadline=None)
@given(corners, st.sampled_from(POINTS), st.booleans())
def test_every_spelling_of_a_point_is_that_point(box: tuple, spelling: str, wide: bool) -> None:
    text = spelling.format(a=box[2], b=box[3])
    assert last_point(text.translate(FULL_WIDTH) if wide else text).xy == box[2:]


@settings(max_examples=100, deadline=None)
@given(corners, corners)
def test_gold_and_answer_may_be_swapped(gold: tuple, answer: tuple) -> None:
    assert score("rec", gold, answer) == pytest.approx(score("rec", answer, gold))
    for name in ("od_ap50", "weighted_sum"):
        one, other = ([{"bbox_2d": box, "label": "cat"}] for box in (gold, answer))
        assert score(name, one, other) == pytest.approx(score(name, other, one))
    far = score("point_distance", gold[2:], answer[2:], point_sigma=50)
    assert far == pytest.approx(score("point_distance", answer[2:], gold[2:], point_sigma=50))


@settings(max_examples=150, deadline=None)
@given(texts, texts)
def test_texts_may_be_swapped_by_anls_and_where_they_are_as_long_by_cer(gold: str, answer: str) -> None:
    assert score("anls", gold, answer) == pytest.approx(score("anls", answer, gold))
    length = min(len(gold), len(answer))
    gold, answer = (text[:length].replace(" ", "_") for text in (gold, answer))
    assert score("cer", gold, answer) == pytest.approx(score("cer", answer, gold))


@settings(max_examples=100, deadline=None)
@given(corners, st.sampled_from(["The picture is bright.", "图中有一张桌子。", "Let me look closely at it."]))
def test_a_sentence_before_the_answer_changes_nothing(box: tuple, sentence: str) -> None:
    for method, answer in (("rec", str(list(box))), ("point_in_box", f"click({box[2]}, {box[3]})"), ("rec", "none")):
        assert score(method, box, f"{sentence} {answer}") == score(method, box, answer)


def test_the_distance_falls_with_every_pixel_away_from_the_gold_point() -> None:
    paid = [score("point_distance", [320, 200], f"({320 + dx}, 200)") for dx in range(0, 320, 5)]
    assert paid[0] == 1 and all(a > b > 0 for a, b in pairwise(paid)) and paid[-1] < 1e-6
    with pytest.raises(DataError, match=r"a\.jsonl:7: point_sigma: got -1, expected a positive number of pixels"):
        score("point_distance", [320, 200], "(1, 2)", point_sigma=-1)


GOLDS = {
    "rec": [160, 0, 320, 425],
    "od_ap": [{"bbox_2d": [160, 0, 320, 425], "label": "猫"}],
    "point_in_box": [[160, 0, 320, 425], [1, 2, 3, 4]],
    "point_distance": [160, 212.5],
}


@pytest.mark.parametrize("family", ["original", "qwen3_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("method", GOLDS)
def test_what_sft_teaches_is_paid_in_the_familys_frame(method: str, family: str) -> None:
    for gold in (GOLDS[method], f"<think>so</think><answer>{json.dumps(GOLDS[method])}</answer>"):
        record = row(method, gold, model_family=family, prompt_mode="direct")
        assert METHODS[method].score(target_completion(record), record) > 0.97
        assert gold_score(record) == (1, 1)
    assert gold_completion(row("rec", GOLDS["rec"])).endswith("<answer>[160, 0, 320, 425]</answer>")
    assert gold_answer(row("point_in_box", GOLDS["point_in_box"], model_family="qwen3_vl")) == "(375, 500)"


def test_points_and_their_golds_are_drawn() -> None:
    record = row("point_in_box", GOLDS["point_in_box"], model_family="qwen3_vl")
    first, second = gold_outlines(record)
    assert np.allclose(first.points, [(0.25, 0), (0.5, 0), (0.5, 1), (0.25, 1)]) and len(second.points) == 4
    (mark,) = answered_outlines("click(250, 500)", record)
    assert np.allclose(np.mean(mark.points, axis=0), (0.25, 0.5)) and answered_outlines("none", record) == ()
    (target,) = gold_outlines(row("point_distance", [320, 212.5]))
    assert np.allclose(np.mean(target.points, axis=0), (0.5, 0.5))
    assert np.allclose(gold_outlines(row("point_distance", [160, 0, 320, 425]))[0].points, first.points)


@pytest.mark.parametrize("unit", ["a", "ab ", "猫", "é", "e\u0301", "12 ", "\n", "```"])
def test_long_texts_are_compared_in_milliseconds(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    for method in ("cer", "anls"):
        for gold in ("x" * 20_000, "x" + text[:19_998] + "x", "12 March"):
            record = row(method, gold)
            assert 0 <= METHODS[method].score(f"<answer>{text}</answer>", record) <= 1
            call = partial(METHODS[method].score, f"<answer>{text}</answer>", record)
            assert cpu_seconds(call, 0.1) < 0.1, (method, gold[:9])


def test_four_hundred_gradings_take_less_than_a_second() -> None:
    answers = ("Top-left: (10, 20), bottom-right: (300, 400)", "click(100, 200)", "There are no cats.", "12 March")

    def grade() -> None:
        for method in ("rec", "od_ap", "point_in_box", "anls"):
            for text in answers * 25:
                METHODS[method].score("well " * 100 + text, row(method, GOLDS.get(method, "12 March")))

    assert cpu_seconds(grade, 1) < 1
