"""COCO as its archives unpack: annotations/ beside one folder of pictures a split, files of several kinds in one."""

import json

import pytest
from PIL import Image

from open_r1.convert import main

OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
KINDS = {
    "instances": [OBJECT],
    "person_keypoints": [OBJECT | {"keypoints": [9, 9, 2], "num_keypoints": 1}],
    "captions": [{"id": 1, "image_id": 1, "caption": "A block."}],
    "panoptic": [{"image_id": 1, "file_name": "a.png", "segments_info": []}],
    "image_info": [],
}


def unpacked(root, *files, pictures=("train2017", "val2017"), annotations="annotations"):
    for number, folder in enumerate(pictures):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 40)).save(root / folder / "a.png")
    (root / annotations).mkdir(parents=True, exist_ok=True)
    for name in files:
        width = 41 if "val" in name else 40
        kind = next(kind for kind in KINDS if name.startswith(kind))
        images = [{"id": 1, "file_name": "a.png", "width": width, "height": 40}]
        document = {"images": images, "annotations": KINDS[kind], "categories": [{"id": 1, "name": "block"}]}
        (root / annotations / f"{name}.json").write_text(json.dumps(document))
    return root


def converted(tmp_path, *arguments):
    status = main([*map(str, arguments), "--out", str(tmp_path / "o")])
    files = sorted((tmp_path / "o").glob("*.jsonl"))
    return status, {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def pictures_of(tmp_path, rows):
    where = json.loads((tmp_path / "o/convert.json").read_text())["image_folder"]
    return {split: [f"{where}/{row['image']}"[-15:] for row in of_split] for split, of_split in rows.items()}


@pytest.mark.parametrize(
    ("pictures", "given"),
    [
        (("train2017",), "annotations/instances_train2017.json"),
        (("train2017", "val2017"), "annotations/instances_train2017.json"),
        (("train2017", "val2017"), "annotations"),
        (("train", "val"), "annotations/instances_train2017.json"),
        (("images/train2017", "images/val2017"), "annotations/instances_train2017.json"),
        (("train_images", "val_images"), "annotations/instances_train2017.json"),
        (("images",), "annotations/instances_train2017.json"),
        (("train2017", "train2014"), "annotations/instances_train2017.json"),
    ],
)
def test_the_pictures_of_a_file_lie_in_the_folder_of_its_split(tmp_path, pictures, given):
    root = unpacked(tmp_path / "coco", "instances_train2017", pictures=pictures)
    status, rows = converted(tmp_path, root / given)
    assert status == 0
    assert pictures_of(tmp_path, rows) == {"train": [f"{root}/{pictures[0]}/a.png"[-15:]]}


def test_pictures_of_one_name_are_told_apart_by_the_split(tmp_path):
    root = unpacked(tmp_path / "coco", "instances_train2017", "instances_val2017")
    status, rows = converted(tmp_path, root)
    assert status == 0
    assert {split: of[0]["image"] for split, of in rows.items()} == {
        "train": "train2017/a.png",
        "val": "val2017/a.png",
    }


def test_the_splits_are_told_apart_below_the_folder_of_the_flag(tmp_path):
    root = unpacked(tmp_path / "coco", "instances_train2017", annotations="../elsewhere")
    status, rows = converted(tmp_path, tmp_path / "elsewhere", "--image_folder", root)
    assert status == 0 and pictures_of(tmp_path, rows) == {"train": ["train2017/a.png"]}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "instances"])
@pytest.mark.parametrize("as_files", [False, True])
def test_files_of_another_kind_beside_instances_are_passed_over_and_said(tmp_path, capsys, kind, as_files):
    root = unpacked(tmp_path / "coco", "instances_train2017", f"{kind}_train2017")
    given = sorted((root / "annotations").glob("*.json")) if as_files else [root]
    status, rows = converted(tmp_path, *given)
    assert status == 0 and len(rows["train"]) == 1
    assert "1 of them, are passed over" in capsys.readouterr().out


def test_key_points_alone_are_read(tmp_path):
    root = unpacked(tmp_path / "coco", "person_keypoints_train2017")
    assert len(converted(tmp_path, root)[1]["train"]) == 1


@pytest.mark.parametrize("kind", ["captions", "panoptic", "image_info"])
def test_without_instances_the_kind_is_refused(tmp_path, capsys, kind):
    root = unpacked(tmp_path / "coco", f"{kind}_train2017")
    assert converted(tmp_path, root)[0] == 1
    assert "give an instances_*.json file" in capsys.readouterr().err
