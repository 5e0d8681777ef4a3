"""A data file that is no JSONL is one problem, told apart by its content; wrong paths name the right ones."""

import json
from pathlib import Path

import pytest
from PIL import Image

from open_r1.data.jsonl_dataset import scan_records

ROW = {"problem": "Q", "solution": "A"}
KINDS = [
    (json.dumps(ROW, indent=1), "one JSON object over several lines"),
    ("\n".join([json.dumps(ROW, indent=1)] * 3), "3 JSON objects, each over several lines"),
    (json.dumps([ROW, ROW]), "a JSON array"),
    (json.dumps([ROW, ROW], indent=2), "a JSON array"),
    ('{\n "problem": \n', "a JSON object over several lines, which is broken"),
    (json.dumps({"images": [{"id": 1}], "annotations": []}), "one JSON object that holds lists of others"),
    ("problem,solution,image\nQ,A,a.png\n", "a table of text (CSV)"),
    ("problem\tsolution\nQ\tA\n", "a table of text (TSV)"),
    ("- problem: Q\n  solution: A\n", "YAML"),
    ("problem: Q\nsolution: A\n", "YAML"),
    ("<!DOCTYPE html><html>", "a web page"),
    ("<?xml version='1.0'?><annotations/>", "XML"),
    (f"{json.dumps(ROW)},\n{json.dumps(ROW)},\n", "lines that end with commas"),
    ("{'problem': 'Q', 'solution': 'A'}\n", "objects as Python writes them"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, without the data"),
    (b"\x1f\x8b\x08\0", "a gzip file"),
    (b"PK\x03\x04rows", "a zip archive"),
    (b"PK\x03\x04xl/worksheets", "an Excel workbook"),
    (b"%PDF-1.7", "a PDF"),
    (b"\x89PNG\r\n\x1a\n", "a picture"),
    (b"ARROW1\0\0", "an Arrow file"),
    (json.dumps(ROW).encode("utf-16"), "UTF-16"),
    (b"\x01\x02\0\0\0", "a binary file"),
]


def found(folder: Path, images: str | None = None) -> list:
    return list(scan_records(folder / "t.jsonl", images and folder / images, progress=False)[1])


@pytest.mark.parametrize(("content", "kind"), KINDS)
def test_each_kind_of_file_is_one_problem(tmp_path: Path, content: str | bytes, kind: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    (problem,) = found(tmp_path)
    assert (problem.field, problem.got) == ("file", kind) and problem.remedy


def test_a_broken_line_among_others_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"problem": \n' + json.dumps(ROW) + "\n")
    assert [problem.where.rpartition(":")[2] for problem in found(tmp_path)] == ["1"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.JPG", "é.png", "with space.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / "images" / name)
    return tmp_path


def write(folder: Path, *names: str) -> None:
    (folder / "t.jsonl").write_text("".join(json.dumps({**ROW, "image": name}) + "\n" for name in names))


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("sub\\b.JPG", "sub/b.JPG"),
        ("C:\\data\\a.png", "a.png"),
        ("A.PNG", "a.png"),
        ("a.jpg", "a.png"),
        ("sub/b.jpeg", "sub/b.JPG"),
        ("e\u0301.png", "é.png"),
        ("with%20space.png", "with space.png"),
        ("images/a.png", "a.png"),
        ("/elsewhere/images/a.png", "a.png"),
    ],
)
def test_the_file_that_a_wrong_path_means_is_named(pictures: Path, path: str, near: str) -> None:
    write(pictures, path)
    (problem,) = found(pictures, "images")
    assert problem.remedy == f"write {near!r}"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_absolute_paths_below_the_folder_are_read(pictures: Path, form: str) -> None:
    (pictures / "linked").symlink_to(pictures / "images")
    write(pictures, form.format(pictures / "images" / "a.png"), form.format(pictures / "linked" / "a.png"))
    for folder in ("images", "linked"):
        data, problems = scan_records(pictures / "t.jsonl", pictures / folder, progress=False)
        assert not problems and [record.images for record in data] == [("a.png",)] * 2


def test_a_wrong_folder_is_named_first_with_the_right_one(pictures: Path) -> None:
    write(pictures, *["images/a.png"] * 20)
    problems = found(pictures, "images")
    assert "none of 20 pictures lies" in problems[0].got
    assert problems[0].remedy == f"did you mean --image_folders {pictures}?"
