"""grpo.py's datasets: local folders and saved datasets become Records; pictures are spooled when first used."""

import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pictures

from open_r1.data.hub_dataset import load_hub_records
from open_r1.data.images import load_images
from open_r1.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))


def saved(tmp_path, rows: dict, image: object) -> str:
    key = "images" if isinstance(image, List) else "image"
    features = Features({key: image, "problem": Value("string"), "solution": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def picture(colour: str) -> Pictures.Image:
    return Pictures.new("RGB", (40, 30), colour)


def test_one_image_a_row(tmp_path):
    name = saved(tmp_path, {"image": [picture("red"), None], "problem": ["a?", "b?"], "solution": ["1", "2"]}, Image())
    records = load_hub_records(name, None, "train", "math")
    assert [(r.solution, len(r.images), r.accu_reward_method) for r in records] == [("1", 1, "math"), ("2", 0, "math")]
    assert records[0].where == f"{name}[train]:1"
    assert load_images([records[0]])[0][0].getpixel((5, 5)) == (255, 0, 0)


def test_several_images_a_row(tmp_path):
    rows = {"images": [[picture("red"), picture("blue")]], "problem": ["<image> and <image>?"], "solution": ["1"]}
    records = load_hub_records(saved(tmp_path, rows, List(Image())), None, "train", None)
    assert [p.getpixel((5, 5)) for p in load_images([records[0]])[0]] == [(255, 0, 0), (0, 0, 255)]


def test_every_bad_row_is_named_before_training(tmp_path):
    rows = {"image": [picture("red")] * 3, "problem": ["a?", "", "<image><image>?"], "solution": [None, "1", "1"]}
    name = saved(tmp_path, rows, Image())
    with pytest.raises(DataError) as error:
        load_hub_records(name, None, "train", None)
    assert [p.where.rsplit(":")[-1] for p in error.value.problems] == ["1", "2", "3"]


def test_missing_columns_and_splits_are_named(tmp_path):
    Dataset.from_dict({"en_question": ["a"], "gt": ["b"]}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"got en_question, gt, .*--columns problem=en_question,solution=gt$"):
        load_hub_records(str(tmp_path / "d"), None, "train", None)
    with pytest.raises(DataError, match=r"split: got 'test', expected one of train"):
        load_hub_records(str(tmp_path / "d"), None, "test", None)


# ----------------------------------------------------------------------------------------------------- named files


def naming(tmp_path, *paths: str | None, several: bool = False) -> str:
    """A saved dataset whose rows name files, as a dataset of somebody else's may."""
    named = {"bytes": Value("binary"), "path": Value("string")}  # as an image column is stored
    files = [{"path": path, "bytes": None} for path in paths]
    rows = {"problem": ["a?"] * len(paths), "solution": ["1"] * len(paths)}
    if several:
        return saved(tmp_path, rows | {"images": [[file] for file in files]}, List(named))
    return saved(tmp_path, rows | {"image": files}, named)


@pytest.mark.parametrize("several", [False, True])
def test_rows_name_files_of_their_own_dataset(tmp_path, several):
    folder = tmp_path / "saved" / "pictures"
    folder.mkdir(parents=True)
    picture("red").save(folder / "a.png")
    name = naming(tmp_path, str(folder / "a.png"), several=several)
    (record,) = load_hub_records(name, None, "train", None)
    assert load_images([record])[0][0].getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("several", [False, True])
def test_rows_name_no_other_file_of_this_machine(tmp_path, several):
    (tmp_path / "saved").mkdir()
    picture("red").save(tmp_path / "secret.png")
    (tmp_path / "saved" / "link.png").symlink_to(tmp_path / "secret.png")
    bad = [tmp_path / "secret.png", tmp_path / "saved" / ".." / "secret.png", tmp_path / "saved" / "link.png"]
    bad += ["/etc/passwd", "http://example.com/a.png", "file:///etc/passwd", "secret.png", "/dev/zero"]
    name = naming(tmp_path, *map(str, bad), several=several)
    with pytest.raises(DataError) as error:
        load_hub_records(name, None, "train", None)
    assert [p.where.rsplit(":")[-1] for p in error.value.problems] == [str(i + 1) for i in range(len(bad))]
    assert {p.field for p in error.value.problems} <= {"image", "images"}


def test_a_column_of_paths_as_text_is_held_to_the_same(tmp_path):
    rows = {"image": ["/etc/passwd", "http://example.com/a.png"], "problem": ["a?", "b?"], "solution": ["1", "2"]}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="a picture within the table, or a file below") as error:
        load_hub_records(str(tmp_path / "saved"), None, "train", None)
    assert len(error.value.problems) == 2
