"""YOLO's folders: trees, names, boxes, polygons, key points, and files that are no labels."""

from pathlib import Path

import pytest
from helpers.imported import imported, picture, written
from pycocotools import mask as coco

from open_r1.errors import DataError

LINE = "0 0.3 0.4 0.4 0.4"  # of 300x200: 30, 40, 150, 120


def folder(
    tmp_path: Path, text: str = LINE, names: str = "block\ndisk\n", labels: str = "labels", images: str = "images"
):
    picture(tmp_path / images, "d.png")
    written(tmp_path / labels, "d.txt", text)
    if names:
        written(tmp_path, "classes.txt", names)
    return tmp_path


@pytest.mark.parametrize(
    ("labels", "images", "split"),
    [
        ("labels", "images", ""),
        ("labels/train", "images/train", "train"),
        ("train/labels", "train/images", "train"),
        ("valid/labels", "valid/images", "val"),
        ("data", "data", ""),
        (".", ".", ""),
    ],
)
def test_trees(tmp_path, labels, images, split):
    found = imported(folder(tmp_path, labels=labels, images=images))
    assert found.format == "yolo" and found.answers == [[30, 40, 150, 120]] and found.problems() == []
    assert [item.split for item in found.items if hasattr(item, "row")] == [split]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names: [block, disk]\nnc: 2\ntrain: images\n"),
        ("data.yaml", "path: .\ntrain: images\nnames:\n  0: block\n  1: disk\n"),
        ("dataset.yml", "names: ['block', 'disk']"),
        ("obj.names", "block\ndisk"),
        ("labels/classes.txt", "block\r\ndisk\r\n"),
        ("classes.txt", "\ufeffblock\ndisk"),
    ],
)
def test_names_of_classes(tmp_path, name, text):
    path = folder(tmp_path, names="")
    written(path, name, text)
    assert "the block." in imported(path).questions[0]


def test_the_yaml_file_itself_may_be_given(tmp_path):
    path = folder(tmp_path, names="")
    found = imported(written(path, "data.yaml", "names: [block]\ntrain: images\n"))
    assert found.format == "yolo" and len(found.rows) == 1


def test_without_names_the_remedy_is_said(tmp_path):
    with pytest.raises(DataError, match=r"write classes\.txt"):
        imported(folder(tmp_path, names=""))


@pytest.mark.parametrize(
    ("line", "box"),
    [
        (LINE, [30, 40, 150, 120]),
        ("0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6", [30, 40, 150, 120]),
        ("0\t0.3\t0.4\t0.4\t0.4 ", [30, 40, 150, 120]),
        ("0 0.5 0.5 1.0 1.0", [0, 0, 300, 200]),
        ("0 0.5 0.5 1.004 1.0", [0, 0, 300, 200]),
        ("0 3e-1 0.4 0.4 0.4", [30, 40, 150, 120]),
    ],
)
def test_lines(tmp_path, line, box):
    assert imported(folder(tmp_path, line)).answers == [pytest.approx(box, abs=0.01)]


def test_polygons_become_segments(tmp_path):
    found = imported(folder(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6"), "seg")
    assert coco.area(found.rows[0]["segmentation"]) == 9600 and found.problems() == []


def test_key_points_are_known_from_the_yaml(tmp_path):
    path = folder(tmp_path, LINE + " 0.3 0.4 2 0.5 0.5 1", names="")
    written(path, "data.yaml", "names: [man]\nkpt_shape: [2, 3]\n")
    assert imported(path).answers == [[30, 40, 150, 120]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("5 0.3 0.4 0.4 0.4", "a class that has no name: 5"),
        ("0 0.3 0.4 0.4 0.4 0.93", "a line with a confidence: a prediction"),
        ("0 90 80 120 80", "numbers beyond 0 to 1, which YOLO's lines have"),
        ("0 0.3 0.4", "a line of 2 numbers after its class"),
        ("0 0.3 0.4 0.4 0.4 0.1 0.2 0.3", "a line of 7 numbers after its class"),
        ("block 0.3 0.4 0.4 0.4", "a line that is not a class and numbers"),
        ("0 0.3 x 0.4 0.4", "a line that is not a class and numbers"),
        ("0 0.3 0.4 0.0 0.4", "a box outside of its picture, or without an area"),
        ("0 0.9 0.4 0.9 0.4", "a box outside of its picture, or without an area"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, line, reason):
    found = imported(folder(tmp_path, "1 0.5 0.5 0.2 0.2\n" + line))
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


def test_bare_pictures_count_as_empty_only_with_an_empty_file(tmp_path):
    path = folder(tmp_path)
    for name in ("e", "f"):
        picture(tmp_path / "images", f"{name}.png")
    written(tmp_path / "labels", "e.txt", "")
    found = imported(path, "detection")
    assert found.answers == [[{"bbox_2d": [30, 40, 150, 120], "label": "block"}], "None"]
    assert "pictures without a file of labels: 1" in found.remarks


def test_labels_without_their_picture_and_other_texts(tmp_path):
    path = folder(tmp_path)
    written(tmp_path / "labels", "none.txt", LINE)
    written(tmp_path, "README.txt", "hello world")
    written(tmp_path, "about.txt", "hello world")
    found = imported(path)
    assert found.reasons == {
        "a file of labels whose picture is not there": 1,
        "a text file that has no lines of YOLO": 1,
    }


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ".jpeg", ".webp", ".bmp"])
def test_endings_of_pictures(tmp_path, ending):
    path = folder(tmp_path)
    (tmp_path / "images" / "d.png").unlink()
    picture(tmp_path / "images", f"d{ending}")
    assert len(imported(path).rows) == 1


def test_boxes_are_of_the_upright_picture(tmp_path):
    path = folder(tmp_path)
    picture(tmp_path / "images", "d.png", orientation=6)
    assert imported(path).answers == [[20, 60, 100, 180]] and imported(path).problems() == []
