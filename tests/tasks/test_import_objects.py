"""Data sets of the hub with a column of objects: parquet with names of labels, folders with metadata, JSONL."""

import inspect
import json
import random
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from helpers.imported import imported, picture, written

from open_r1.errors import DataError
from open_r1.tasks.importers.formats import ANNOTATED, FOREIGN_FORMATS, OPEN_BOXES, refuse_idle_options
from open_r1.tasks.importers.items import ImportOptions
from open_r1.tasks.importers.pictures import Pictures

BOXES = [[30, 40, 120, 80], [200, 100, 80, 80]]  # x, y, width, height on 300x200


def objects(boxes: list = BOXES, labels: tuple = ("block", "disk"), **fields: Any) -> dict[str, Any]:
    return {"bbox": boxes, "category": list(labels), **fields}


def many(seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    corners = [(rng.randrange(200), rng.randrange(150)) for _ in range(2)]
    return [[x, y, rng.randrange(20, 300 - x), rng.randrange(20, 200 - y)] for x, y in corners]


def rows(**fields: Any) -> list[dict[str, Any]]:
    """Enough boxes to tell that they are x, y, width, height."""
    return [{"objects": objects(many(seed)), **fields} for seed in range(12)]


@pytest.mark.parametrize("folder", ["", "train"])
def test_a_folder_with_metadata(tmp_path, folder):
    picture(tmp_path / folder, "d.png")
    lines = "".join(json.dumps(row) + "\n" for row in rows(file_name="d.png"))
    written(tmp_path / folder, "metadata.jsonl", lines)
    found = imported(tmp_path)
    assert found.format == "objects" and len(found.rows) == 24 and found.problems() == []
    assert "boxes are read as x, y, width, height in pixels" in found.remarks


@pytest.mark.parametrize("form", ["lists", "list of objects", "text"])
def test_forms_of_the_column(tmp_path, form):
    picture(tmp_path, "d.png")
    column: Any = objects()
    if form == "list of objects":
        column = [{"bbox": box, "label": label} for box, label in zip(BOXES, ("block", "disk"), strict=True)]
    if form == "text":
        column = json.dumps(column)
    line = json.dumps({"image": "d.png", "objects": column})
    found = imported(written(tmp_path, "a.jsonl", f"{line}\n{line}\n"), boxes="xywh")
    assert found.format == "objects" and found.problems() == []
    assert found.answers == [[30, 40, 150, 120], [200, 100, 280, 180]] * 2


def test_parquet_of_the_hub_has_the_names_of_labels(tmp_path):
    data = picture(tmp_path / "else", "x.png").read_bytes()
    features = Features(
        {
            "image": {"bytes": Value("binary"), "path": Value("string")},
            "width": Value("int64"),
            "height": Value("int64"),
            "objects": {"bbox": List(List(Value("float32"))), "category": List(ClassLabel(names=["block", "disk"]))},
        }
    )
    row = {"image": {"bytes": data, "path": None}, "width": 300, "height": 200, "objects": objects(labels=(0, 1))}
    Dataset.from_list([row, row], features=features).to_parquet(tmp_path / "a.parquet")
    found = imported(tmp_path / "a.parquet", "detection", boxes="xywh")
    assert found.format == "objects" and found.problems() == []
    assert [box["label"] for box in found.answers[0]] == ["block", "disk"]


def test_numbers_without_names_are_refused(tmp_path):
    picture(tmp_path, "d.png")
    line = json.dumps({"image": "d.png", "objects": objects(labels=(0, 1))})
    with pytest.raises(DataError, match="which has no name"):
        imported(written(tmp_path, "a.jsonl", f"{line}\n{line}\n"), boxes="xywh")


def test_a_few_boxes_that_may_be_read_in_two_ways_are_asked_for(tmp_path):
    picture(tmp_path, "d.png")
    line = json.dumps({"image": "d.png", "objects": objects([[30, 40, 120, 80]], ("block",))})
    with pytest.raises(DataError, match="--boxes xywh"):
        imported(written(tmp_path, "a.jsonl", f"{line}\n{line}\n"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "none.png", "objects": objects()}, "a picture that is not there"),
        ({"image": "d.png", "objects": None}, "without one picture and its objects"),
        ({"image": None, "objects": objects()}, "without one picture and its objects"),
        ({"image": ["d.png", "d.png"], "objects": objects()}, "without one picture and its objects"),
        ({"image": "d.png", "objects": objects(labels=("block",))}, "without one picture and its objects"),
        ({"image": "d.png", "objects": objects([[290, 40, 120, 80]], ("far",))}, "a box outside of its picture"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, row, reason):
    picture(tmp_path, "d.png")
    lines = [{"image": "d.png", "objects": objects()}, row]
    found = imported(written(tmp_path, "a.jsonl", "".join(json.dumps(one) + "\n" for one in lines)), boxes="xywh")
    assert len(found.rows) == 2 and reason in " ".join(found.reasons)


@pytest.mark.parametrize("field", ["problem", "question", "messages", "query"])
def test_rows_of_questions_are_no_such_data(tmp_path, field):
    from open_r1.tasks.importers.annotations.object_columns import has_object_column
    from open_r1.tasks.importers.sources import Source

    line = json.dumps({"image": "d.png", "objects": objects(), field: "x"})
    assert not has_object_column(Source(written(tmp_path, "a.jsonl", f"{line}\n{line}\n")))


@pytest.mark.parametrize("name", sorted(ANNOTATED))
def test_the_flag_for_boxes_acts_or_is_refused(tmp_path, name):
    options = ImportOptions(Pictures([], tmp_path), boxes="xywh")
    if name in OPEN_BOXES:
        assert "choose_frame" in inspect.getsource(inspect.getmodule(FOREIGN_FORMATS[name].read))
        refuse_idle_options(name, options)
        return
    with pytest.raises(DataError, match="names what its numbers are; leave --boxes out"):
        refuse_idle_options(name, options)
