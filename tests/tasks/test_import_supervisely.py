"""Supervisely's JSON: figures, bitmaps, trees, and what is no annotation."""

import base64
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.imported import imported, picture, written
from PIL import Image
from pycocotools import mask as coco


def figure(kind: str, points: list | None = None, label: str = "block", **fields: object) -> dict:
    known = {"points": {"exterior": points, "interior": []}} if points is not None else {}
    return {"classTitle": label, "geometryType": kind, **known, **fields}


def bitmap(part: np.ndarray, origin: tuple[int, int], mode: str = "1") -> dict:
    file = io.BytesIO()
    Image.fromarray(part).convert(mode).save(file, "PNG")
    return {"data": base64.b64encode(zlib.compress(file.getvalue())).decode(), "origin": list(origin)}


def project(tmp_path: Path, *figures: object, folder: str = "ds0", size: dict | None = None) -> Path:
    picture(tmp_path / folder / "img", "d.png")
    size = {"width": 300, "height": 200} if size is None else size
    one = {"description": "", "tags": [], "size": size, "objects": list(figures)}
    written(tmp_path, "meta.json", {"classes": [], "tags": []})
    return written(tmp_path / folder / "ann", "d.png.json", one)


SQUARE = [[30, 40], [150, 40], [150, 120], [30, 120]]


@pytest.mark.parametrize(
    ("one", "answer"),
    [
        (figure("rectangle", [[30, 40], [150, 120]]), [30, 40, 150, 120]),
        (figure("rectangle", [[150, 120], [30, 40]]), [30, 40, 150, 120]),
        (figure("polygon", SQUARE), [30, 40, 150, 120]),
        (figure("point", [[30, 40]]), [30, 40]),
        (figure("bitmap", bitmap=bitmap(np.ones((80, 120), bool), (30, 40))), [30, 40, 150, 120]),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_figures(tmp_path, one, answer, whole):
    path = project(tmp_path, one)
    found = imported(tmp_path if whole else path)
    assert found.format == "supervisely" and found.answers == [answer]
    assert not whole or found.problems() == []


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_bitmaps_become_segments(tmp_path, mode):
    project(tmp_path, figure("bitmap", bitmap=bitmap(np.ones((80, 120), bool), (30, 40), mode)))
    found = imported(tmp_path, "seg")
    assert int(coco.area(found.rows[0]["segmentation"])) == 9600 and found.problems() == []


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (figure("line", [[1, 1], [2, 2]]), "a line of 2 points"),
        (figure("polygon", [[1, 1], [2, 2]]), "a polygon of 2 points"),
        (figure("rectangle", [[1, "x"], [2, 2]]), "a figure whose points are no numbers"),
        (figure("rectangle"), "a figure whose points are no numbers"),
        (figure("bitmap"), "a bitmap without the size of its picture"),
        (figure("bitmap", bitmap={"data": "AAAA", "origin": [0, 0]}), "a bitmap that is no packed PNG"),
        (figure("bitmap", bitmap=bitmap(np.ones((80, 120), bool), (250, 40))), "a bitmap that leaves its picture"),
        (figure("bitmap", bitmap=bitmap(np.zeros((8, 8), bool), (0, 0))), "a bitmap without a pixel"),
        ("text", "a figure whose points are no numbers"),
    ],
)
def test_figures_that_cannot_be_used(tmp_path, one, reason):
    project(tmp_path, figure("polygon", SQUARE, "disk"), one)
    found = imported(tmp_path)
    assert len(found.rows) == 1 and found.reasons == {reason: 1}


def test_the_folder_of_a_data_set_is_its_split(tmp_path):
    project(tmp_path, figure("polygon", SQUARE), folder="val")
    assert [item.split for item in imported(tmp_path).items if hasattr(item, "row")] == ["val"]
