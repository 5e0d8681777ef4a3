"""Label Studio's exports: percent, every kind of region, choices, several annotators, both forms."""

import base64
import csv
import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.imported import imported, picture, written
from pycocotools import mask as coco

from open_r1.tasks.importers.annotations.label_studio_brush import decode_brush

SIZE = {"original_width": 300, "original_height": 200, "image_rotation": 0}
RECTANGLE = {"x": 10.0, "y": 20.0, "width": 40.0, "height": 40.0, "rotation": 0}


def region(value: dict, kind: str = "rectanglelabels", label: Any = "block", **fields: Any) -> dict:
    named = {kind: [label] if isinstance(label, str) else label} if label is not None else {}
    known = {"id": "r", "from_name": "label", "to_name": "image", "type": kind}
    return {**known, **SIZE, "value": {**value, **named}, **fields}


def annotation(*results: dict, **fields: Any) -> dict:
    return {"id": 11, "was_cancelled": False, "result": list(results), **fields}


def task(*annotations: dict, **data: Any) -> dict:
    known = data or {"image": "/data/upload/1/0f6142fb-d.png"}
    return {"id": 1, "data": known, "annotations": list(annotations)}


def export(tmp_path, *tasks: Any):
    picture(tmp_path, "d.png")
    return written(tmp_path, "export.json", list(tasks))


def one(tmp_path, *results: dict, goal: str = ""):
    found = imported(export(tmp_path, task(annotation(*results))), goal)
    assert found.format == "label_studio"
    return found


def test_percent_becomes_pixels(tmp_path):
    found = one(tmp_path, region(RECTANGLE))
    assert found.answers == [[30, 40, 150, 120]] and found.problems() == []
    assert found.rows[0]["image_wh"] == [300, 200]


@pytest.mark.parametrize(
    ("value", "kind", "box"),
    [
        ({**RECTANGLE, "rotation": 360}, "rectanglelabels", [30, 40, 150, 120]),
        ({**RECTANGLE, "x": 50, "rotation": 90}, "rectanglelabels", [70, 40, 150, 160]),
        ({"points": [[10, 20], [50, 20], [50, 60], [10, 60]]}, "polygonlabels", [30, 40, 150, 120]),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}, "ellipselabels", [120, 60, 180, 140]),
        ({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 90}, "ellipselabels", [110, 70, 190, 130]),
        ({"x": 10, "y": 20, "width": 40, "height": 40}, "rectanglelabels", [30, 40, 150, 120]),
        ({"x": 10, "y": 20, "width": 40, "height": 40}, "labels", [30, 40, 150, 120]),
    ],
)
def test_regions_with_an_area_become_boxes(tmp_path, value, kind, box):
    found = one(tmp_path, region(value, kind))
    assert found.answers == [pytest.approx(box, abs=0.02)] and found.problems() == []


def test_a_turned_rectangle_has_an_outline(tmp_path):
    found = one(tmp_path, region({**RECTANGLE, "x": 50, "rotation": 45}), goal="seg")
    assert (
        int(coco.area(found.rows[0]["segmentation"])) == pytest.approx(120 * 80, rel=0.02) and found.problems() == []
    )


def test_key_points(tmp_path):
    found = one(tmp_path, region({"x": 50, "y": 50, "width": 0.5}, "keypointlabels"))
    assert found.answers == [[150, 100]] and found.problems() == []


def packed(mask: np.ndarray, lengths: tuple[int, ...] = (3, 7, 11, 15)) -> list[int]:
    """A mask in the bits of the tool's brush, made as the tool does: runs of equal values, else single values."""
    values = np.repeat(mask.astype(np.uint8).reshape(-1) * 255, 4)
    bits = f"{values.size:032b}{7:05b}" + "".join(f"{length:04b}" for length in lengths)
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    for start, end in pairwise(edges):
        while start < end:
            run = min(end - start, 2 ** (lengths[3] + 1))
            which = next(i for i, length in enumerate(lengths) if run <= 2 ** (length + 1))
            bits += f"1{which:02b}{run - 1:0{lengths[which] + 1}b}{values[start]:08b}"
            start += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_a_brush_is_decoded(tmp_path):
    mask = np.zeros((200, 300), bool)
    mask[40:120, 30:150] = True
    found = one(tmp_path, region({"format": "rle", "rle": packed(mask)}, "brushlabels"), goal="seg")
    assert coco.area(found.rows[0]["segmentation"]) == 9600 and found.problems() == []


def test_a_brush_of_single_values_is_decoded():
    values = np.arange(16, dtype=np.uint8)  # 4 pixels; alpha is 3, 7, 11, 15
    bits = f"{16:032b}{7:05b}" + "0011" * 4 + "000" + f"{15:04b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    assert decode_brush([int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)], (2, 2)).all()


@pytest.mark.parametrize("codes", [[], [1, 2, 3], "abc", [300] * 20, [0] * 40, None, packed(np.ones((5, 5), bool))])
def test_a_brush_that_cannot_be_decoded_is_left_out(tmp_path, codes):
    found = one(tmp_path, region({"format": "rle", "rle": codes}, "brushlabels"))
    assert not found.rows and "a brush with" in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (region(RECTANGLE, label=None), "a region without a label"),
        (region(RECTANGLE, label=[]), "a region without a label"),
        (region(RECTANGLE, label=["a", "b"]), "a region with several labels"),
        (region({**RECTANGLE, "x": None}), "a region whose numbers are none"),
        (region({**RECTANGLE, "x": "10"}), "a region whose numbers are none"),
        (region({**RECTANGLE, "width": 0}), "a box outside of its picture, or without an area"),
        (region({**RECTANGLE, "x": 95, "width": 50}), "a box outside of its picture, or without an area"),
        (region({"points": [[1, 1], [2, 2]]}, "polygonlabels"), "a polygon of fewer than three points"),
        (region(RECTANGLE, original_width=None), "without the size of its picture"),
        (region(RECTANGLE, image_rotation=90), "turned in the tool"),
        (region(RECTANGLE, original_width=200, original_height=300), "another shape than the source states"),
    ],
)
def test_regions_that_cannot_be_used_are_left_out(tmp_path, result, reason):
    found = one(tmp_path, result)
    assert not found.rows and reason in " ".join(found.reasons)


def test_labels_may_stand_in_a_result_of_their_own(tmp_path):
    bare = region(RECTANGLE, label=None) | {"type": "rectangle", "id": "a"}
    named = {"id": "a", "type": "labels", "from_name": "tag", "value": {**RECTANGLE, "labels": ["block"]}, **SIZE}
    assert one(tmp_path, bare, named).answers == [[30, 40, 150, 120]]


def test_two_labels_of_a_picture(tmp_path):
    other = region({**RECTANGLE, "x": 55}, label="disk") | {"id": "s"}
    found = one(tmp_path, region(RECTANGLE), other, goal="detection")
    assert found.answers[0][1] == {"bbox_2d": [165, 40, 285, 120], "label": "disk"}


@pytest.mark.parametrize(
    ("annotations", "answer"),
    [
        (
            [
                annotation(region(RECTANGLE), updated_at="2024-01-01"),
                annotation(region({**RECTANGLE, "x": 0}), updated_at="2024-02-01"),
            ],
            0,
        ),
        (
            [
                annotation(region({**RECTANGLE, "x": 0}), updated_at="2024-02-01"),
                annotation(region(RECTANGLE), updated_at="2024-01-01"),
            ],
            0,
        ),
        ([annotation(region({**RECTANGLE, "x": 0}), ground_truth=True), annotation(region(RECTANGLE), id=99)], 0),
        ([annotation(region(RECTANGLE), was_cancelled=True, id=99), annotation(region({**RECTANGLE, "x": 0}))], 0),
        ([annotation(region(RECTANGLE)), annotation(region({**RECTANGLE, "x": 0}), id=12)], 0),
    ],
)
def test_of_several_annotations_one_counts(tmp_path, annotations, answer):
    found = imported(export(tmp_path, task(*annotations)))
    assert [box[0] for box in found.answers] == [answer]
    assert ("pictures with several annotations: 1" in found.remarks) == (
        not any(a["was_cancelled"] for a in annotations)
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (task(), "a task nobody annotated"),
        ({**task(), "predictions": [annotation(region(RECTANGLE))]}, "a task with predictions only"),
        (task(annotation(region(RECTANGLE), was_cancelled=True)), "were cancelled"),
        (task(annotation(), text="hello"), "a task without a picture"),
        (task(annotation(), a="a.png", b="b.png"), "a task with several pictures"),
        ({"id": 1}, "a task without data"),
        ("text", "a task without data"),
        (task(annotation(region(RECTANGLE)), image="/data/upload/none.png"), "a picture that is not there"),
    ],
)
def test_tasks_that_cannot_be_used_are_left_out(tmp_path, row, reason):
    found = imported(export(tmp_path, task(annotation(region(RECTANGLE))), row))
    assert len(found.rows) == 1 and reason in " ".join(found.reasons)


@pytest.mark.parametrize(
    "name",
    [
        "/data/upload/1/0f6142fb-d.png", "d.png", "/data/local-files/?d=pictures%2Fd.png", "s3://bucket/some/d.png",
        "https://host.example/a/d.png?token=1", "gs://b/d.png", "upload/3/0f6142fb-d.png",
    ],
)  # fmt: skip
def test_the_picture_is_found_by_the_end_of_its_address(tmp_path, name):
    found = imported(export(tmp_path, task(annotation(region(RECTANGLE)), image=name)))
    assert len(found.rows) == 1 and found.problems() == []


@pytest.mark.parametrize("field", ["img", "photo", "my picture"])
def test_the_picture_may_stand_under_any_name(tmp_path, field):
    assert len(imported(export(tmp_path, task(annotation(region(RECTANGLE)), **{field: "d.png"}))).rows) == 1


def choice(*names: str, **fields: Any) -> dict:
    known = {"id": "c", "from_name": "weather", "to_name": "image", "type": "choices"}
    return {**known, "value": {"choices": list(names)}, **fields}


@pytest.mark.parametrize(
    ("result", "data", "question", "answer"),
    [
        (choice("sunny"), {}, "What is the weather of the image?", "sunny"),
        (choice("sunny"), {"question": "Which weather?"}, "Which weather?", "sunny"),
        ({**choice(), "type": "textarea", "value": {"text": ["a cat"]}}, {"question": "What?"}, "What?", "a cat"),
        (
            {**choice(), "type": "textarea", "value": {"text": "a cat"}},
            {},
            "What is the weather of the image?",
            "a cat",
        ),
        ({**choice(), "type": "number", "value": {"number": 3}}, {"question": "How many?"}, "How many?", 3),
        (
            {**choice(), "type": "taxonomy", "value": {"taxonomy": [["animal", "cat"]]}},
            {},
            "What is the weather of the image?",
            "animal / cat",
        ),
    ],
)
def test_choices_and_texts_about_a_picture_become_questions(tmp_path, result, data, question, answer):
    found = imported(export(tmp_path, task(annotation(result), image="d.png", **data)))
    assert found.questions == [question] and found.answers == [answer] and found.problems() == []


@pytest.mark.parametrize(
    "result", [choice("a", "b"), choice(), {**choice(), "type": "textarea", "value": {"text": ["a", "b"]}}]
)
def test_a_choice_that_is_not_one_answer_is_left_out(tmp_path, result):
    assert imported(export(tmp_path, task(annotation(result)))).reasons == {
        "a choice or text that is not one answer": 1
    }


def test_a_choice_beside_objects_is_left_out_with_a_reason(tmp_path):
    found = one(tmp_path, region(RECTANGLE), choice("sunny"))
    assert len(found.rows) == 1 and "a choice or text beside objects" in " ".join(found.reasons)


def minimal(tmp_path, *rows: dict):
    picture(tmp_path, "d.png")
    found = imported(written(tmp_path, "min.json", list(rows)))
    assert found.format == "label_studio_min"
    return found


def min_row(**fields: Any) -> dict:
    return {"image": "/data/upload/1/0f6142fb-d.png", "id": 1, "annotator": 1, "annotation_id": 1, **fields}


def test_the_short_form(tmp_path):
    value = {**RECTANGLE, "rectanglelabels": ["block"], "original_width": 300, "original_height": 200}
    other = {**value, "x": 55, "rectanglelabels": ["disk"]}
    found = minimal(tmp_path, min_row(label=[value, other]))
    assert found.answers == [[30, 40, 150, 120], [165, 40, 285, 120]] and found.problems() == []


def test_the_short_form_takes_the_newest_annotation(tmp_path):
    value = {**RECTANGLE, "rectanglelabels": ["block"], "original_width": 300, "original_height": 200}
    rows = [
        min_row(label=[value], updated_at="2024-02-01"),
        min_row(label=[{**value, "x": 0}], updated_at="2024-01-01"),
    ]
    found = minimal(tmp_path, *rows)
    assert found.answers == [[30, 40, 150, 120]] and "the newest is taken" in found.remarks


def test_the_short_form_of_choices(tmp_path):
    found = minimal(tmp_path, min_row(weather="sunny", lead_time=1.5, created_at="2024"))
    assert found.questions == ["What is the weather of the image?"] and found.answers == ["sunny"]


def test_polygons_of_the_short_form(tmp_path):
    points = [[10, 20], [50, 20], [50, 60], [10, 60]]
    value = {"points": points, "polygonlabels": ["block"], "original_width": 300, "original_height": 200}
    assert minimal(tmp_path, min_row(label=[value])).answers == [[30, 40, 150, 120]]


def test_angles_turn_clockwise_around_the_upper_left_corner():
    from open_r1.tasks.importers.annotations.label_studio_regions import region_object

    turned = region_object(region({"x": 0, "y": 0, "width": 50, "height": 10, "rotation": 30}), (300, 200))
    assert turned.polygons[0][1] == pytest.approx((150 * math.cos(math.pi / 6), 75))


def test_relations_between_objects_are_no_objects(tmp_path):
    relation = {"from_id": "r", "to_id": "s", "type": "relation", "direction": "right"}
    found = one(tmp_path, region(RECTANGLE), relation)
    assert len(found.rows) == 1 and not found.reasons


def test_the_csv_is_the_short_form_with_json_in_its_cells(tmp_path):
    value = {**RECTANGLE, "rectanglelabels": ["block"], "original_width": 300, "original_height": 200}
    picture(tmp_path, "d.png")
    with open(tmp_path / "a.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "id", "label", "annotator", "annotation_id", "lead_time"])
        table.writerow(["/data/upload/1/0f6142fb-d.png", 1, json.dumps([value]), 1, 2, 1.5])
    found = imported(tmp_path / "a.csv")
    assert found.format == "label_studio_min" and found.answers == [[30, 40, 150, 120]] and found.problems() == []


def test_a_picture_inside_the_task(tmp_path):
    data = "data:image/png;base64," + base64.b64encode(picture(tmp_path / "else", "x.png").read_bytes()).decode()
    found = imported(export(tmp_path / "other", task(annotation(region(RECTANGLE)), image=data)))
    assert len(found.rows) == 1 and found.problems() == []


def test_a_single_task_may_be_an_object_of_its_own(tmp_path):
    picture(tmp_path, "d.png")
    found = imported(written(tmp_path, "task.json", task(annotation(region(RECTANGLE)))))
    assert found.format == "label_studio" and len(found.rows) == 1


@pytest.mark.parametrize(
    ("golds", "data", "listed"),
    [
        (["cat", "dog"], {}, " Answer with one of: cat, dog."),
        (["cat", "cat"], {}, ""),
        (["cat", "dog"], {"question": "Cat or dog?"}, ""),
        ([f"label {number}" for number in range(31)], {}, ""),
    ],
)
def test_the_question_of_a_choice_lists_the_labels_of_the_export(tmp_path, golds, data, listed):
    picture(tmp_path, "d.png")
    tasks = [task(annotation(choice(gold)), id=number, image="d.png", **data) for number, gold in enumerate(golds, 1)]
    found = imported(export(tmp_path, *tasks))
    expected = data.get("question", "What is the weather of the image?") + listed
    assert set(found.questions) == {expected} and found.answers == golds and found.problems() == []


def test_the_short_form_lists_labels_too(tmp_path):
    found = minimal(tmp_path, min_row(weather="sunny"), min_row(id=2, weather="rain"))
    assert {question.partition(" Answer")[2] for question in found.questions} == {" with one of: rain, sunny."}


def test_golds_of_free_text_are_said(tmp_path):
    written_text = {**choice(), "type": "textarea", "value": {"text": ["a cat"]}}
    found = imported(export(tmp_path, task(annotation(written_text), image="d.png")))
    assert "free text: 1; an answer must equal them" in found.remarks
