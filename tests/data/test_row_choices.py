"""Rows that leave a choice open: two gold answers, a system text beside the turns, pictures in text, odd mappings."""

from pathlib import Path

import orjson
import pytest

from open_r1.data.field_names import renaming_of
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.data.record import Record, parse_row
from open_r1.data.unlabeled import files_with_placeholders, has_gold
from open_r1.errors import DataError

ASKED = [{"role": "user", "content": "Q"}]
TALK = {"messages": [*ASKED, {"role": "assistant", "content": "3"}]}


def parsed(row: dict) -> Record:
    return parse_row(row, "a.jsonl:1", 1)


def problem(row: dict) -> str:
    with pytest.raises(DataError) as caught:
        parsed(row)
    (only,) = caught.value.problems
    return str(only)


def loaded(folder: Path, *files: list[dict], fields: str | None = None) -> RecordDataset:
    names = [str(folder / f"{number}.jsonl") for number in range(len(files))]
    for name, rows in zip(names, files, strict=True):
        Path(name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return load_records(names, renaming=renaming_of(fields), cache_dir=folder / "cache", progress=False)


# ------------------------------------------------------------------------------------------------------ gold answers

TWO_GOLDS = [
    {"question": "Q", "solution": "Long explanation", "answer": "3"},
    {"problem": "Q", "solution": "3", "answer": "4"},
    {"problem": "Q", "solution": "3", "answer": 4},
    {"problem": "Q", "solution": [1, 2, 3, 4], "answer": "3"},
    {"problem": "Q", "solution": "3", "completion": [{"role": "assistant", "content": "4"}]},
    {"prompt": ASKED, "solution": "3", "answer": "4"},
    {"messages": ASKED, "solution": "3", "response": "4"},
    {"instruction": "Q", "input": "x", "output": "4", "solution": "3"},
]


@pytest.mark.parametrize("row", TWO_GOLDS, ids=str)
def test_two_gold_answers_are_refused_with_mappings_that_work(row: dict, tmp_path: Path) -> None:
    other = next(name for name in reversed(row) if name not in ("solution", "input"))
    text = problem(row)
    assert f": {other}: got" in text and "expected one gold answer" in text
    for name in (other, "solution"):
        assert f"--fields solution={name}" in text
        (record,) = loaded(tmp_path, [row], fields=f"solution={name}")
        assert (
            record.solution
            == parsed({k: v for k, v in row.items() if k not in ({other, "solution"} - {name})}).solution
        )


@pytest.mark.parametrize(
    ("gold", "other"),
    [
        ("3", "3"),
        ("3", " 3\n"),
        ("3", 3),
        (3, "3"),
        ("<answer> 3 </answer>", "3"),
        ("<think>so</think> <answer>3</answer>", 3),
        ("3", ["3", "three"]),
        ([1, 2], "[1, 2]"),
        ({"a": 1}, '{"a":1}'),
        ("3", None),
        ("3", ""),
        ("3", []),
    ],
)
def test_equal_gold_answers_are_one(gold: object, other: object) -> None:
    assert parsed({"problem": "Q", "solution": gold, "answer": other}).extra == {"answer": other}


# ------------------------------------------------------------------------------------------------ system and history


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "Q", "solution": "3"},
        {"query": "Q", "response": "3"},
        {"instruction": "Q", "input": "", "output": "3"},
        {"prompt": ASKED, "answer": "3"},
        {"messages": ASKED, "answer": "3"},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "3"}]},
        TALK,
        {"messages": [{"role": "system", "content": "Be brief."}, *TALK["messages"]]},
    ],
    ids=str,
)
def test_system_text_is_the_system_turn(row: dict) -> None:
    record = parsed({**row, "system": "Be brief."})
    assert [(turn.role, turn.text) for turn in record.turns] == [("system", "Be brief."), ("user", "Q")]
    assert record.solution == "3" and "system" not in record.extra
    for nothing in (None, "", " ", [], {}):
        assert parsed({**row, "system": nothing}).turns == parsed(row).turns


def test_image_tags_of_the_system_text_come_first() -> None:
    row = {"images": ["a.png", "b.png"], "problem": "<image> Q", "solution": "3", "system": "Like <image>."}
    assert [turn.text.count("<image>") for turn in parsed(row).turns] == [1, 1]
    assert "1 <image> tag(s) for 2" in problem({**row, "system": "Be brief."})


@pytest.mark.parametrize(("system", "message"), [("Other.", "one system turn"), (["x"], "the text"), (3, "the text")])
def test_odd_system_texts_are_refused(system: object, message: str) -> None:
    row = {"messages": [{"role": "system", "content": "Be brief."}, *TALK["messages"]]}
    assert message in problem({**row, "system": system})


@pytest.mark.parametrize(
    "row",
    [{"problem": "Q", "solution": "3"}, {"instruction": "Q", "input": "", "output": "3"}, TALK],
    ids=["text", "alpaca", "turns"],
)
def test_history_is_refused(row: dict) -> None:
    assert "history: got earlier turns" in problem({**row, "history": [["a", "b"]]})
    assert ("open_r1.convert" in problem({**row, "history": [["a", "b"]]})) == ("messages" not in row)
    for nothing in (None, [], ""):
        assert parsed({**row, "history": nothing}).solution == "3"


# --------------------------------------------------------------------------------------------------- pictures in text


@pytest.mark.parametrize(
    "mark",
    [
        "![](a.png)",
        "![a chart](figures/ab.png)",
        "![x](https://host.org/a.JPG?width=3)",
        '![x](<a.webp> "title")',
        '<img src="a.png">',
        "<img src='x/a.jpeg' width=3 />",
        "<IMG alt=x SRC=a.gif>",
        "data:image/png;base64,iVBORw0KGgo=",
        "![](data:image/jpeg;base64,/9j/4AAQ)",
        '<img src="data:image/svg+xml;base64,AAAA">',
    ],
)
def test_a_picture_in_the_text_of_a_row_without_one_is_refused(mark: str) -> None:
    for text in (f"{mark}\nHow many?", f"How many are in {mark}?"):
        assert "a picture in the text of a row without one" in problem({"problem": text, "solution": "3"})
    row = {"problem": f"<image> {mark} How many?", "solution": "3", "image": "a.png"}
    assert parsed(row).images == ("a.png",)  # a tag places the picture: the rest is text


@pytest.mark.parametrize(
    "text",
    [
        "What does ![x](a.png) show in Markdown?",
        'Which HTML tag is missing in <p><img src="a.png">?',
        "5![1](2)",
        "See [the chart](a.png).",
        "![x](page.html)",
        '<img alt="x">',
        "a.png",
        "data:image is a MIME prefix",
        "if (!a[i](b.png))",
    ],
)
def test_texts_without_a_picture_are_read(text: str) -> None:
    assert parsed({"problem": text, "solution": "3"}).turns[0].text == text


# -------------------------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("fields", "got", "hint"),
    [
        ("problem=questoin,solution=answer", "problem=questoin", "did you mean 'question'?"),
        ("problem=question,solution=anwser", "solution=anwser", "did you mean 'answer'?"),
        ("problem=question,solution=meta.glod", "solution=meta.glod", "did you mean 'meta.gold'?"),
        ("problem=question,solution=answer,image=xx", "image=xx", "correct the name"),
        ("solution=Answer", "solution=Answer", "did you mean 'answer'?"),
    ],
)
def test_a_field_that_no_row_has_is_refused_once(fields: str, got: str, hint: str, tmp_path: Path) -> None:
    row = {"question": "Q", "answer": "3", "meta": {"gold": "3"}}
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, [row] * 3, fields=fields)
    (only,) = map(str, caught.value.problems)
    assert f"0.jsonl: --fields: got {got}, but no row has a field" in only and hint in only


def test_a_field_that_some_rows_or_another_file_have_is_read(tmp_path: Path) -> None:
    rows = [{"q": "Q", "solution": "3"}, {"problem": "Q", "solution": "3"}]
    assert len(loaded(tmp_path, rows, fields="problem=q")) == 2
    assert len(loaded(tmp_path, rows[:1], rows[1:], fields="problem=q")) == 2
    with pytest.raises(DataError, match=r"0.jsonl: --fields[\s\S]*1.jsonl: --fields"):
        loaded(tmp_path, rows[:1], rows[1:], fields="problem=p")


def test_a_file_with_placeholders_is_read_by_the_same_mapping(tmp_path: Path) -> None:
    renaming = renaming_of("problem=meta.q,solution=gold")
    (tmp_path / "a.jsonl").write_bytes(b'{"meta": {"q": "Q"}}\n{"meta": {"q": "R"}}\n')
    names = files_with_placeholders([str(tmp_path / "a.jsonl")], tmp_path / "rows", renaming)
    records = load_records(names, renaming=renaming, cache_dir=tmp_path / "cache", progress=False)
    assert [(record.turns[0].text, has_gold(record)) for record in records] == [("Q", False), ("R", False)]
