"""JSONL lines become Records, and every defect is told with file, line, field, got, expected and remedy."""

import json
import logging
import os
import pickle
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.repository import SHARED as DATA
from PIL import Image

from open_r1 import convert
from open_r1.data import jsonl_index
from open_r1.data.jsonl_dataset import load_records, scan_records
from open_r1.data.paths import split_paths
from open_r1.data.record import Record, parse_row
from open_r1.data.row_formats import Turn
from open_r1.errors import DataError

ROW = {
    "id": 1,
    "image": "a.png",
    "conversations": [{"from": "human", "value": "<image>Q"}, {"from": "gpt", "value": "A"}],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with img/{a,b}.png (never opened here) and img/sub/c.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))
    (tmp_path / "img" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / "img" / name).write_bytes(b"x")
    return tmp_path


def write(path: Path, *rows: object) -> None:
    """JSONL; text and bytes are written as they are."""
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


def load_one(folder: Path, row: object, **options: object) -> Record:
    write(folder / "t.jsonl", row)
    return load_records("t.jsonl", "img", progress=False, **options)[0]


def problems_of(*arguments: object, **options: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_records(*arguments, progress=False, **options)
    return [str(problem) for problem in caught.value.problems]


def talk(*turns: tuple[object, object]) -> dict:
    return {"conversations": [{"from": who, "value": value} for who, value in turns]}


def chat(*turns: tuple[object, object], **fields: object) -> dict:
    return {"messages": [{"role": who, "content": content} for who, content in turns], **fields}


U, A, S = "user", "assistant", "system"
IMAGE, TEXT = {"type": "image"}, {"type": "text", "text": "Q"}


@pytest.mark.parametrize(
    ("row", "images", "turns", "solution"),
    [
        (ROW, ("a.png",), [(U, "<image>Q")], "A"),
        ({**talk(("human", "Q"), ("gpt", "A"))}, (), [(U, "Q")], "A"),
        ({**talk(("human", "Q"), ("gpt", "A")), "image": None}, (), [(U, "Q")], "A"),
        (
            {**talk(("user", "Q"), ("assistant", "A")), "image": ["a.png", "sub/c.png"]},
            ("a.png", "sub/c.png"),
            [(U, "Q")],
            "A",
        ),
        (
            {
                **talk(("system", "S"), ("human", "<image>1"), ("gpt", "x"), ("human", "2<image>"), ("gpt", "A")),
                "image": ["b.png", "a.png"],
            },
            ("b.png", "a.png"),
            [(S, "S"), (U, "<image>1"), (A, "x"), (U, "2<image>")],
            "A",
        ),
        ({"image": "a.png", "problem": "Q", "solution": "A"}, ("a.png",), [(U, "Q")], "A"),
        (
            {"images": ["a.png", "b.png"], "problem": "<image>or<image>?", "solution": 7},
            ("a.png", "b.png"),
            [(U, "<image>or<image>?")],
            "7",
        ),
        (chat((U, "Q"), (A, "A")), (), [(U, "Q")], "A"),
        (chat((S, "S"), (U, "<image>Q"), (A, "A"), images=["b.png"]), ("b.png",), [(S, "S"), (U, "<image>Q")], "A"),
        (chat((U, [IMAGE, TEXT]), (A, "A"), image="a.png"), ("a.png",), [(U, "<image>Q")], "A"),
        (
            chat((U, [TEXT, {"type": "image", "image": "b.png"}]), (A, [{"type": "text", "text": "A"}])),
            ("b.png",),
            [(U, "Q<image>")],
            "A",
        ),
        (  # parts with and without a path of their own
            chat(
                (U, [IMAGE, {"type": "image", "image": "b.png", "text": None}, IMAGE, TEXT]),
                (A, "A"),
                images=["a.png", "sub/c.png"],
            ),
            ("a.png", "b.png", "sub/c.png"),
            [(U, "<image><image><image>Q")],
            "A",
        ),
        (chat((U, "Q"), (A, [1, 2, 3, 4])), (), [(U, "Q")], "[1,2,3,4]"),
    ],
)
def test_row_shapes(folder: Path, row: dict, images: tuple, turns: list, solution: str) -> None:
    record = load_one(folder, row)
    assert (record.images, record.folder, record.solution) == (images, "img", solution)
    assert record.turns == tuple(Turn(*turn) for turn in turns)
    assert record.where == "t.jsonl:1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (0.5, "0.5"),
        (-3, "-3"),
        ([1, [2.5]], "[1,[2.5]]"),
        ({"b": [1]}, '{"b":[1]}'),
        ("  A ", "  A "),
        ("0", "0"),
        (0, "0"),
        ("größer", "größer"),
    ],
)
def test_solutions_become_text(folder: Path, value: object, text: str) -> None:
    assert load_one(folder, {"problem": "Q", "solution": value}).solution == text
    assert load_one(folder, talk(("human", "Q"), ("gpt", value))).solution == text


def test_id_extra_and_method(folder: Path) -> None:
    write(
        folder / "t.jsonl",
        {**ROW, "id": "x-1", "kind": "k", "problem": "p"},
        "",
        {**ROW, "id": None, "accu_reward_method": "mcq"},
    )
    first, second = load_records("t.jsonl", "img", reward_methods="rec", progress=False)
    assert (first.id, first.extra, first.accu_reward_method) == ("x-1", {"kind": "k", "problem": "p"}, "rec")
    assert (second.id, second.where, second.accu_reward_method) == ("3", "t.jsonl:3", "mcq")
    assert first.with_extra(image_wh=(2, 3)).extra == {"kind": "k", "problem": "p", "image_wh": (2, 3)}


LINE = "line: got "
NO_TEXT = "expected non-empty text; write the text"
NO_ANSWER = "expected a non-empty answer (text, number, list or object); write the answer as text"
OUTSIDE = (
    "expected a path relative to 'img' without '..', drive, URL, NUL or half a character; "
    "copy the image below the folder"
)
BAD_ROWS = [
    ('{"id": 1, ', [LINE, "expected one JSON object a line; correct the JSON"]),
    ('{"a": NaN}', [LINE, "expected one JSON object a line"]),
    (b'{"problem": "\xff"}', [LINE + "byte 0xff at column 14, expected UTF-8; convert the file"]),
    ("[1, 2]", [LINE + "[1, 2], expected one JSON object a line; write each row"]),
    ('"text"', [LINE + "'text', expected one JSON object a line"]),
    (
        {"ask": "Q", "tell": "A"},
        [LINE + "fields ['ask', 'tell'], expected 'conversations'", "'problem'", "'messages'", "--fields", "convert"],
    ),
    ({**ROW, "image": "gone.png"}, ["image: got 'gone.png', expected an existing file under 'img'; correct the path"]),
    ({**ROW, "image": "a.png/x"}, ["image: got 'a.png/x', expected an existing file"]),
    ({**ROW, "image": "../t.jsonl"}, ["image: got '../t.jsonl', " + OUTSIDE]),
    ({**ROW, "image": "sub/../a.png"}, ["image: got 'sub/../a.png', " + OUTSIDE]),
    ({**ROW, "image": "/etc/passwd"}, ["image: got '/etc/passwd', " + OUTSIDE]),
    ({**ROW, "image": "C:\\a.png"}, ["image: got 'C:", "; write 'a.png'"]),
    ({**ROW, "image": "https://x.org/gone.png"}, ["image: got 'https://x.org/gone.png', ", "nothing is fetched"]),
    ({**ROW, "image": "data:image/png;base64,AA"}, ["image: got 'data:", "write it to a file: python -m open_r1"]),
    ({**ROW, "image": "a.png\0"}, ["image: got 'a.png\\x00', " + OUTSIDE]),
    (
        {**ROW, "image": "out.png"},
        ["image: got 'out.png', a link that leads outside, expected a file inside 'img'; copy"],
    ),
    (
        {**ROW, "image": "outdir/t.jsonl"},
        ["image: got 'outdir/t.jsonl', a link that leads outside, expected a file inside"],
    ),
    (
        {**ROW, "image": "pipe"},
        ["image: got 'pipe', a pipe, socket or device, expected a regular file; name an image"],
    ),
    ({**ROW, "image": "sub"}, ["image: got 'sub', a folder, expected a regular file; name an image file"]),
    ({**ROW, "image": "x" * 300}, ["image: got 'xxx", "(File name too long), expected a reachable file"]),
    ({**ROW, "image": 3}, ["image: got 3, expected a path or a list of paths; write paths"]),
    ({**ROW, "image": {"bytes": "x"}}, ["image: got {'bytes': 'x'}, expected a path or a list of paths"]),
    ({**ROW, "image": ["a.png", None]}, ["image: got null, expected a path or a list of paths"]),
    ({**ROW, "image": ""}, ["image: got '', expected a path or a list of paths"]),
    ({**ROW, "images": ["a.png"]}, ["image: got both 'image' and 'images', expected one of the two; put"]),
    (
        {**ROW, "image": ["a.png", "b.png"]},
        ["<image>: got 1 <image> tag(s) for 2 image(s), expected as many tags as images, or no tag at all; add"],
    ),
    ({**ROW, "image": None}, ["<image>: got 1 <image> tag(s) for 0 image(s)"]),
    (
        chat((U, [{"type": "image", "image": "b.png"}]), (A, "A"), image="a.png"),
        ["<image>: got 0 <image> tag(s) for 1 image(s)"],
    ),
    (
        talk(("bot", "Q"), ("gpt", "A")),
        ["conversations[0].from: got 'bot', expected one of human, user, gpt, assistant, system, tool, tool"],
    ),
    (talk((["human"], "Q"), ("gpt", "A")), ["conversations[0].from: got ['human'], expected one of human"]),
    (chat(("function", "Q"), (A, "A")), ["messages[0].role: got 'function', expected one of human"]),
    (chat(("tool", "Q"), (A, "A")), ["messages: got ['tool', 'assistant'], expected a human (user) turn; add"]),
    (
        chat((U, "Q"), ("tool", "3"), (A, "A")),
        ["expected a tool turn behind a gpt (assistant) turn only; add the call"],
    ),
    (chat((U, "Q"), (A, "call"), ("tool", "3")), ["expected a final gpt (assistant) turn; add the answer"]),
    (chat((U, "Q"), (A, "call"), ("tool", ""), (A, "A")), ["messages[2].content: got '', " + NO_TEXT]),
    (talk(("gpt", "A")), ["conversations: got ['assistant'], expected a human (user) turn; add the question"]),
    (talk(("human", "Q")), ["conversations: got ['user'], expected a final gpt (assistant) turn; add the answer"]),
    (talk(("human", "Q"), ("gpt", "A"), ("gpt", "B")), ["expected a human (user) turn before the final answer; join"]),
    (talk(("human", "Q"), ("system", "S"), ("gpt", "A")), ["expected a system turn in the first place only; move"]),
    ({"conversations": []}, ["conversations: got [], expected a non-empty list of turns; write"]),
    (
        {"conversations": ["Q", "A"]},
        ["conversations[0]: got 'Q', expected an object with 'from' and 'value'; correct"],
    ),
    (talk(("human", ""), ("gpt", "A")), ["conversations[0].value: got '', " + NO_TEXT]),
    (talk(("human", None), ("gpt", "A")), ["conversations[0].value: got null, " + NO_TEXT]),
    (talk(("human", 5), ("gpt", "A")), ["conversations[0].value: got 5, " + NO_TEXT]),
    (
        chat((U, [TEXT, {"type": "video"}]), (A, "A")),
        ["<video>: got 1 <video> tag(s) for 0 video(s)", "add or remove tags or videos"],
    ),
    (
        chat((U, [{"type": "text", "text": None}]), (A, "A")),
        ["messages[0].content[0]: got {'type': 'text', 'text': None}"],
    ),
    (chat((U, []), (A, "A")), ["messages[0].content: got '', " + NO_TEXT]),
    (talk(("human", "Q"), ("gpt", None)), ["conversations[1].value: got null, " + NO_ANSWER]),
    (talk(("human", "Q"), ("gpt", "")), ["conversations[1].value: got '', " + NO_ANSWER]),
    (talk(("human", "Q"), ("gpt", " \n")), ["conversations[1].value: got ' \\n', " + NO_ANSWER]),
    ({"problem": "Q", "solution": True}, ["solution: got true, " + NO_ANSWER]),
    ({"problem": "Q"}, ["solution: got null, " + NO_ANSWER]),
    ({"solution": "A"}, ["problem: got null, " + NO_TEXT]),
    (
        '{"problem": "Q", "solution": 123456789012345678901234567890}',
        ["solution: got 1.23", "expected a number below 2**63; write it as text"],
    ),
    ({**ROW, "id": [1]}, ["id: got [1], expected text or an integer; write the id as text"]),
    (
        {**ROW, "accu_reward_method": 1},
        ["accu_reward_method: got 1, expected the name of a reward method; write its name"],
    ),
]


@pytest.mark.parametrize(("row", "parts"), BAD_ROWS)
def test_bad_row(folder: Path, row: object, parts: list[str]) -> None:
    (folder / "img" / "out.png").symlink_to(folder / "t.jsonl")
    (folder / "img" / "outdir").symlink_to(folder)
    os.mkfifo(folder / "img" / "pipe")
    write(folder / "t.jsonl", ROW, "", row)
    (problem,) = problems_of("t.jsonl", "img")
    assert problem.startswith("t.jsonl:3: ")
    for part in parts:
        assert part in problem


def test_all_problems_of_all_files_together(folder: Path) -> None:
    write(folder / "a.jsonl", *[row for row, _ in BAD_ROWS])
    write(folder / "b.jsonl", {"problem": "", "solution": None, "image": ["gone.png", "a.png", "../x"]})
    for name in ("out.png", "outdir"):
        (folder / "img" / name).symlink_to(folder)
    os.mkfifo(folder / "img" / "pipe")
    problems = problems_of("a.jsonl:none.jsonl:b.jsonl", "img")
    # one for each row of a.jsonl, one for the missing file, three in the only row of b.jsonl
    assert len(problems) == len(BAD_ROWS) + 1 + 3
    assert "none.jsonl: file: got no such file, expected a JSONL file; correct the path" in "\n".join(problems)
    with pytest.raises(DataError, match=r"\(and \d+ alike, in lines "):
        load_records("a.jsonl:none.jsonl:b.jsonl", "img", progress=False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "t.jsonl: file: got no rows, expected at least one JSON object; check"),
        (b"\n \n\r\n", "t.jsonl: file: got no rows"),
        (
            json.dumps([ROW]).encode(),
            "t.jsonl: file: got a JSON array, expected JSONL: one object a line; convert it: python",
        ),
        (json.dumps([ROW, ROW], indent=1).encode(), "t.jsonl: file: got a JSON array"),
        (
            json.dumps(ROW).encode("utf-16"),
            "t.jsonl: file: got UTF-16, expected JSONL: one object a line; convert it: iconv",
        ),
    ],
)
def test_whole_file_problems(folder: Path, content: bytes, expected: str) -> None:
    (folder / "t.jsonl").write_bytes(content)
    (problem,) = problems_of("t.jsonl", "img")
    assert problem.startswith(expected)


def test_the_conversion_that_the_message_proposes_works(folder: Path) -> None:
    (folder / "t.json").write_text(json.dumps([ROW, ROW]))
    Image.new("RGB", (40, 40)).save(folder / "img" / "a.png")
    (problem,) = problems_of("t.json", "img")
    command = problem.split("convert it: python -m open_r1.convert ")[1]
    assert convert.main([word.replace("DIR", "out") for word in shlex.split(command)]) == 0
    (written,) = (folder / "out").glob("*.jsonl")
    assert len(load_records(written, "img", progress=False)) == 2


def test_bom_blank_lines_crlf_and_missing_last_newline(folder: Path) -> None:
    line = json.dumps(ROW).encode()
    (folder / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    data = load_records("t.jsonl", "img", progress=False)
    assert [record.where for record in data] == ["t.jsonl:1", "t.jsonl:4"]


def test_files_and_folders(folder: Path) -> None:
    write(folder / "t.jsonl", ROW)
    assert problems_of("t.jsonl") == [
        "t.jsonl:1: image: got 'a.png', expected an image folder for rows with images; give --image_folders"
    ]
    for folders, text in [("no", "'no', which does not exist"), ("t.jsonl", "'t.jsonl', which is a file")]:
        (problem,) = problems_of("t.jsonl:t.jsonl", folders)  # named once, and no row is blamed for it
        assert problem.startswith(f"--image_folders: folder: got {text}, expected a readable folder; ")
    assert "img: file: got a folder, expected a JSONL file" in problems_of("img", "img")[0]
    expected = (
        "--image_folders: value: got 2 entries for 3 file(s) in --data_file_paths, expected one entry for all files"
    )
    assert problems_of("t.jsonl:t.jsonl:t.jsonl", "img:img")[0].startswith(expected)
    assert problems_of("t.jsonl", "img", reward_methods="a:b")[0].startswith(
        "--reward_method: value: got 2 entries for 1"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_and_file(folder: Path) -> None:
    write(folder / "t.jsonl", ROW)
    (folder / "img").chmod(0)
    assert "chmod u+rx img" in problems_of("t.jsonl", "img")[0]
    (folder / "img").chmod(0o755)
    (folder / "t.jsonl").chmod(0)
    assert "an unreadable file" in problems_of("t.jsonl", "img")[0]


def test_several_files_with_their_folders_and_methods(folder: Path) -> None:
    write(folder / "x.jsonl", ROW, ROW)
    write(folder / "y.jsonl", {**ROW, "image": "c.png"})
    data = load_records("x.jsonl:y.jsonl", "img:img/sub", reward_methods="rec:mcq", progress=False)
    assert [(r.where, r.folder, r.accu_reward_method) for r in data] == [
        ("x.jsonl:1", "img", "rec"),
        ("x.jsonl:2", "img", "rec"),
        ("y.jsonl:1", "img/sub", "mcq"),
    ]
    assert len(load_records([folder / "x.jsonl", "y.jsonl"], ["img", "img/sub"], progress=False)) == 3


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.jsonl", ["a.jsonl"]),
        ("a:b/c:d", ["a", "b/c", "d"]),
        (r"C:\data\a.jsonl:D:\b.jsonl", [r"C:\data\a.jsonl", r"D:\b.jsonl"]),
        ("C:/data/a.jsonl:d:/b.jsonl", ["C:/data/a.jsonl", "d:/b.jsonl"]),
        (r"a\:b:c", ["a:b", "c"]),
        ("x:y", ["x", "y"]),
        ("./a:/data", ["./a", "/data"]),
        (["a:b", Path("c")], ["a:b", "c"]),
        (Path("c"), ["c"]),
    ],
)
def test_split_paths(text: str, parts: list[str]) -> None:
    assert split_paths(text) == parts


@pytest.mark.parametrize("text", ["", "a:", ":a", "a::b", " :a", []])
def test_empty_segments_are_refused(text: str) -> None:
    with pytest.raises(
        DataError, match=r"--data_file_paths: value: got .*, expected a path on each side .*; remove the"
    ):
        load_records(text)


def test_a_drive_letter_read_into_a_folder_list_says_so(folder: Path) -> None:
    write(folder / "t.jsonl", ROW)
    assert "read as a Windows drive; for a folder named a write ./a:/data" in problems_of("t.jsonl", "a:/data")[0]


def test_duplicate_ids_are_warned_of(folder: Path) -> None:
    rows = [{**ROW, "id": i} for i in (5, "6", 0, 5, 7, "0")]
    write(folder / "t.jsonl", *rows, {k: v for k, v in ROW.items() if k != "id"})  # line 7: its id becomes "7"
    assert load_records("t.jsonl", "img", progress=False).warnings == (
        "t.jsonl:4: id: '5' was already used in line 1; give each row one of its own",
        "t.jsonl:6: id: '0' was already used in line 3; give each row one of its own",
        "t.jsonl:7: id: none is named, and line 5 has '7', this line's number; give this row one",
    )


def test_an_id_that_is_the_number_of_a_line_without_one_is_warned_of(folder: Path) -> None:
    write(folder / "t.jsonl", {k: v for k, v in ROW.items() if k != "id"}, {**ROW, "id": 1})
    assert load_records("t.jsonl", "img", progress=False).warnings == (
        "t.jsonl:2: id: '1' is that of line 1, which names none and has its line number; give it one",
    )


def test_scan_keeps_the_good_rows(folder: Path) -> None:
    write(folder / "t.jsonl", ROW, {**ROW, "image": "gone.png"}, "{", {**ROW, "id": 9})
    data, problems = scan_records("t.jsonl", "img", progress=False)
    assert [record.id for record in data] == ["1", "9"]
    assert [problem.where for problem in problems] == ["t.jsonl:2", "t.jsonl:3"]


def numbered(folder: Path, count: int = 20, pad: int = 0) -> None:
    write(folder / "t.jsonl", *({**ROW, "id": i, "pad": "x" * pad} for i in range(count)))


def test_dataset_indexing_select_and_pickle(folder: Path) -> None:
    numbered(folder)
    data = load_records("t.jsonl", "img", progress=False)
    assert len(data) == 20 and data[-1].id == "19" and [r.id for r in data][:3] == ["0", "1", "2"]
    with pytest.raises(IndexError):
        data[20]
    assert [r.where for r in data.select([7, 3, 3])] == ["t.jsonl:8", "t.jsonl:4", "t.jsonl:4"]
    assert len(data.select([])) == 0
    assert list(pickle.loads(pickle.dumps(data))) == list(data)


@pytest.mark.parametrize(("ratio", "count"), [(0, 0), (0.05, 1), (0.25, 5), (0.5, 10)])
def test_split_is_disjoint_complete_and_seeded(folder: Path, ratio: float, count: int) -> None:
    numbered(folder)
    data = load_records("t.jsonl", "img", progress=False)
    train, val = data.split(ratio, seed=3)
    assert len(val) == count
    assert sorted(int(r.id) for r in [*train, *val]) == list(range(20))
    assert [r.id for r in data.split(ratio, seed=3)[1]] == [r.id for r in val]
    assert count == 0 or any([r.id for r in data.split(ratio, seed=s)[1]] != [r.id for r in val] for s in range(9))


@pytest.mark.parametrize("ratio", [-0.1, 1, 0.001, 0.99])
def test_split_refuses_an_empty_side(folder: Path, ratio: float) -> None:
    numbered(folder)
    with pytest.raises(ValueError, match=r"--val_split_ratio: got .* for 20 rows, expected"):
        load_records("t.jsonl", "img", progress=False).split(ratio, seed=0)


def test_a_file_changed_after_the_check_is_refused(folder: Path) -> None:
    numbered(folder)
    data = load_records("t.jsonl", "img", progress=False)
    write(folder / "t.jsonl", ROW)
    with pytest.raises(DataError, match=r"t.jsonl: file: got a file that changed after it was checked, expected"):
        data.select([0])[0]


def edited(path: Path, raw: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(raw)
        file.truncate()


def with_time_set_back(path: Path, raw: bytes) -> None:
    status = path.stat()
    edited(path, raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swapped(path: Path, raw: bytes) -> None:
    """As most editors save, with the old time."""
    status, new = path.stat(), path.with_suffix(".new")
    new.write_bytes(raw)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)


EDITS = {
    "the same size": (edited, lambda raw: raw.replace(b'"3"', b'"4"')),
    "longer": (edited, lambda raw: raw + b"\n"),
    "cut": (edited, lambda raw: raw[:-9]),
    "emptied": (edited, lambda raw: b""),
    "other line ends": (edited, lambda raw: raw.replace(b"\n", b"\r\n")),
    "only its time": (edited, lambda raw: raw),
    "swapped for another": (swapped, lambda raw: raw.replace(b'"3"', b'"4"')),
    "swapped for the same": (swapped, lambda raw: raw),
    "the same size and time": (with_time_set_back, lambda raw: raw.replace(b'"3"', b'"4"')),
    "rows in another order": (with_time_set_back, lambda raw: b"".join(reversed(raw.splitlines(keepends=True)))),
    "deleted": (lambda path, raw: path.unlink(), lambda raw: raw),
    "moved": (lambda path, raw: path.rename(path.with_suffix(".moved")), lambda raw: raw),
    "a folder": (lambda path, raw: (path.unlink(), path.mkdir()), lambda raw: raw),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_edited_while_it_is_read_is_refused_at_the_next_access(folder: Path, edit: str) -> None:
    """Also after rows were read; and in a copy that another process or worker opens later."""
    write(folder / "t.jsonl", *({**ROW, "id": str(i)} for i in range(6)))
    data = load_records("t.jsonl", "img", progress=False)
    assert data[0].id == "0" and data[3].id == "3"
    copy, (how, change) = pickle.loads(pickle.dumps(data)), EDITS[edit]
    time.sleep(0.02)  # ticks of the file system's clock
    how(folder / "t.jsonl", change((folder / "t.jsonl").read_bytes()))
    for reader in (data, copy):
        with pytest.raises(DataError, match=r"t\.jsonl.* got (a (file|line) that changed after|no file, where)"):
            reader[3]


def test_what_is_no_edit_is_none(folder: Path) -> None:
    numbered(folder)
    data = load_records("t.jsonl", "img", progress=False)
    (folder / "t.jsonl").read_bytes()
    (folder / "t.jsonl").chmod(0o600)
    (folder / "other.jsonl").write_text("{}")
    assert [record.id for record in data] == [str(i) for i in range(20)]


def test_a_large_file_rewritten_with_its_time_set_back_is_checked_again(folder: Path) -> None:
    numbered(folder, 4200, pad=200)
    load_records("t.jsonl", "img", progress=False)
    time.sleep(0.02)
    with_time_set_back(folder / "t.jsonl", (folder / "t.jsonl").read_bytes().replace(b"xx", b"yy"))
    assert load_records("t.jsonl", "img", progress=False)[0].extra["pad"].startswith("yy")


def cached(folder: Path) -> list[Path]:
    return list((folder / "cache").glob("*"))


def test_cache_is_used_and_notices_every_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered(folder, 4200, pad=200)
    assert (folder / "t.jsonl").stat().st_size > jsonl_index.CACHE_FROM_BYTES
    first = load_records("t.jsonl", "img", progress=False)
    (entry,) = cached(folder)

    def no_scan(*_: object) -> None:
        raise AssertionError("the file was read again")

    with monkeypatch.context() as patch:
        patch.setattr(jsonl_index, "_scan", no_scan)
        assert load_records("t.jsonl", "img", progress=False)[4199] == first[4199]
        patch.setattr(jsonl_index, "_code", lambda: "other")
        with pytest.raises(AssertionError, match="read again"):
            load_records("t.jsonl", "img", progress=False)
    (folder / "img" / "a.png").unlink()
    assert len(problems_of("t.jsonl", "img")) == 1 + 4200  # the folder, in which nothing is, comes first
    (folder / "img" / "a.png").write_bytes(b"x")
    numbered(folder, 4300, pad=200)
    assert len(load_records("t.jsonl", "img", progress=False)) == 4300
    assert cached(folder) == [entry]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", "half", "flip"])
def test_a_damaged_cache_is_rebuilt_with_a_log_line(
    folder: Path, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    numbered(folder, 4200, pad=200)
    load_records("t.jsonl", "img", progress=False)
    (entry,) = cached(folder)
    good = entry.read_bytes()
    flipped = good[:5000] + bytes([good[5000] ^ 255]) + good[5001:]
    entry.write_bytes({"half": good[: len(good) // 2], "flip": flipped}[damage] if isinstance(damage, str) else damage)
    with caplog.at_level(logging.WARNING):
        assert load_records("t.jsonl", "img", progress=False)[4199].id == "4199"
    assert "damaged cache, validating t.jsonl again" in caplog.text
    assert entry.read_bytes()[:2] == b"PK" and len(cached(folder)) == 1


def test_a_cache_that_cannot_be_written_is_only_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbered(folder, 4200, pad=200)
    assert len(load_records("t.jsonl", "img", cache_dir=folder / "t.jsonl" / "x", progress=False)) == 4200
    assert "cache not written" in caplog.text


@pytest.mark.parametrize("module", ["data.jsonl_dataset", "data.images", "data.chat", "check"])
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, open_r1.{module}; print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("file", "folder_name", "rows"),
    [("coco/rec.jsonl", "coco", 16), ("superclevr/qa.jsonl", "superclevr/images", 248)],
)
def test_real_rows(file: str, folder_name: str, rows: int) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"../shared/data/{file} is absent")
    data = load_records(str(DATA / file), str(DATA / folder_name), progress=False)
    assert len(data) == rows and all(len(record.images) == 1 and record.solution for record in data)


def test_real_two_image_rows_lack_only_their_images(tmp_path: Path) -> None:
    file = DATA / "gui" / "gui_multi-image.jsonl"
    if not file.is_file():
        pytest.skip("../shared/data/gui is absent")
    _, problems = scan_records(str(file), str(tmp_path), progress=False)
    assert problems[0].got.endswith(", below which none of 3,594 pictures lies, as " + problems[1].got)
    assert {problem.field for problem in problems[1:]} == {"image"} and len(problems) == 1 + 2 * 1797


@pytest.mark.parametrize("field", ["url", "path", "base64", "image_url"])
def test_an_image_part_names_a_file_by_its_image_field_alone(field):
    """Chat templates of transformers fetch or read the others, whatever they name."""
    content = [{"type": "image", field: "http://example.com/a.png"}, {"type": "text", "text": "What?"}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "7"}], "image": "a.png"}
    with pytest.raises(DataError, match=r"messages\[0\].content\[0\]: got .* rewrite the part"):
        parse_row(row, "a.jsonl:1", 1)
