"""COCO instances as rows: boxes, names, crowds, what the file lacks, and files that only look like instances."""

import numpy as np
import pytest
from helpers.imported import imported, picture, written
from pycocotools import mask as coco

from open_r1.data.geometry.masks import encode_rle
from open_r1.errors import DataError
from open_r1.tasks.importers.annotations.coco_instances import read_coco
from open_r1.tasks.importers.items import ImportOptions
from open_r1.tasks.importers.pictures import Pictures, search_folders
from open_r1.tasks.importers.sources import Source

CATEGORIES = [{"id": 1, "name": "block"}, {"id": 2, "name": "disk"}, {"id": 3, "name": "star"}]
SQUARE = [[30, 40, 150, 40, 150, 120, 30, 120]]


def note(id: int, box: list[float] | None, category: int = 1, image: int = 1, **fields: object) -> dict:
    known = {"bbox": box} if box is not None else {}
    return {"id": id, "image_id": image, "category_id": category, "iscrowd": 0, "area": 1, **known, **fields}


def instances(tmp_path, notes: list, images: list | None = None, categories: list = CATEGORIES, name: str = "a.json"):
    picture(tmp_path, "d.png")
    images = [{"id": 1, "file_name": "d.png", "width": 300, "height": 200}] if images is None else images
    return written(tmp_path, name, {"images": images, "annotations": notes, "categories": categories})


TWO = [note(1, [30, 40, 120, 80]), note(2, [200, 100, 80, 80], 2)]


def test_rec_asks_for_each_object_that_one_name_means(tmp_path):
    found = imported(instances(tmp_path, TWO))
    assert found.format == "coco" and found.problems() == []
    assert found.answers == [[30, 40, 150, 120], [200, 100, 280, 180]]
    assert [question[-10:] for question in found.questions] == ["the block.", " the disk."]
    assert "task rec" in found.remarks


def test_objects_of_one_category_are_told_apart_by_their_place_or_left_out(tmp_path):
    notes = [note(1, [0, 0, 50, 50]), note(2, [100, 0, 50, 50]), note(3, [200, 0, 50, 50], 2)]
    notes += [note(4, [201, 50, 50, 50], 2)]
    found = imported(instances(tmp_path, notes))
    assert [question.rpartition(": ")[2] for question in found.questions] == [
        "the first block from the left.",
        "the second block from the left.",
    ]
    assert found.reasons == {"an object that no short expression means alone": 2}


def test_detection_counts_empty_pictures_and_asks_for_all_labels_of_a_small_set(tmp_path):
    picture(tmp_path, "e.png")
    images = [{"id": i, "file_name": n, "width": 300, "height": 200} for i, n in ((1, "d.png"), (2, "e.png"))]
    found = imported(instances(tmp_path, TWO, images), "detection")
    assert found.problems() == [] and "pictures without an object: 1" in found.remarks
    assert found.answers[1] is None or found.answers[1] == "None"
    assert found.answers[0] == [
        {"bbox_2d": [30, 40, 150, 120], "label": "block"},
        {"bbox_2d": [200, 100, 280, 180], "label": "disk"},
    ]
    assert all("every block and every disk" in question for question in found.questions)


def test_counting_asks_for_present_and_absent_labels(tmp_path):
    picture(tmp_path, "e.png")
    images = [{"id": i, "file_name": n, "width": 300, "height": 200} for i, n in ((1, "d.png"), (2, "e.png"))]
    notes = [*TWO, note(3, [0, 0, 9, 9]), note(4, [0, 0, 20, 20], 3, 2)]
    found = imported(instances(tmp_path, notes, images), "counting")
    said = {(q.split('"')[1], a) for q, a in zip(found.questions, found.answers, strict=True)}
    assert {("block", 2), ("disk", 1), ("star", 0), ("star", 1)} <= said and len(found.rows) == 5
    assert found.problems() == []


@pytest.mark.parametrize("task", ["detection", "counting"])
def test_a_label_with_a_crowd_is_not_asked_for(tmp_path, task):
    notes = [*TWO, note(3, [0, 0, 100, 100], 2, iscrowd=1)]
    found = imported(instances(tmp_path, notes), task)
    assert found.rows and not any("disk" in question for question in found.questions)


@pytest.mark.parametrize("task", ["detection", "counting"])
def test_a_picture_of_crowds_alone_is_left_out(tmp_path, task):
    found = imported(instances(tmp_path, [note(3, [0, 0, 100, 100], 2, iscrowd=1)]), task)
    assert not found.rows and sum(found.reasons.values()) == 1


def mask_of(size: tuple[int, int] = (200, 300)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[40:120, 30:150] = True
    return mask


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, flat.size]).tolist()}


@pytest.mark.parametrize(
    "segmentation",
    [SQUARE, SQUARE[0], encode_rle(mask_of()), uncompressed(mask_of())],
    ids=["polygon", "flat polygon", "compressed", "uncompressed"],
)
def test_seg_reads_polygons_and_run_lengths(tmp_path, segmentation):
    found = imported(instances(tmp_path, [note(1, [30, 40, 120, 80], segmentation=segmentation)]), "seg")
    assert found.problems() == [] and len(found.rows) == 1
    assert coco.area(found.rows[0]["segmentation"]) == 120 * 80
    assert found.rows[0]["ceiling"] > 0.8 and "<image>" not in found.questions[0]


@pytest.mark.parametrize(
    ("segmentation", "box", "answer"),
    [
        (SQUARE, None, [30, 40, 150, 120]),
        (SQUARE, [], [30, 40, 150, 120]),
        (encode_rle(mask_of()), None, [30, 40, 150, 120]),
    ],
)
def test_an_annotation_without_a_box_has_that_of_its_outline(tmp_path, segmentation, box, answer):
    one = {**note(1, None), "segmentation": segmentation} | ({"bbox": box} if box is not None else {})
    found = imported(instances(tmp_path, [one]))
    assert found.answers == [answer] and found.problems() == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (note(9, [1, 1, 9, 9], 77), "category that the file lacks"),
        (note(9, [1, 1, 9, 9], 1, 77), "image that the file lacks"),
        (note(9, None), "without box and outline"),
        (note(9, None, segmentation=[]), "without box and outline"),
        (note(9, [1, 2, 3]), "without box and outline"),
        (note(9, ["a", 2, 3, 4]), "without box and outline"),
        (note(9, [1, 1, 0, 9]), "outside of its picture, or without an area"),
        (note(9, None, segmentation={"size": [9, 9], "counts": "0120"}), "does not belong to a picture"),
        (note(9, None, segmentation={"size": [200, 300], "counts": [1, 2]}), "does not belong to a picture"),
        ("text", "annotation that is no object"),
        (None, "annotation that is no object"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path, wrong, reason):
    found = imported(instances(tmp_path, [*TWO, wrong]))
    assert len(found.rows) == 2 and [reason in said for said in found.reasons] == [True]


def test_one_box_of_many_outside_its_picture_is_left_out(tmp_path):
    notes = [note(i, [10 * i, 20, 50, 60 + i]) for i in range(12)] + [note(99, [250, 20, 200, 60], 2)]
    found = imported(instances(tmp_path, notes))
    assert found.reasons["a box outside of its picture, or without an area"] == 1


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([{"id": 1}], "without id or file_name"),
        ([{"id": 1, "file_name": ""}], "without id or file_name"),
        ([{"file_name": "d.png"}], "without id or file_name"),
        ([{"id": 1, "file_name": "none.png"}], "a picture that is not there"),
        (["d.png"], "without id or file_name"),
        ([{"id": 1, "file_name": "d.png", "width": 200, "height": 300}], "another shape than the source states"),
        ([{"id": 1, "file_name": "d.png", "width": 400, "height": 200}], "another shape than the source states"),
    ],
)
def test_a_picture_that_cannot_be_used_is_left_out(tmp_path, images, reason):
    found = imported(instances(tmp_path, TWO[:1], images))
    assert not found.rows and any(reason in said for said in found.reasons)


def test_two_images_of_one_id(tmp_path):
    images = [{"id": 1, "file_name": "d.png", "width": 300, "height": 200}] * 2
    found = imported(instances(tmp_path, TWO, images))
    assert len(found.rows) == 2 and found.reasons == {"an image with the id of another one": 1}


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": "300"}])
def test_a_size_that_is_not_stated_is_that_of_the_picture(tmp_path, size):
    found = imported(instances(tmp_path, TWO, [{"id": 1, "file_name": "d.png", **size}]))
    assert found.rows[0]["image_wh"] == [300, 200] and found.problems() == []


def test_a_picture_stored_in_another_size_of_the_same_shape_scales_its_objects(tmp_path):
    found = imported(instances(tmp_path, TWO, [{"id": 1, "file_name": "d.png", "width": 600, "height": 400}]))
    assert found.answers[0] == [15, 20, 75, 60] and "objects scaled" in found.remarks and ": 2" in found.remarks


@pytest.mark.parametrize("ids", [(1, 1), ("1", 1), (1, "1"), ("x", "x"), (0, 0)])
def test_ids_may_be_text_or_numbers(tmp_path, ids):
    images = [{"id": ids[0], "file_name": "d.png", "width": 300, "height": 200}]
    assert len(imported(instances(tmp_path, [note(1, [30, 40, 120, 80], image=ids[1])], images)).rows) == 1


def test_labels_of_one_word_are_one_label(tmp_path):
    categories = [{"id": 1, "name": "Dog"}, {"id": 2, "name": "dog "}]
    found = imported(instances(tmp_path, TWO, categories=categories), "counting")
    assert found.answers == [2] and 'kind "Dog"' in found.questions[0]


@pytest.mark.parametrize(
    ("notes", "categories", "words"),
    [
        ([{"id": 1, "image_id": 1, "caption": "a dog"}], None, "captions"),
        ([{"image_id": 1, "segments_info": [], "file_name": "a.png"}], CATEGORIES, "panoptic"),
        ([], CATEGORIES, "without annotations"),
        (TWO, [], "without categories"),
    ],
)
def test_files_that_only_look_like_instances_are_told_apart(tmp_path, notes, categories, words):
    with pytest.raises(DataError, match=words):
        imported(instances(tmp_path, notes, categories=categories or []))


def test_key_points_are_said_to_be_unused(tmp_path):
    found = imported(instances(tmp_path, [{**TWO[0], "keypoints": [1, 2, 2], "num_keypoints": 1}]))
    assert len(found.rows) == 1 and "key points are not used" in found.remarks


@pytest.mark.parametrize(
    ("name", "split"), [("instances_train2017.json", "train"), ("val.json", "val"), ("a.json", "")]
)
def test_the_split_is_that_of_the_name(tmp_path, name, split):
    found = imported(instances(tmp_path, TWO, name=name))
    assert {item.split for item in found.items if hasattr(item, "row")} == {split}


@pytest.mark.parametrize("label", ["<image> cat", "a <image>"])
def test_a_label_with_an_image_tag_is_left_out(tmp_path, label):
    found = imported(instances(tmp_path, TWO[:1], categories=[{"id": 1, "name": label}]))
    assert not found.rows and "holds <image>" in " ".join(found.reasons)


def test_many_labels_ask_for_those_present_and_a_few_others_always_the_same(tmp_path):
    categories = [{"id": i, "name": f"kind{i}"} for i in range(30)]
    images = [{"id": id, "file_name": "d.png", "width": 300, "height": 200} for id in (1, 2)]
    notes = [note(i, [10 * i, 5, 9, 9], i, 2) for i in range(28)] + [note(50, [30, 40, 50, 60], 29)]
    path = instances(tmp_path, notes, images, categories)
    found, again = imported(path, "detection"), imported(path, "detection")
    assert found.rows[0]["labels"] == again.rows[0]["labels"] and len(found.rows[0]["labels"]) == 4
    assert "kind29" in found.rows[0]["labels"] and len(found.answers[0]) == 1


def test_pictures_of_one_name_are_those_beside_their_file(tmp_path):
    for split, size in (("train", (300, 200)), ("val", (600, 400))):
        picture(tmp_path / split, "d.png", size)
        notes = {"images": [{"id": 1, "file_name": "d.png"}], "annotations": TWO, "categories": CATEGORIES}
        written(tmp_path / split, "a.json", notes)
    files = Pictures(
        search_folders([tmp_path / "train" / "a.json", tmp_path / "val" / "a.json"], None), tmp_path / "x"
    )
    for split, side in (("train", 300), ("val", 600)):
        items = list(read_coco(Source(tmp_path / split / "a.json"), ImportOptions(files)))
        assert [files.size_wh(item.image)[0] for item in items] == [side]


def test_underscores_of_labels_are_spaces_in_a_sentence(tmp_path):
    found = imported(instances(tmp_path, TWO[:1], categories=[{"id": 1, "name": "traffic_light"}]))
    assert "the traffic light." in found.questions[0] and found.rows[0]["category"] == "traffic_light"


@pytest.mark.parametrize("place", ["", "train", "annotations"])
def test_a_folder_with_instances_is_read(tmp_path, place):
    picture(tmp_path / place, "d.png")
    one = {"images": [{"id": 1, "file_name": "d.png"}], "annotations": TWO, "categories": CATEGORIES}
    written(tmp_path / place, "_annotations.coco.json", one)
    written(tmp_path, "other.json", {"info": 1})
    found = imported(tmp_path)
    assert found.format == "coco" and len(found.rows) == 2


def test_a_file_of_a_folder_that_cannot_be_read_is_counted(tmp_path):
    instances(tmp_path, TWO)
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [{"bbox": [NaN, 1, 2, 3]}]}')
    found = imported(tmp_path)
    assert len(found.answers) == 2 and any("cannot be read: NaN in line 1" in reason for reason in found.reasons)
