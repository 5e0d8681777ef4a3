"""CVAT's and Pascal VOC's XML: every shape, counting from 1, folders, and hostile documents."""

from pathlib import Path

import pytest
from helpers.imported import imported, picture, written
from pycocotools import mask as coco

from open_r1.errors import DataError

BOX = '<box label="block" xtl="30" ytl="40" xbr="150" ybr="120" occluded="0" z_order="0"/>'
MASK = '<mask label="block" source="manual" rle="0, 9600" left="30" top="40" width="120" height="80"/>'
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


def cvat(tmp_path: Path, *shapes: str, head: str = "", name: str = "d.png", sides: str = 'width="300" height="200"'):
    picture(tmp_path, "d.png")
    image = f'<image id="0" name="{name}" {sides}>{"".join(shapes)}</image>'
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>{head}<annotations><version>1.1</version><meta/>{image}</annotations>'
    )
    return written(tmp_path, "annotations.xml", text)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (BOX, [30, 40, 150, 120]),
        (BOX.replace("xtl", "a").replace("xbr", "xtl").replace("a=", "xbr="), [30, 40, 150, 120]),
        (BOX.replace("/>", ' rotation="90"/>'), [50, 20, 130, 140]),
        (BOX.replace("/>", ' rotation="0.0"/>'), [30, 40, 150, 120]),
        (BOX.replace("/>", '><attribute name="colour">red</attribute></box>'), [30, 40, 150, 120]),
        ('<polygon label="block" points="30,40;150,40;150,120;30,120"/>', [30, 40, 150, 120]),
        ('<polygon label="block" points="30.00,40.00;150.00,40.00;150.00,120.50"/>', [30, 40, 150, 120.5]),
        ('<ellipse label="block" cx="150" cy="100" rx="30" ry="40"/>', [120, 60, 180, 140]),
        ('<ellipse label="block" cx="150" cy="100" rx="30" ry="40" rotation="90"/>', [110, 70, 190, 130]),
        (MASK, [30, 40, 150, 120]),
    ],
)
def test_shapes_of_cvat_become_boxes(tmp_path, shape, box):
    found = imported(cvat(tmp_path, shape))
    assert found.format == "cvat" and found.answers == [pytest.approx(box, abs=0.01)] and found.problems() == []


@pytest.mark.parametrize("shape", [MASK, '<polygon label="block" points="30,40;150,40;150,120;30,120"/>'])
def test_outlines_of_cvat_become_segments(tmp_path, shape):
    found = imported(cvat(tmp_path, shape), "seg")
    assert coco.area(found.rows[0]["segmentation"]) == 9600 and found.problems() == []


def test_points_of_cvat_are_asked_for(tmp_path):
    found = imported(cvat(tmp_path, '<points label="nose" points="150.5,100.25"/>'))
    assert found.answers == [[150.5, 100.25]] and found.problems() == []


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ('<polyline label="road" points="1,1;9,9"/>', "a line, which has no area"),
        ('<cuboid label="car"/>', "a cuboid"),
        ('<skeleton label="man"><points label="a" points="1,1"/></skeleton>', "a skeleton of key points"),
        ('<tag label="sunny"/>', "a tag of a whole picture"),
        ('<box label="a" xtl="x" ytl="4" xbr="9" ybr="9"/>', "a box whose sides are no numbers"),
        ('<box label="a" xtl="1" ytl="4" xbr="9"/>', "a box whose sides are no numbers"),
        ('<box label="a" xtl="nan" ytl="4" xbr="9" ybr="9"/>', "a box whose sides are no numbers"),
        ('<box label="a" xtl="9" ytl="4" xbr="9" ybr="9"/>', "a box outside of its picture, or without an area"),
        ('<box label="a" xtl="9" ytl="4" xbr="900" ybr="9"/>', "a box outside of its picture, or without an area"),
        ('<box xtl="1" ytl="4" xbr="9" ybr="9"/>', "an object without a label"),
        ('<polygon label="a" points="1,1;2,2"/>', "a polygon of fewer than three points"),
        ('<polygon label="a" points="1,1;2;3,3"/>', "a polygon of fewer than three points"),
        ('<points label="a" points=""/>', "points that are no numbers"),
        ('<points label="a" points="1,1;2,2"/>', "a point, which has no box: --task point"),
        ('<ellipse label="a" cx="1"/>', "an ellipse whose sides are no numbers"),
        (MASK.replace("9600", "9599"), "a mask that does not fill its box, or leaves its picture"),
        (MASK.replace('left="30"', 'left="250"'), "a mask that does not fill its box, or leaves its picture"),
        (MASK.replace("0, 9600", "x"), "a mask whose numbers are none"),
        (MASK.replace("0, 9600", "9600"), "a mask without a pixel"),
        ("<other/>", "a shape of the kind other"),
    ],
)
def test_shapes_of_cvat_that_cannot_be_used(tmp_path, shape, reason):
    found = imported(cvat(tmp_path, BOX.replace("block", "disk"), shape))
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


def test_tracks_of_a_video_are_refused(tmp_path):
    path = written(tmp_path, "a.xml", '<annotations><track id="0" label="car"><box frame="0"/></track></annotations>')
    with pytest.raises(DataError, match="tracks of a video"):
        imported(path)


@pytest.mark.parametrize("sides", ['width="200" height="300"', 'width="300" height="300"'])
def test_another_shape_than_stated(tmp_path, sides):
    assert "another shape" in " ".join(imported(cvat(tmp_path, BOX, sides=sides)).reasons)


def test_the_subset_is_the_split(tmp_path):
    found = imported(cvat(tmp_path, BOX, sides='width="300" height="200" subset="Validation"'))
    assert [item.split for item in found.items if hasattr(item, "row")] == ["val"]


def voc_text(objects: str, head: str = "", name: str = "d.png", size: tuple[int, int] = (300, 200)) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"{head}<annotation><folder>x</folder><filename>{name}</filename>{sides}{objects}</annotation>"


def voc_object(box: tuple[object, ...], label: str = "block", more: str = "") -> str:
    sides = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{label}</name>{more}<bndbox>{sides}</bndbox></object>"


def voc(tmp_path: Path, *objects: str, **fields) -> Path:
    picture(tmp_path, "d.png")
    return written(tmp_path, "d.xml", voc_text("".join(objects), **fields))


@pytest.mark.parametrize(
    ("boxes", "answer", "words"),
    [
        ([(31, 41, 150, 120)], [30, 40, 150, 120], "counted from 1"),
        ([(1, 1, 300, 200)], [0, 0, 300, 200], "counted from 1"),
        ([(0, 40, 150, 120)], [0, 40, 150, 120], "counted from 0"),
        ([(30, 40, 150, 120), (0, 0, 9, 9)], [30, 40, 150, 120], "counted from 0"),
        ([(150, 120, 31, 41)], [30, 40, 150, 120], "counted from 1"),
        ([(31.5, 41.25, 150.0, 120)], [30.5, 40.25, 150, 120], "counted from 1"),
    ],
)
def test_pixels_of_voc_are_counted_from_one(tmp_path, boxes, answer, words):
    found = imported(voc(tmp_path, *(voc_object(box, f"kind{i}") for i, box in enumerate(boxes))))
    assert found.format == "voc" and found.answers[0] == answer and words in found.remarks
    assert found.problems() == []


@pytest.mark.parametrize("polygon", [
    "<x1>30</x1><y1>40</y1><x2>150</x2><y2>40</y2><x3>150</x3><y3>120</y3>",
    "<pt><x>30</x><y>40</y></pt><pt><x>150</x><y>40</y></pt><pt><x>150</x><y>120</y></pt>",
])  # fmt: skip
def test_polygons_of_voc(tmp_path, polygon):
    found = imported(voc(tmp_path, f"<object><name>block</name><polygon>{polygon}</polygon></object>"), "seg")
    assert len(found.rows) == 1 and found.problems() == []


def test_difficult_objects_are_kept_and_counted(tmp_path):
    found = imported(voc(tmp_path, voc_object((31, 41, 150, 120), more="<difficult>1</difficult>")))
    assert len(found.rows) == 1 and "objects marked difficult: 1" in found.remarks


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (voc_object(("a", 41, 150, 120)), "an object whose box has sides that are no numbers"),
        (voc_object(("", 41, 150, 120)), "an object whose box has sides that are no numbers"),
        ("<object><name>a</name></object>", "an object without a box"),
        (voc_object((31, 41, 150, 120), ""), "an object without a label"),
        (voc_object((31, 41, 950, 120)), "a box outside of its picture, or without an area"),
    ],
)
def test_objects_of_voc_that_cannot_be_used(tmp_path, one, reason):
    found = imported(voc(tmp_path, voc_object((31, 41, 150, 120), "disk"), one))
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


def test_a_folder_of_voc_in_its_usual_tree(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "JPEGImages", f"{name}.png")
        written(tmp_path / "Annotations", f"{name}.xml", voc_text(voc_object((31, 41, 150, 120)), name=f"{name}.png"))
    written(tmp_path / "Annotations", "broken.xml", "<annotation>")
    found = imported(tmp_path)
    assert found.format == "voc" and len(found.rows) == 2 and sum(found.reasons.values()) == 1
    assert found.problems() == []


@pytest.mark.parametrize("size", [(0, 0), ("", "")])
def test_a_size_that_is_not_stated(tmp_path, size):
    assert imported(voc(tmp_path, voc_object((31, 41, 150, 120)), size=size)).rows[0]["image_wh"] == [300, 200]


def test_a_file_without_a_filename(tmp_path):
    assert imported(voc(tmp_path, voc_object((1, 1, 9, 9)), name="")).reasons == {"a file without a filename": 1}


@pytest.mark.parametrize("head", [BOMB, FILE, "<!DOCTYPE annotation>"])
@pytest.mark.parametrize(
    "make", [lambda p, h: voc(p, voc_object((1, 1, 9, 9)), head=h), lambda p, h: cvat(p, BOX, head=h)]
)
def test_a_document_type_is_refused(tmp_path, make, head):
    from open_r1.tasks.importers.annotations.safe_xml import read_xml

    with pytest.raises(DataError, match="a document type"):
        read_xml(make(tmp_path, head))


@pytest.mark.parametrize(
    "text", ["<annotation>", "<annotation></b>", "<a><b/></a><c/>", "<annotation>&x;</annotation>", "\0"]
)
def test_broken_xml_is_a_sentence(tmp_path, text):
    from open_r1.tasks.importers.annotations.safe_xml import read_xml

    with pytest.raises(DataError, match="broken XML"):
        read_xml(written(tmp_path, "a.xml", text))


def test_elements_nested_too_deeply_are_refused(tmp_path):
    from open_r1.tasks.importers.annotations.safe_xml import read_xml

    with pytest.raises(DataError, match="nested over"):
        read_xml(written(tmp_path, "a.xml", "<a>" * 200_000))
