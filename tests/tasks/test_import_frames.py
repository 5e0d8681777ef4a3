"""How the numbers of a source's boxes are told: never a wrong reading, and a question where several fit."""

import random

import pytest
from helpers.imported import imported, picture, written

from open_r1.errors import DataError
from open_r1.tasks.importers.annotations.frames import READINGS, choose_frame, four_numbers_of

SIZES = {"small": (90, 120), "usual": (640, 480), "large": (1500, 1100), "wide": (2000, 300)}


def pixel_boxes(count: int, wh: tuple[int, int]) -> list[tuple[float, ...]]:
    rng = random.Random(count)
    boxes = []
    while len(boxes) < count:
        (x1, x2), (y1, y2) = (sorted(rng.uniform(0, side) for _ in range(2)) for side in wh)
        if x2 - x1 > 0.05 * wh[0] and y2 - y1 > 0.05 * wh[1]:
            boxes.append((x1, y1, x2, y2))
    return boxes


def as_written(box: tuple[float, ...], name: str, wh: tuple[int, int]) -> tuple[float, ...]:
    reading = READINGS[name]
    x1, y1, x2, y2 = (side / wh[i % 2] * reading.unit if reading.unit else side for i, side in enumerate(box))
    return (x1, y1, x2 - x1, y2 - y1) if reading.is_xywh else (x1, y1, x2, y2)


@pytest.mark.parametrize("count", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("wh", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", READINGS)
def test_a_reading_is_right_or_asked_for(name, wh, count):
    truth = pixel_boxes(count, wh)
    boxes = [(as_written(box, name, wh), wh) for box in truth]
    try:
        frame = choose_frame(boxes, "a.json")
    except DataError as error:
        assert f"--boxes {name}" in str(error)
        assert count < 100 or min(wh) < 1000, "a hundred boxes tell it, but for pictures of about 1000 px"
        return
    assert frame.name == name
    for written_box, box in zip(boxes, truth, strict=True):
        assert frame.convert(*written_box) == pytest.approx(box, abs=0.011)


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("count", [1, 30])
def test_what_the_user_names_is_taken(name, count):
    wh, truth = (640, 480), pixel_boxes(count, (640, 480))
    frame = choose_frame([(as_written(box, name, wh), wh) for box in truth], "a.json", named=name, declared="xywh")
    assert frame.name == name and frame.remark == ""
    assert frame.convert(as_written(truth[0], name, wh), wh) == pytest.approx(truth[0], abs=0.011)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pixels", "leave their picture as x, y, width, height in pixels, none as corners in pixels"),
        ("fractions", "would crowd in one corner"),
        ("xywh_fractions", "would crowd in one corner"),
        ("per_mille", "leave their picture"),
        ("percent", "would crowd in one corner"),
    ],
)
def test_another_form_than_the_declared_one_is_converted_and_said(name, words):
    wh = (640, 480)
    frame = choose_frame([(as_written(box, name, wh), wh) for box in pixel_boxes(40, wh)], "a.json", declared="xywh")
    assert frame.name == name and words in frame.remark and "--boxes" in frame.remark


def test_the_declared_form_is_kept_in_silence():
    wh = (640, 480)
    boxes = [(as_written(box, "xywh", wh), wh) for box in pixel_boxes(40, wh)]
    assert choose_frame(boxes, "a.json", declared="xywh").remark == ""
    assert choose_frame([], "a.json", declared="xywh").name == "xywh"
    assert choose_frame([], "a.json").name == "pixels"


def test_swapped_corners_are_put_in_order_and_said():
    wh = (640, 480)
    boxes = [((c, d, a, b), wh) for a, b, c, d in pixel_boxes(30, wh)]
    frame = choose_frame(boxes, "a.json")
    assert frame.name == "pixels" and "lower right corner first" in frame.remark
    mixed = [(box, wh) for box in pixel_boxes(30, wh)] + boxes[:3]
    assert "3 of 33 boxes have their corners swapped" in choose_frame(mixed, "a.json").remark
    assert frame.convert(*boxes[0]) == pytest.approx(pixel_boxes(30, wh)[0], abs=0.011)


@pytest.mark.parametrize(
    ("box", "wh", "choices"),
    [
        ((30, 40, 120, 80), (300, 200), ["pixels", "xywh", "per_mille"]),
        ((150, 120, 30, 40), (300, 200), ["pixels", "xywh"]),
        ((10, 10, 60, 60), (300, 200), ["pixels", "percent", "per_mille"]),
        ((1500, 40, 1600, 80), (300, 200), ["pixels"]),
    ],
)
def test_the_question_names_the_box_and_each_way_to_say(box, wh, choices):
    with pytest.raises(DataError) as caught:
        choose_frame([(box, wh)], "a.json")
    text = str(caught.value)
    assert text.startswith("a.json: --boxes: got 1 box (such as [") and f"on {wh[0]}x{wh[1]}" in text
    assert all(f"--boxes {choice}" in text for choice in choices)


@pytest.mark.parametrize("wh", [None, (300, 200)])
def test_boxes_without_an_area_or_outside_are_none(wh):
    frame = choose_frame([], "a", named="pixels")
    assert frame.convert((5, 5, 5, 9), wh) is None
    assert (frame.convert((5, 5, 900, 9), wh) is None) == (wh is not None)
    assert frame.convert((-0.5, 0, 300.9, 200.2), (300, 200)) == (0, 0, 300, 200)


def test_shares_of_the_sides_need_the_size():
    assert choose_frame([], "a", named="fractions").convert((0, 0, 1, 1), None) is None


@pytest.mark.parametrize(
    "value", [None, "1234", [1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, True], [1, 2, 3, float("inf")], {}]
)
def test_what_is_not_four_numbers(value):
    assert four_numbers_of(value) is None


def coco_file(tmp_path, boxes: list) -> object:
    picture(tmp_path, "d.png")
    notes = [{"id": i, "image_id": 1, "category_id": i, "bbox": list(box)} for i, box in enumerate(boxes)]
    image = {"id": 1, "file_name": "d.png", "width": 300, "height": 200}
    names = [{"id": i, "name": f"thing {i}"} for i in range(len(boxes))]
    return written(tmp_path, "a.json", {"images": [image], "annotations": notes, "categories": names})


@pytest.mark.parametrize("name", ["pixels", "fractions", "xywh_fractions", "per_mille", "xywh"])
def test_a_coco_file_with_boxes_of_another_form(tmp_path, name):
    truth = pixel_boxes(25, (300, 200))
    found = imported(coco_file(tmp_path, [as_written(box, name, (300, 200)) for box in truth]))
    assert found.problems() == [] and len(found.answers) == 25
    assert all(a == pytest.approx(b, abs=0.02) for a, b in zip(found.answers, truth, strict=True))
    assert ("boxes are read as" in found.remarks) == (name != "xywh")


def test_the_flag_decides_a_coco_file(tmp_path):
    path = coco_file(tmp_path, [(30, 40, 120, 80)])
    assert imported(path).answers == [[30, 40, 150, 120]]
    assert imported(path, boxes="pixels").answers == [[30, 40, 120, 80]]
    assert imported(path, boxes="per_mille").answers == [[9, 8, 36, 16]]
