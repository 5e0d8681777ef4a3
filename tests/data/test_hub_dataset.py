"""grpo.py's datasets: local folders and saved datasets become Records; pictures are spooled when first used."""

import json

import httpx
import pytest
from datasets import Dataset, Features, Image, List, Value
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image as Pictures

from open_r1.data.field_names import renaming_of
from open_r1.data.hub_dataset import load_hub_records
from open_r1.data.images import load_images
from open_r1.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


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


# ---------------------------------------------------------------------------------------------- what a name stands for


def lines(path, *rows: dict) -> str:
    path.write_text("".join(json.dumps({"problem": "a?", "solution": "1"} | row) + "\n" for row in rows))
    return str(path)


def test_a_file_is_read_with_the_pictures_of_its_folder(tmp_path):
    picture("red").save(tmp_path / "a.png")
    name = lines(tmp_path / "x.jsonl", {"image": "a.png"})
    Dataset.from_list([{"image": "a.png", "q": "a?", "solution": "1"}]).to_parquet(str(tmp_path / "x.parquet"))
    renaming = renaming_of("problem=q", "--columns")
    for records in (
        load_hub_records(name, None, "train", "math"),
        load_hub_records(str(tmp_path / "x.parquet"), None, "train", "math", renaming),
    ):
        assert load_images([records[0]])[0][0].getpixel((5, 5)) == (255, 0, 0)
        assert records[0].where in (f"{name}:1", f"{tmp_path / 'x.parquet'}:1")
        assert records[0].accu_reward_method == "math"
    with pytest.raises(UsageError, match="all one split"):
        load_hub_records(name, None, "test", None)
    with pytest.raises(UsageError, match="--dataset_config: got 'main'"):
        load_hub_records(name, "main", "train", None)


def test_folders_of_files_have_splits(tmp_path):
    (tmp_path / "d").mkdir()
    lines(tmp_path / "d" / "train.jsonl", {}, {"problem": "b?"})
    lines(tmp_path / "d" / "test.jsonl", {"problem": "c?"})
    assert len(load_hub_records(str(tmp_path / "d"), None, "train", None)) == 2
    assert load_hub_records(str(tmp_path / "d"), None, "test", None)[0].turns[0].text == "c?"


def test_a_folder_with_rows_of_two_kinds_is_refused(tmp_path):
    Dataset.from_dict({"problem": ["1+1?"], "solution": ["2"]}).to_parquet(tmp_path / "train.parquet")
    (tmp_path / "more.jsonl").write_text('{"problem": "1+2?", "solution": "3"}\n')
    with pytest.raises(UsageError, match=r"rows of 2 kinds \(more.jsonl, train.parquet\), of which `datasets` would"):
        load_hub_records(str(tmp_path), None, "train", None)


def test_a_folder_of_pictures_with_metadata(tmp_path):
    (tmp_path / "d" / "train").mkdir(parents=True)
    picture("red").save(tmp_path / "d" / "train" / "a.png")
    (tmp_path / "d" / "train" / "metadata.csv").write_text("file_name,problem,solution\na.png,a?,1\n")
    (record,) = load_hub_records(str(tmp_path / "d"), None, "train", None)
    assert record.images == ("train/a.png",) and load_images([record])[0][0].getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "there is no folder /no/such either"),
        ("./sets/trian", "did you mean 'sets/train'"),
        ("sets/trian", "did you mean 'sets/train'"),
        ("sets/train/x.parqet", "did you mean 'sets/train/x.parquet'"),
        ("nothing.jsonl", "expected a file or folder that exists"),
        ("a/b/c", "there is no folder a/b"),
        ("some/name", "cannot load"),
        ("sets/empty", "doesn't contain any data files"),
        ("sets/mixed", "column names don't match"),
    ],
)
def test_a_name_of_nothing_is_refused_at_once(tmp_path, monkeypatch, name, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    for folder in ("train", "empty", "mixed"):
        (tmp_path / "sets" / folder).mkdir(parents=True)
    lines(tmp_path / "sets" / "train" / "x.parquet")
    lines(tmp_path / "sets" / "mixed" / "a.jsonl", {})
    lines(tmp_path / "sets" / "mixed" / "b.jsonl", {"other": 1})
    with pytest.raises(UsageError, match=words):
        load_hub_records(name, None, "train", None)


NOT_FOUND = httpx.Response(404, request=httpx.Request("GET", "x:"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("no route"), "cannot be reached .*HF_HUB_OFFLINE=1"),
        (httpx.ConnectTimeout("slow"), "cannot be reached"),
        (
            RepositoryNotFoundError("404", response=httpx.Response(404, request=httpx.Request("GET", "x:"))),
            "has no such",
        ),
    ],
)
def test_a_hub_that_cannot_be_asked_is_told_in_seconds(monkeypatch, error, words):
    def ask(*_, timeout, **__):
        assert timeout <= 10
        raise error

    monkeypatch.setattr("open_r1.data.hub_dataset.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("open_r1.data.hub_dataset.HfApi.dataset_info", ask)
    with pytest.raises(UsageError, match=words):
        load_hub_records("some/name", None, "train", None)


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
