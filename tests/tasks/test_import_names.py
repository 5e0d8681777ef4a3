"""A picture's name means a file where their folders agree; names of other machines are looked up and counted."""

import json

import pytest
from PIL import Image

from open_r1.convert import main
from open_r1.tasks.importers.pictures import Pictures
from open_r1.tasks.importers.sources import Unusable


def pictures_with(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return Pictures([folder, folder / "images"], folder / "out")


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("scene2/rgb.png", "scene1/rgb.png"),
        ("scene2/rgb.png", "scene1\\rgb.png"),
        ("rgb.png", "scene1/rgb.png"),
        ("images/train/1/image.png", "3/image.png"),
        ("images/train/1/image.png", "train/3/image.png"),
        ("images/a.png", "train2017/a.png"),
    ],
)
def test_a_name_in_another_folder_is_no_picture(tmp_path, there, name):
    with pytest.raises(Unusable, match="a picture that is not there"):
        pictures_with(tmp_path, there).find(name)


@pytest.mark.parametrize(
    ("there", "name", "noted"),
    [
        ("scene1/rgb.png", "scene1/rgb.png", 0),
        ("deep/scene1/rgb.png", "scene1/rgb.png", 0),
        ("deep/scene1/rgb.png", "set/scene1\\rgb.png", 0),
        ("images/a.png", "images/a.png", 0),
        ("deep/er/a.png", "a.png", 0),
        ("deep/er/a.png", "/home/me/er/a.png", 0),
        ("deep/er/a.png", "/home/me/a.png", 1),
        ("deep/er/a.png", "C:\\me\\a.png", 1),
        ("images/a.png", "https://host/b/a.png", 1),
        ("a.png", "upload/3/0f6142fb-a.png", 1),
    ],
)
def test_a_name_that_agrees_or_comes_from_elsewhere_is_found(tmp_path, there, name, noted):
    pictures = pictures_with(tmp_path, there)
    assert pictures.find(name) == (tmp_path / there).resolve() and len(pictures.by_name_alone) == noted


def test_the_folder_chooses_among_files_of_one_name(tmp_path):
    pictures = pictures_with(tmp_path, "x/train2017/a.png", "x/val2017/a.png")
    assert pictures.find("/data/coco/val2017/a.png").parent.name == "val2017"
    with pytest.raises(Unusable, match="several files"):
        pictures.find("a.png")


def test_one_file_is_not_two_names_of_another_machine(tmp_path):
    pictures = pictures_with(tmp_path, "x/rgb.png")
    pictures.find("/data/scene1/rgb.png")
    with pytest.raises(Unusable, match="others mean it too"):
        pictures.find("/data/scene2/rgb.png")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "", "an empty file"),
        ("a.json", " \n\n", "an empty file"),
        ("a.json", "[]", "holds only []"),
        ("a.jsonl", "null", "holds only null"),
        ("a.json", "<!DOCTYPE html><html></html>", "a web page"),
        ("a.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        ("a.parquet", "text", "no parquet"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
    ],
)
def test_a_file_without_data_is_named(tmp_path, capsys, name, content, said):
    (tmp_path / name).write_text(content)
    assert main([str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "names", "found"),
    [
        ("x.jpg", ["train2014/x.jpg"], 1),
        ("x.jpg", ["coco\\train2014\\x.jpg"], 1),
        ("x.jpg", ["train2014/x.jpg", "x.jpg"], 2),
        ("deep/x.jpg", ["train2014/x.jpg"], 0),
        ("x.jpg", ["scene1/x.jpg", "scene2/x.jpg"], 1),
    ],
)
def test_in_a_folder_that_the_user_names_the_file_name_suffices(tmp_path, there, names, found):
    pictures_with(tmp_path, there)
    pictures = Pictures([tmp_path], tmp_path / "out", chosen=True)
    assert sum(map(pictures.has, names)) == found
    assert bool(pictures.contested) == (len(names) > found and there == "x.jpg")


@pytest.mark.parametrize(
    ("names", "flag", "status", "said"),
    [
        (["train2014/a.png"], False, 1, "--image_folder DIR takes the files"),
        (["train2014/a.png"], True, 0, "1 pictures are found by their names alone"),
        (["one/a.png", "two/a.png"], True, 1, "left out: 2 x a picture that is not there"),
    ],
)
def test_a_picture_in_another_folder_is_found_with_the_flag_that_the_message_names(
    tmp_path, capsys, names, flag, status, said
):
    pictures_with(tmp_path / "images", "a.png")
    rows = [{"id": i, "image": name, "question": "Which?", "answer": f"red {i}"} for i, name in enumerate(names)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = ["--image_folder", str(tmp_path / "images")] if flag else []
    assert main([str(tmp_path / "q.jsonl"), "--out", str(tmp_path / "o"), *folder]) == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("names", [("1/a.png", "3/a.png"), ("3/a.png", "1/a.png"), ("set/1/a.png", "set/3/a.png")])
def test_a_file_that_is_named_with_its_folder_is_no_other_picture(tmp_path, names):
    pictures_with(tmp_path / "1", "a.png")
    pictures = Pictures([tmp_path / "1"], tmp_path / "out", chosen=True)
    assert dict(zip(names, map(pictures.has, names), strict=True))[next(name for name in names if "1/" in name)]
    assert pictures.contested == {(tmp_path / "1/a.png").resolve()}
