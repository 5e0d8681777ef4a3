"""local_scripts/convert_jsonl.py: other people's rows become our lines, or are named."""

import json

import pytest
from helpers.repository import run_script

from open_r1.data.jsonl_dataset import load_records


def convert(tmp_path, text: str, *flags: str, check: bool = True):
    (tmp_path / "in.json").write_text(text, encoding="utf-8")
    return run_script(
        "local_scripts/convert_jsonl.py", tmp_path / "in.json", "--out", tmp_path / "out.jsonl", *flags, check=check
    )


@pytest.mark.parametrize("form", ["array", "lines"])
def test_rows_become_records(tmp_path, form):
    rows = [
        {"question": "How many?\n<image1>", "answer": 6, "image": "4.jpg", "level": 1},
        {"question": "1+1", "answer": "2"},
    ]
    text = json.dumps(rows) if form == "array" else "\n".join(map(json.dumps, rows))
    convert(tmp_path, text, "--question", "question", "--answer", "answer", "--image_prefix", "images")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "4.jpg").write_bytes(b"")
    first, second = load_records(str(tmp_path / "out.jsonl"), str(tmp_path))
    assert (first.images, first.solution, dict(first.extra)) == (("images/4.jpg",), "6", {"level": 1})
    assert first.turns[0].text.endswith("<image>") and second.images == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"problem": "a", "solution": null}', "in.json:1: solution: got nothing, expected an answer"),
        (
            '{"problem": "a", "answer": "b"}',
            "in.json:1: solution: got no such field, expected one of: problem, answer",
        ),
        ('{"problem": "a", "solution": 1}\n{"problem', "in.json:2: got"),
    ],
)
def test_rows_that_cannot_be_converted_are_named(tmp_path, text, said):
    done = convert(tmp_path, text, check=False)
    assert done.returncode == 1 and said in done.stderr


def test_unanswered_rows_are_counted(tmp_path):
    rows = '{"problem": "a", "solution": null}\n{"problem": "b", "solution": 1}'
    assert "1 without an answer left out" in convert(tmp_path, rows, "--skip_unanswered").stdout
