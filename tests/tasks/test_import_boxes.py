"""VIA, CreateML, tables of boxes, and RefCOCO's forms."""

import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.imported import imported, picture, written

from open_r1.errors import DataError
from open_r1.tasks.importers.formats import refuse_idle_options
from open_r1.tasks.importers.items import ImportOptions
from open_r1.tasks.importers.pictures import Pictures

RECT = {"name": "rect", "x": 30, "y": 40, "width": 120, "height": 80}


def via(tmp_path, *regions: dict, project: bool = False, name: str = "d.png"):
    picture(tmp_path, "d.png")
    files = {"d.png123": {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}}
    return written(tmp_path, "via.json", {"_via_settings": {}, "_via_img_metadata": files} if project else files)


def via_region(shape: dict, **attributes: object) -> dict:
    return {"shape_attributes": shape, "region_attributes": attributes or {"label": "block"}}


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        (RECT, [30, 40, 150, 120]),
        ({"name": "polygon", "all_points_x": [30, 150, 150], "all_points_y": [40, 40, 120]}, [30, 40, 150, 120]),
        ({"name": "circle", "cx": 100, "cy": 100, "r": 50}, [50, 50, 150, 150]),
        ({"name": "ellipse", "cx": 100, "cy": 100, "rx": 50, "ry": 20, "theta": 0}, [50, 80, 150, 120]),
        ({"name": "point", "cx": 100, "cy": 90}, [100, 90]),
    ],
)
def test_shapes_of_via(tmp_path, shape, answer, project):
    found = imported(via(tmp_path, via_region(shape), project=project))
    assert found.format == "via" and found.answers == [answer] and found.problems() == []


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"label": "cat"}, "cat"),
        ({"animal": "cat"}, "cat"),
        ({"type": {"cat": True}}, "cat"),
        ({"x": "", "name": "cat"}, "cat"),
    ],
)
def test_labels_of_via(tmp_path, attributes, label):
    assert f"the {label}." in imported(via(tmp_path, via_region(RECT, **attributes))).questions[0]


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (via_region({"name": "polyline", "all_points_x": [1], "all_points_y": [1]}), "a polyline, which has no area"),
        (via_region({"name": "rect", "x": 1}), "a region whose numbers are none"),
        (via_region(RECT, other=""), "an object without a label"),
        ({}, "a region without a shape"),
        (None, "a region without a shape"),
    ],
)
def test_regions_of_via_that_cannot_be_used(tmp_path, region, reason):
    found = imported(via(tmp_path, via_region(RECT), region))
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


def test_a_file_of_via_without_regions_is_left_out(tmp_path):
    assert imported(via(tmp_path)).reasons == {"a file without a region": 1}


def test_createml(tmp_path):
    picture(tmp_path, "d.png")
    notes = [{"label": "block", "coordinates": {"x": 90, "y": 80, "width": 120, "height": 80}}, {"label": "x"}]
    rows = [{"image": "d.png", "annotations": notes[:1]}, {"image": "d.png", "annotations": notes}]
    found = imported(written(tmp_path, "a.json", rows))
    assert found.format == "createml" and found.answers == [[30, 40, 150, 120]] * 2 and found.problems() == []
    assert found.reasons == {"a box whose sides are no numbers": 1}


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "d.png,300,200,block,30,40,150,120"),
        ("image_path,xmin,ymin,xmax,ymax,label", "d.png,30,40,150,120,block"),
        ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax", "d.png,x,block,1,0.1,0.5,0.2,0.6"),
        ("image;x1;y1;x2;y2;class", "d.png;30;40;150;120;block"),
    ],
)
def test_tables_of_boxes(tmp_path, head, row):
    picture(tmp_path, "d.png")
    found = imported(written(tmp_path, "a.csv", f"{head}\n{row}\n"))
    assert found.format == "box_table" and found.answers == [[30, 40, 150, 120]] and found.problems() == []


def test_lines_of_a_table_that_cannot_be_used(tmp_path):
    picture(tmp_path, "d.png")
    rows = ["d.png,x,1,2,3,block", "d.png,1,2", "none.png,1,2,30,40,block", "d.png,30,40,150,120,block"]
    found = imported(written(tmp_path, "a.csv", "image,xmin,ymin,xmax,ymax,label\n" + "\n".join(rows)))
    assert len(found.rows) == 1 and sum(found.reasons.values()) == 3


INSTANCES = {
    "images": [{"id": 7, "file_name": "COCO_train2014_000000000007.png", "width": 300, "height": 200}],
    "annotations": [{"id": 5, "image_id": 7, "category_id": 1, "bbox": [30, 40, 120, 80]}],
    "categories": [{"id": 1, "name": "block"}],
}


def refs(tmp_path):
    picture(tmp_path, "COCO_train2014_000000000007.png")
    rows = [{"ref_id": 1, "ann_id": 5, "image_id": 7, "split": "val", "sentences": [{"sent": "the blue one"}]}]
    rows += [{**rows[0], "ann_id": 6}]
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(rows, protocol=2))
    return path


def test_refs_with_their_instances(tmp_path):
    found = imported(refs(tmp_path), others=(written(tmp_path, "instances.json", INSTANCES),))
    assert found.format == "refcoco" and found.answers == [[30, 40, 150, 120]] and found.problems() == []
    assert "the blue one." in found.questions[0] and sum(found.reasons.values()) == 1


def test_refs_alone_say_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"instances\.json"):
        imported(refs(tmp_path))


def test_parquet_of_the_hub(tmp_path):
    data = picture(tmp_path / "else", "d.png").read_bytes()
    row = {
        "answer": ["the block"],
        "bbox": [30.0, 40, 120, 80],
        "file_name": "d.png",
        "image": {"bytes": data, "path": None},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "val-00000-of-00001.parquet")
    found = imported(tmp_path / "val-00000-of-00001.parquet")
    assert found.format == "refcoco" and found.answers == [[30, 40, 150, 120]] and found.problems() == []


def test_json_of_vlm_r1(tmp_path):
    picture(tmp_path, "d.png")
    row = {"image": "d.png", "problem": "x", "normal_caption": "the block", "solution": [30, 40, 150, 120]}
    found = imported(written(tmp_path, "refcoco_train.json", [row, {**row, "solution": None}]))
    assert found.format == "refcoco" and found.answers == [[30, 40, 150, 120]]
    assert found.reasons == {"a row without a box": 1}


@pytest.mark.parametrize("task", ["detection", "seg", "counting", "point"])
def test_refcoco_has_no_other_task_than_rec(tmp_path, task):
    with pytest.raises(DataError, match="leave --task out"):
        refuse_idle_options("refcoco", ImportOptions(Pictures([], tmp_path), task=task))
