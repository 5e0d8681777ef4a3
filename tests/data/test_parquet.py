"""Parquet files are read as JSONL files are: pictures in every form, columns of other names, one message a defect."""

import base64
import io
import json
import os
import pickle
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from open_r1.check import main as check
from open_r1.data.field_names import renaming_of
from open_r1.data.fingerprint import digest, picture_digest, picture_sizes
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import RecordDataset, load_records, scan_records
from open_r1.data.tables import unpacking
from open_r1.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with pics/{red,blue}.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pics").mkdir()
    for colour in ("red", "blue"):
        (tmp_path / "pics" / f"{colour}.png").write_bytes(png(colour))
    return tmp_path


def png(colour: str = "red", mode: str = "RGB", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).convert(mode).save(file, form)
    return file.getvalue()


def table(rows: list[dict], path: str = "a.parquet", schema: pa.Schema | None = None) -> str:
    """A parquet file of rows, which are questions with an answer unless they say otherwise."""
    plain = [{"problem": "What?", "solution": "1"} | row for row in rows]
    pq.write_table(pa.Table.from_pylist(plain, schema), path)
    return path


def read(path: str, folder: str | None = None, fields: str = "") -> RecordDataset:
    return load_records(path, folder, renaming=renaming_of(fields), progress=False)


def refusal(path: str, folder: str | None = None, fields: str = "") -> list[str]:
    with pytest.raises(DataError) as caught:
        read(path, folder, fields)
    return [str(problem) for problem in caught.value.problems]


def colours(data: RecordDataset) -> list[list[tuple]]:
    return [[picture.getpixel((5, 5)) for picture in pictures] for pictures in load_images(list(data))]


RED, BLUE = (255, 0, 0), (0, 0, 255)
B64 = base64.b64encode(png()).decode()
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})

# ------------------------------------------------------------------------------------------------------- pictures read


@pytest.mark.parametrize(
    "cell",
    [
        png(),
        {"bytes": png(), "path": None},
        {"bytes": png(), "path": "elsewhere/red.png"},
        {"bytes": None, "path": "red.png"},
        {"bytes": B64, "path": None},
        B64,
        "data:image/png;base64," + B64,
        "DATA:image/png;charset=x;base64,\n" + B64[:70] + "\n" + B64[70:],
        base64.b64encode(png("red", form="GIF")).decode(),
        base64.b64encode(png("red", form="BMP")).decode(),
        base64.urlsafe_b64encode(png()).decode().rstrip("="),
        list(png()),
        "red.png",
        "./red.png",
        "../pics/red.png",
    ],
    ids=lambda cell: str(cell)[:24],
)
@pytest.mark.parametrize("column", ["image", "images"])
def test_a_picture_is_read_in_every_form(cell, column):
    path = table([{column: [cell, cell] if column == "images" else cell}])
    if isinstance(cell, str) and cell.startswith("../"):
        assert "expected a path relative to" in refusal(path, "pics")[0]
        return
    assert [colour[:2] for row in colours(read(path, "pics")) for colour in row] == [(255, 0)] * (
        1 + (column == "images")
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "CMYK", "1", "I;16", "F"])
def test_modes_and_forms(form, mode):
    try:
        data = png("white", mode, form)
    except (OSError, ValueError):
        pytest.skip(f"{form} holds no {mode}")
    record = read(table([{"image": data}]))[0]
    assert load_images([record])[0][0].mode == "RGB"


def test_absolute_paths_below_the_image_folder(folder):
    path = table([{"image": str(folder / "pics" / "red.png")}, {"image": {"bytes": None, "path": "blue.png"}["path"]}])
    assert colours(read(path, "pics")) == [[RED], [BLUE]]


def test_rows_without_pictures_are_text_rows():
    rows = [{"image": png()}, {"image": None}, {"image": png("blue")}]
    assert [len(record.images) for record in read(table(rows))] == [1, 0, 1]
    rows = [{"images": [png()]}, {"images": []}, {"images": None}]
    assert [len(record.images) for record in read(table(rows))] == [1, 0, 0]


def test_paths_and_bytes_in_one_column_and_in_one_row():
    rows = [{"images": [{"bytes": png(), "path": None}, {"bytes": None, "path": "blue.png"}]}]
    rows += [{"images": [{"bytes": None, "path": "red.png"}]}]
    data = read(table(rows), "pics")
    assert colours(data) == [[RED, BLUE], [RED]]
    Path("pics/blue.png").write_bytes(png("white"))  # a copied picture that changes is copied again
    assert colours(read("a.parquet", "pics"))[0] == [RED, (255, 255, 255)]


def test_a_picture_used_twice_is_stored_once():
    data = read(table([{"image": png()}] * 20 + [{"image": png("blue")}]))
    assert len({name for record in data for name in record.images}) == 2
    assert len(list(Path(data[0].folder).rglob("*.png"))) == 2


def test_pictures_within_the_parts_of_a_message():
    parts = [{"type": "image", "image": {"bytes": png(), "path": None}, "text": None}]
    parts += [{"type": "text", "image": None, "text": "What?"}]
    answer = [{"type": "text", "image": None, "text": "1"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), "a.parquet")
    (record,) = read("a.parquet")
    assert record.turns[0].text == "<image>What?" and record.solution == "1" and colours([record]) == [[RED]]


# ---------------------------------------------------------------------------------------------------- pictures refused


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (b"", "got 0 bytes, expected JPEG"),
        (b"%PDF-1.7 and so on", "18 bytes that are no picture"),
        ({"bytes": b"no picture", "path": "a.png"}, "10 bytes that are no picture"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ("https://example.com/a.png", "nothing is fetched"),
        ("s3://bucket/a.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png,raw", "nothing is fetched"),
        ("data:image/png;base64,@@@", "base64"),
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), "4 bytes that are no picture"),
        ("missing.png", "an existing file under"),
        ("/etc/passwd", "a file below"),
        ("../pics/red.png", "without '..'"),
        ("", "got ''"),
        (7, "got 7, expected bytes"),
        ({"url": "https://example.com/a.png"}, "got {'url'"),
        ([[0.5, 0.1], [0.2, 0.3]], "expected bytes"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_picture_is_named_with_its_row(cell, words):
    message, *_ = refusal(table([{"image": None}, {"image": cell}, {"image": None}]), "pics")
    assert message.startswith("a.parquet:2: image: ") and words in message


def test_a_null_in_a_list_is_named_and_its_remedy_works():
    from datasets import Dataset, Features, List, Value
    from datasets import Image as Pictures

    columns = Features({"images": List(Pictures()), "problem": Value("string"), "solution": Value("string")})
    rows = {"images": [[{"bytes": png(), "path": None}, None]], "problem": ["<image>?"], "solution": ["1"]}
    d = Dataset.from_dict(rows, features=columns)
    d.to_parquet("a.parquet")
    (message,) = refusal("a.parquet")
    assert message.startswith("a.parquet:1: images: got null") and "<image>" not in message
    remedy = message.rpartition("leave it out of the list: ")[2]
    eval(remedy, {"d": d}).to_parquet("a.parquet")
    assert colours(read("a.parquet")) == [[RED]]


def test_to_parquet_of_paths_and_the_remedy_of_its_message(folder):
    from datasets import Dataset
    from datasets import Image as Pictures

    rows = {"image": [str(folder / "pics" / "red.png")], "problem": ["What?"], "solution": ["1"]}
    Dataset.from_dict(rows).cast_column("image", Pictures()).to_parquet("a.parquet")
    assert pq.read_table("a.parquet")["image"][0]["bytes"].as_py() is None  # datasets 5.2 stores the path alone
    (message,) = refusal("a.parquet")
    remedy = message.rpartition("--image_folders ")[2]
    assert remedy == str(folder / "pics") and colours(read("a.parquet", remedy)) == [[RED]]


def test_a_path_without_an_image_folder_asks_for_one():
    assert "--image_folders" in refusal(table([{"image": "red.png"}]))[0]


def test_all_problems_of_a_row_and_of_all_rows_are_told_in_order():
    rows = [{"images": [b"a", b"b"]}, {"images": None, "solution": None}, {"images": [b"c"]}, {"problem": " "}]
    places = [message.split(": ")[0] for message in refusal(table(rows))]
    assert places == ["a.parquet:1", "a.parquet:1", "a.parquet:2", "a.parquet:3", "a.parquet:4"]


# ------------------------------------------------------------------------------------------------------------ columns

PUBLIC = {  # the columns of public datasets, and what is advised
    "geometry3k": ({"images": [png()], "problem": "<image>?", "answer": "3"}, "solution=answer"),
    "verl": (
        {
            "prompt": [{"role": "user", "content": "<image>How many?"}],
            "images": [{"bytes": png()}],
            "reward_model": {"style": "rule", "ground_truth": "3"},
        },
        "problem=prompt,solution=reward_model.ground_truth",
    ),
    "DocVQA": ({"question": "?", "answers": ["3"], "image": png()}, "problem=question,solution=answers"),
    "ChartQA": ({"query": "?", "label": ["3"], "image": png()}, "problem=query,solution=label"),
    "VQAv2": (
        {"question": "?", "multiple_choice_answer": "3", "answers": ["3", "4"], "image": png()},
        "problem=question,solution=multiple_choice_answer",
    ),
    "MathVista": (
        {"question": "?", "answer": "3", "image": "images/1.jpg", "decoded_image": {"bytes": png(), "path": None}},
        "problem=question,solution=answer,images=decoded_image",
    ),
    "picture": (
        {"instruction": "?", "output": "3", "picture": png()},
        "problem=instruction,solution=output,images=picture",
    ),
    "img": ({"img": png(), "text": "?", "target": "3"}, "problem=text,solution=target,images=img"),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_other_columns_are_listed_with_the_mapping_that_works(name):
    row, mapping = PUBLIC[name]
    pq.write_table(pa.Table.from_pylist([row]), "a.parquet")
    (message,) = refusal("a.parquet")
    assert f"columns: got {', '.join(row)}, expected" in message and message.endswith(f"--fields {mapping}")
    (record,) = read("a.parquet", None, message.rpartition("--fields ")[2])
    assert record.solution == "3" and colours([record]) == [[RED]]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.list_(pa.binary()), IMAGE, pa.large_list(IMAGE)])
def test_a_column_of_pictures_under_another_name_is_not_passed_over(kind):
    cell = {"bytes": png(), "path": None} if "bytes" in str(kind) else png()
    many = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    schema = pa.schema({"problem": pa.string(), "solution": pa.string(), "photo": kind})
    path = table([{"photo": [cell] if many else cell}], schema=schema)
    (message,) = refusal(path)
    assert "--fields images=photo" in message
    assert colours(read(path, None, "images=photo")) == [[RED]]


def test_a_question_with_options_is_sent_to_convert():
    row = {"question": "<image 1>?", "options": "['a', 'b']", "answer": "A", "image_1": png()}
    pq.write_table(pa.Table.from_pylist([row]), "a.parquet")
    assert "python -m open_r1.convert" in refusal("a.parquet")[0]


@pytest.mark.parametrize(
    ("text", "expected", "order"),
    [
        ("<image 2> or <image 1>?", "<image> or <image>?", [BLUE, RED]),
        ("<image_1>, <image 2>, <IMAGE 1>", "<image>, <image>, <image>", [RED, BLUE, RED]),
        ("Which?", "Which?", [RED, BLUE]),
    ],
)
def test_numbered_columns_are_pictures_in_the_order_of_their_tags(text, expected, order):
    pictures = {"image_2": png("blue"), "image_1": png(), "image_3": None}
    schema = pa.schema({"problem": pa.string(), "solution": pa.string()} | dict.fromkeys(pictures, pa.binary()))
    (record,) = read(table([{"problem": text, **pictures}], schema=schema))
    assert record.turns[0].text == expected and colours([record]) == [order]


def test_a_numbered_tag_without_its_picture_is_named():
    (message,) = refusal(table([{"problem": "<image 1> <image 4>", "image_1": png(), "image_2": png()}]))
    assert "image_2 without a tag" in message and "<image 4> without a picture" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("problem=qestion", "problem=qestion, expected one of question, .*did you mean --fields problem=question"),
        ("problem=question,solution=meta.anwser", "did you mean --fields solution=meta.answer"),
    ],
)
def test_a_mapping_to_no_column_names_the_nearest(fields, words):
    pq.write_table(pa.Table.from_pylist([{"question": "?", "meta": {"answer": "3"}}]), "a.parquet")
    with pytest.raises(DataError, match=words):
        read("a.parquet", None, fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("problem", "expected OURS=THEIRS"),
        ("=a", "expected OURS=THEIRS"),
        ("question=problem", "write problem=question"),
        ("probelm=a", "did you mean 'problem'"),
        ("problem=a,problem=b", "each field once"),
        ("image=a,images=b", "each field once"),
    ],
)
def test_what_is_no_mapping_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        renaming_of(text)


def test_a_mapping_works_for_lines_as_for_tables(folder):
    rows = [{"id": 3, "q": "<image>?", "meta": {"gold": 7}, "img": "red.png"}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), "b.parquet")
    lines, tables = read("a.jsonl:b.parquet", "pics", "problem=q,solution=meta.gold,image=img")
    assert (lines.turns, lines.solution, lines.images, lines.id) == (tables.turns, tables.solution, tables.images, "3")
    assert lines.extra == tables.extra == {"meta": {"gold": 7}}


def test_turns_of_other_projects_are_read_as_in_lines():
    talk = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "3"}]
    pq.write_table(pa.Table.from_pylist([{"image": png(), "conversations": talk}]), "a.parquet")
    chat = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "3"}]
    pq.write_table(pa.Table.from_pylist([{"image": png(), "messages": chat}]), "b.parquet")
    assert [(r.turns[0].text, r.solution) for r in read("a.parquet:b.parquet")] == [("<image>?", "3")] * 2


def test_values_that_json_lines_have_otherwise():
    from datasets import ClassLabel, Dataset, Features, Value

    columns = {"problem": Value("string"), "solution": ClassLabel(names=["cat", "dog"])}
    Dataset.from_dict({"problem": ["?"], "solution": [1]}, features=Features(columns)).to_parquet("a.parquet")
    assert read("a.parquet")[0].solution == "dog"
    rows = [{"solution": [1.5, 2.0], "level": Decimal("3.50"), "image": png(), "mask": b"\0", "when": None}]
    (record,) = read(table(rows, "b.parquet"))
    assert record.solution == "[1.5,2.0]" and record.extra == {"level": "3.50"}
    assert "2 texts" in refusal(table([{"solution": ["a", "b"]}], "c.parquet"))[0]
    schema = pa.schema({"problem": pa.string(), "solution": pa.list_(pa.int64())})
    assert read(table([{"solution": []}], "d.parquet", schema))[0].solution == "[]"


# ------------------------------------------------------------------------------------------------------- files, shards


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"PAR1" + bytes(50), "copy or download the file again"),
        (b'{"problem": "?", "solution": 1}\n', "begins with"),
    ],
)
def test_a_file_that_is_no_whole_parquet_file_is_one_problem(content, words):
    Path("a.parquet").write_bytes(content)
    (message,) = refusal("a.parquet")
    assert message.startswith("a.parquet: file: ") and words in message


def test_a_damaged_page_is_one_problem_too():
    data = bytearray(Path(table([{"image": png()}] * 50)).read_bytes())
    data[20:200] = bytes(180)
    Path("a.parquet").write_bytes(data)
    assert refusal("a.parquet")[0].startswith("a.parquet: file: ")


def test_an_empty_table_has_no_rows():
    pq.write_table(
        pa.table({"problem": pa.array([], pa.string()), "solution": pa.array([], pa.string())}), "a.parquet"
    )
    assert "no rows" in refusal("a.parquet")[0]


def test_shards_and_lines_are_one_dataset():
    for number in range(3):
        table([{"id": f"{number}-{row}", "image": png("blue")} for row in range(4)], f"s-{number}.parquet")
    Path("l.jsonl").write_text('{"id": "l", "image": "red.png", "problem": "?", "solution": "1"}\n')
    data = read("s-0.parquet:s-1.parquet:l.jsonl:s-2.parquet", "pics")
    assert [record.id for record in data][::4] == ["0-0", "1-0", "l", "2-3"]
    assert data[9].where == "s-2.parquet:1" and data[3].where == "s-0.parquet:4"
    assert colours(data) == [[BLUE]] * 8 + [[RED]] + [[BLUE]] * 4
    train, held_out = data.split(0.5, 0)
    assert {r.where for r in train}.isdisjoint({r.where for r in held_out}) and len(train) + len(held_out) == 13


@pytest.mark.parametrize("shards", ["shards", "shards/*.parquet", "./shards/", "sh*/t-?.parquet"])
def test_a_folder_or_a_pattern_stands_for_its_shards(shards):
    Path("shards").mkdir()
    for number in (1, 0):
        table([{"id": str(number)}], f"shards/t-{number}.parquet")
    table([{"id": "last"}], "z.parquet")
    assert [record.id for record in read(f"{shards}:z.parquet")] == ["0", "1", "last"]


def test_a_pattern_of_no_file_is_a_missing_file():
    assert "none*.parquet: file: got no such file" in refusal("none*.parquet")[0]


def test_rows_are_read_in_any_order_from_any_process():
    data = pickle.loads(pickle.dumps(read(table([{"id": str(i), "image": png()} for i in range(70)]))))
    assert data[69].id == "69" and data[0].id == "0"
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, data[33].id.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"33"


def test_a_table_that_changes_while_it_is_in_use_is_an_error():
    data = read(table([{}, {}]))
    table([{"problem": "Other?"}] * 2)
    with pytest.raises(DataError, match=r"a\.parquet: file: got a file that changed"):
        data[0]


def test_a_table_is_unpacked_once_and_the_fingerprint_is_of_what_it_holds(monkeypatch):
    first = read(table([{"image": png()}]))
    facts = digest(first), picture_sizes(first), picture_digest(first)
    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "_build", lambda *_: pytest.fail("unpacked again"))
        read("a.parquet")
    Path("a.parquet").rename("b.parquet")
    again = read("b.parquet")
    assert facts == (digest(again), picture_sizes(again), picture_digest(again))
    other = read(table([{"image": png("blue")}], "c.parquet"))
    assert digest(other) != facts[0]


def test_tables_that_were_not_used_for_long_leave_the_cache():
    data = read(table([{"image": png()}]))
    old = Path(data[0].folder).parent
    os.utime(old / unpacking.DONE_FILE, (0, 0))
    read(table([{"image": png("blue")}], "b.parquet"))
    assert not old.exists()


def test_a_full_disk_is_a_sentence(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "_write_rows", full)
    with pytest.raises(UsageError, match=r"a\.parquet: got No space left on device in .*OPEN_R1_CACHE"):
        read(table([{}]))


def test_the_good_rows_stay_beside_bad_ones():
    data, problems = scan_records(table([{"image": None}, {"image": b"x"}, {}]), None, progress=False)
    assert [record.where for record in data] == ["a.parquet:1", "a.parquet:3"] and len(problems) == 1


@pytest.mark.slow
def test_the_doctor_reads_tables(capsys):
    path = table([{"image": png(), "solution": "3"}, {"image": png()[:-40], "solution": "4"}])
    assert check(["--data_file_paths", path, "--attack_limit", "1"]) == 1
    said = capsys.readouterr().out
    assert "a.parquet:2" in said and "a.parquet:1" not in said
