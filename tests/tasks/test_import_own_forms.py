"""Data sets in their own files: TextVQA, numbers that are no JSON, ms-swift's names of objects, boxes of Qwen-VL."""

import json

import pytest
from PIL import Image

from open_r1.convert import main
from open_r1.tasks.importers.questions.swift_objects import fill_objects


@pytest.fixture
def convert(tmp_path, capsys):
    def run(name, text, *flags, picture="images/a.png", wh=(320, 240)):
        (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", wh).save(tmp_path / picture)
        (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        status = main([str(tmp_path / name), "--out", str(tmp_path / "o"), *flags])
        files = sorted((tmp_path / "o").glob("*.jsonl"))
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        said = capsys.readouterr()
        return status, rows, said.out + said.err

    return run


@pytest.mark.parametrize("identity", ["0054c91397f2fe05", "0054139712345678"])
@pytest.mark.parametrize("urls", [("flickr_original_url", "flickr_300k_url"), ("flickr_original_url",), ()])
def test_a_picture_is_named_by_its_id_beside_addresses_on_the_web(convert, identity, urls):
    row = {"question": "Which brand?", "image_id": identity, "answers": ["dakota"] * 9 + ["x"], "question_id": 1}
    document = {"data": [row | {name: f"https://host/{name}.jpg" for name in urls}]}
    status, rows, said = convert("TextVQA_train.json", document, picture=f"train_images/{identity}.jpg")
    assert status == 0 and rows[0]["image"] == f"{identity}.jpg" and rows[0]["accu_reward_method"] == "anls", said


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '[{{"a": "NaN"}},\n {{"b": {0}}}]', 'got {0} in line 2, column 8, after {{"b":, which is no JSON'),
        (
            "a.jsonl",
            '{{"problem": "n?", "answer": "1"}}\n{{"problem": "m?", "answer": {0}}}\n',
            "{0}, which is no JSON",
        ),
    ],
)
def test_a_number_that_json_lacks_is_named_with_its_place(convert, constant, name, text, said):
    assert said.format(constant) in convert(name, text.format(constant))[2]


@pytest.mark.parametrize("cell", ["NaN", "nan", "<NA>", ""])
def test_an_empty_cell_of_a_table_is_no_gold(convert, cell):
    _, rows, said = convert("a.csv", f"image,problem,answer\na.png,How many?,3\na.png,Which?,{cell}\n")
    assert len(rows) == 1 and "a row without an answer" in said


@pytest.mark.parametrize(
    ("question", "answer", "names", "count", "expected"),
    [
        ("<ref-object>", "<bbox>", ["cat"], 1, ["cat"]),
        ("<ref-object> and <ref-object>", "<bbox><bbox>", ["cat", "dog"], 2, ["cat", "dog"]),
        ("all <ref-object>", "<bbox><bbox>", ["cat"], 2, ["cat", "cat"]),
        ("all", "<ref-object><bbox> and <ref-object><bbox>", ["cat", "dog"], 2, ["cat", "dog"]),
        ("all", "<bbox>", [], 1, []),
    ],
)
def test_boxes_take_the_names_of_the_question(question, answer, names, count, expected):
    objects = {"ref": names, "bbox": [[1, 2, 3, 4]] * count}
    turns, _ = fill_objects([("human", question), ("gpt", answer)], objects)
    assert [part.split("</ref>")[0] for part in turns[1][1].split("<ref>")[1:]] == expected


@pytest.mark.parametrize(
    ("kind", "box"),
    [("norm1000", [500, 250, 1000, 750]), ("norm1", [0.5, 0.25, 1, 0.75]), ("real", [160, 60, 320, 180])],
)
def test_a_stated_form_of_boxes_is_obeyed_without_a_note(convert, kind, box):
    turns = [{"role": "user", "content": "<image><ref-object>"}, {"role": "assistant", "content": "<bbox>"}]
    row = {"messages": turns, "images": ["images/a.png"], "objects": {"ref": ["x"], "bbox": [box], "bbox_type": kind}}
    _, rows, said = convert("a.jsonl", json.dumps(row) + "\n" + json.dumps(row) + "\n")
    assert json.loads(rows[0]["conversations"][-1]["value"]) == [160, 60, 320, 180] and "--boxes" not in said


@pytest.mark.parametrize(
    ("flags", "wh", "box", "gold", "noted"),
    [
        ([], (1600, 1200), [62, 125, 375, 458], [62, 125, 375, 458], "on 1600x1200 would be [99.2, 150, 600, 549.6]"),
        (["--boxes", "per_mille"], (1600, 1200), [62, 125, 375, 458], [99.2, 150, 600, 549.6], ""),
        (["--boxes", "pixels"], (1600, 1200), [62, 125, 375, 458], [62, 125, 375, 458], ""),
        ([], (1600, 1200), [62, 125, 1375, 458], [62, 125, 1375, 458], ""),
    ],
)
def test_boxes_in_json_are_read_in_pixels_and_said_where_they_may_be_per_mille(convert, flags, wh, box, gold, noted):
    answer = json.dumps({"bbox_2d": box, "label": "block"})
    row = {"image": "images/a.png", "problem": "Where?", "answer": answer}
    _, rows, said = convert("a.json", [row], *flags, wh=wh)
    assert json.loads(rows[0]["conversations"][-1]["value"]) == gold
    assert (noted in said) if noted else ("--boxes" not in said)
