"""LabelMe's files: every shape, pictures named or inside, folders, EXIF, and broken files."""

import base64
import io

import numpy as np
import pytest
from helpers.imported import imported, picture, written
from PIL import Image
from pycocotools import mask as coco


def shape(kind: str | None, points: list, label: str = "block", **fields: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **fields}


def document(*shapes: dict, **fields: object) -> dict:
    known = {"version": "5.5.0", "imagePath": "d.png", "imageData": None, "imageHeight": 200, "imageWidth": 300}
    return {**known, "shapes": list(shapes), **fields}


def labelme(tmp_path, *shapes: dict, **fields: object):
    if not (tmp_path / "d.png").exists():
        picture(tmp_path, "d.png")
    return written(tmp_path, "d.json", document(*shapes, **fields))


SQUARE = [[30, 40], [150, 40], [150, 120], [30, 120]]


@pytest.mark.parametrize(
    ("one", "box"),
    [
        (shape("rectangle", [[30, 40], [150, 120]]), [30, 40, 150, 120]),
        (shape("rectangle", [[150, 120], [30, 40]]), [30, 40, 150, 120]),
        (shape("rectangle", [[150, 40], [30, 120]]), [30, 40, 150, 120]),
        (shape("rectangle", SQUARE), [30, 40, 150, 120]),
        (shape("rectangle", [[30.123, 40.456], [150.5, 120.5]]), [30.12, 40.46, 150.5, 120.5]),
        (shape("rectangle", [[-0.4, 0], [300.5, 200.2]]), [0, 0, 300, 200]),
        (shape("polygon", SQUARE), [30, 40, 150, 120]),
        (shape(None, SQUARE), [30, 40, 150, 120]),
        (shape("", [[30, 40], [150, 120]]), [30, 40, 150, 120]),
        (shape("rotation", SQUARE, direction=0.3), [30, 40, 150, 120]),
        (shape("circle", [[100, 100], [100, 150]]), [50, 50, 150, 150]),
    ],
)
def test_shapes_with_an_area_become_boxes(tmp_path, one, box):
    found = imported(labelme(tmp_path, one))
    assert found.format == "labelme" and found.answers == [box] and found.problems() == []


@pytest.mark.parametrize("kind", ["polygon", "circle", "mask"])
def test_shapes_with_an_outline_become_segments(tmp_path, kind):
    part = np.ones((80, 120), np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(part).save(file, "PNG")
    code = base64.b64encode(file.getvalue()).decode()
    one = {
        "polygon": shape("polygon", SQUARE),
        "circle": shape("circle", [[100, 100], [100, 150]]),
        "mask": shape("mask", [[30, 40], [149, 119]], mask=code),
    }[kind]
    found = imported(labelme(tmp_path, one), "seg")
    area = coco.area(found.rows[0]["segmentation"])
    assert area == {"polygon": 9600, "mask": 9600}.get(kind, pytest.approx(np.pi * 2500, rel=0.02))
    assert found.problems() == []


def test_a_mask_over_the_edge_is_cut(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.ones((50, 50), bool)).save(file, "PNG")
    one = shape("mask", [[-10, 180], [39, 229]], mask=base64.b64encode(file.getvalue()).decode())
    assert imported(labelme(tmp_path, one)).answers == [[0, 180, 40, 200]]


def test_points_are_asked_for_as_points(tmp_path):
    found = imported(labelme(tmp_path, shape("point", [[10.5, 20]]), shape("point", [[250, 100]], "disk")))
    assert found.answers == [[10.5, 20], [250, 100]] and "all objects are points" in found.remarks
    assert found.problems() == [] and found.rows[0]["accu_reward_method"] == "point_distance"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (shape("line", [[1, 1], [9, 9]]), "a line, which has no area"),
        (shape("linestrip", [[1, 1], [9, 9], [8, 2]]), "a linestrip, which has no area"),
        (shape("rectangle", [[1, 1]]), "a rectangle of 1 points"),
        (shape("polygon", [[1, 1]]), "a polygon of 1 points"),
        (shape("circle", [[1, 1]]), "a circle of 1 points"),
        (shape("cuboid", SQUARE), "a cuboid of 4 points"),
        (shape("rectangle", [[5, 5], [5, 9]]), "a box outside of its picture, or without an area"),
        (shape("rectangle", [[500, 5], [600, 9]]), "a box outside of its picture, or without an area"),
        (shape("rectangle", [["a", 5], [5, 9]]), "a shape whose points are no numbers"),
        (shape("rectangle", None), "a shape whose points are no numbers"),
        (shape("rectangle", [[30, 40], [150, 120]], ""), "an object without a label"),
        (shape("rectangle", [[30, 40], [150, 120]], None), "an object without a label"),
        (shape("point", [[900, 9]]), "a point outside of its picture"),
        (shape("mask", [[1, 1], [9, 9]], mask="AAAA"), "a mask that is no PNG in base64"),
        ("text", "a shape that is no object"),
    ],
)
def test_what_is_no_object_is_left_out(tmp_path, one, reason):
    found = imported(labelme(tmp_path, shape("rectangle", [[30, 40], [150, 120]], "disk"), one))
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


@pytest.mark.parametrize(
    "name", ["d.png", "./d.png", ".\\d.png", "C:\\data\\d.png", "..\\images\\d.png", "/home/me/d.png"]
)
def test_the_picture_is_found_by_its_name_however_it_is_written(tmp_path, name):
    found = imported(labelme(tmp_path, shape("polygon", SQUARE), imagePath=name))
    assert len(found.rows) == 1 and found.problems() == []


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_a_picture_inside_the_file_is_taken_where_there_is_no_other(tmp_path, prefix):
    data = picture(tmp_path / "else" / "where", "x.png").read_bytes()
    one = document(shape("polygon", SQUARE), imageData=prefix + base64.b64encode(data).decode())
    (tmp_path / "notes").mkdir()
    found = imported(written(tmp_path / "notes", "d.json", one))
    assert len(found.rows) == 1 and found.problems() == []


@pytest.mark.parametrize(
    ("fields", "words"), [({"imageData": "!", "imagePath": "no.png"}, "imageData"), ({"imagePath": ""}, "imagePath")]
)
def test_a_file_without_its_picture_says_so(tmp_path, fields, words):
    found = imported(labelme(tmp_path, shape("polygon", SQUARE), **fields))
    assert not found.rows and words in " ".join(found.reasons)


def test_a_folder_is_read_whole_with_its_broken_files_left_out(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path, f"{name}.png")
        written(tmp_path, f"{name}.json", document(shape("polygon", SQUARE), imagePath=f"{name}.png"))
    written(tmp_path, "broken.json", "{")
    written(tmp_path, "other.json", {"a": 1})
    found = imported(tmp_path)
    assert found.format == "labelme" and len(found.rows) == 3 and sum(found.reasons.values()) == 2


@pytest.mark.parametrize(
    ("orientation", "stated", "answer"),
    [
        (6, (300, 200), [80, 30, 160, 150]),  # of the stored pixels: turned with the picture
        (6, (200, 300), [30, 40, 150, 120]),  # of the upright picture
        (8, (300, 200), [40, 150, 120, 270]),
        (3, (300, 200), [30, 40, 150, 120]),
        (1, (300, 200), [30, 40, 150, 120]),
    ],
)
def test_boxes_follow_a_picture_that_exif_turns(tmp_path, orientation, stated, answer):
    picture(tmp_path, "d.png", orientation=orientation)
    found = imported(labelme(tmp_path, shape("polygon", SQUARE), imageWidth=stated[0], imageHeight=stated[1]))
    assert found.answers == [answer] and found.problems() == []
    words = {6: "turned" if stated == (300, 200) else "", 8: "turned", 3: "upright", 1: ""}[orientation]
    assert words in found.remarks
