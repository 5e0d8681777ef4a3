"""The door python -m open_r1.convert: what it says, what it refuses, where pictures are found, what it leaves."""

import gzip
import json
import shlex
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.converted import Door, talk
from helpers.imported import picture, written

from open_r1 import check
from open_r1.convert import convert_parser, main
from open_r1.data.jsonl_dataset import load_records
from open_r1.tasks.importers.formats import ANNOTATED, FOREIGN_FORMATS, OF_CONVERSATIONS
from open_r1.tasks.importers.output import NOT_IN_NAMES

ONE = talk("<image>\nHow many?", "1", image="a.png")


@pytest.fixture
def door(tmp_path, capsys) -> Door:
    return Door(tmp_path, capsys)


def test_the_report_names_files_reasons_and_the_next_commands(door):
    done = door(rows__json=[ONE, talk("n?", ""), talk("m?", ""), {**ONE, "image": "gone.png"}])
    assert done.status == 0 and "LLaVA / ShareGPT conversations (json), 1 rows" in done.said
    assert "left out: 2 x" in done.said and "left out: 1 x a picture that is not there" in done.said
    first, second, small = done.report["commands"]
    assert small.startswith(second.partition(" --model")[0] + "-try ") and "assets/tiny-vlm" in small
    assert first.startswith("python -m open_r1.check ") and second.startswith("python src/open_r1/grpo_jsonl.py ")
    assert done.report["files"] == {str(door.folder / "out" / "train.jsonl"): 1}
    assert [entry["count"] for entry in done.report["left_out"]] == [2, 1]
    assert done.report["left_out"][1]["first"][0].endswith("rows.json:4")


@pytest.mark.parametrize("name", ["out", "with space", "with:colon", "图"])
def test_the_check_that_is_printed_works_when_pasted(door, name, capsys):
    path = written(door.folder, "rows.json", [ONE, talk("<image>Is it red?", "no", image="b.jpg")])
    assert main([str(path), "--out", str(door.folder / name)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "open_r1.check" in line)
    words = shlex.split(line)
    args = check.check_parser().parse_args(words[3:])
    assert len(load_records(args.data_file_paths, args.image_folders)) == 2


def test_nothing_written_is_an_error(door):
    done = door(rows__json=[talk("n?", "")])
    assert done.status == 1 and "nothing was written" in done.said and done.report["files"] == {}
    assert not list((door.folder / "out").glob("*.jsonl"))


def test_rows_are_not_overwritten_unless_asked(door):
    path, out = written(door.folder, "rows.json", [ONE, {**ONE, "split": "val"}]), door.folder / "out"
    assert main([str(path), "--out", str(out)]) == 0
    before = (out / "train.jsonl").read_text()
    assert main([str(path), "--out", str(out)]) == 1 and (out / "train.jsonl").read_text() == before
    written(door.folder, "rows.json", [{**ONE, "id": "new"}])
    assert main([str(path), "--out", str(out), "--overwrite"]) == 0
    assert "new" in (out / "train.jsonl").read_text() and not (out / "val.jsonl").exists()
    assert main([str(path), "--out", str(path), "--overwrite"]) == 1


@pytest.mark.parametrize(
    ("split", "name"),
    [("train", "train"), ("validation", "val"), ("test", "test"), ("../../x", "_x"), ("", "train"), (3, "train")],
)
def test_splits_are_files(door, split, name):
    done = door(rows__json=[{**ONE, "split": split}])
    assert done.status == 0 and [*done.report["files"]] == [str(door.folder / "out" / f"{name}.jsonl")]


@pytest.mark.parametrize(
    ("file", "name"), [("llava_val.json", "val"), ("train-00000-of-2.json", "train"), ("x.json", "train")]
)
def test_a_file_that_is_named_after_a_split(door, file, name):
    path = written(door.folder, file, [ONE])
    assert main([str(path), "--out", str(door.folder / "out")]) == 0
    assert (door.folder / "out" / f"{name}.jsonl").is_file()


def test_several_files_go_together(door):
    done = door(train__json=[ONE], more_train__jsonl=[ONE, ONE], val__json=[{"problem": "n?", "answer": "1"}])
    assert len(done.rows) == 4 and len(done.report["files"]) == 2 and len(done.report["sources"]) == 3


def test_a_folder_of_shards(door):
    for number in range(2):
        path = door.folder / "hub" / "data" / f"train-0000{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"problem": "n?", "answer": "1"}]), path)
    assert main([str(door.folder / "hub"), "--out", str(door.folder / "out")]) == 0
    assert len((door.folder / "out" / "train.jsonl").read_text().splitlines()) == 2


def test_a_saved_data_set_with_its_pictures(door, capsys):
    from datasets import Dataset, Features, Image, Value

    features = Features({"image": Image(), "problem": Value("string"), "solution": Value("string")})
    rows = [{"image": str(door.folder / "images" / "a.png"), "problem": "n?", "solution": "1"}]
    Dataset.from_list(rows, features=features).save_to_disk(str(door.folder / "saved"))
    assert main([str(door.folder / "saved"), "--out", str(door.folder / "out")]) == 0
    assert "EasyR1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[{"a": 1}', "broken JSON"),
        ("a.json", "{}", "expected a file with rows"),
        ("a.json", "[]", "expected a file with rows"),
        ("a.json", '[{"foo": 1, "bar": 2}]', "fields foo, bar"),
        ("a.json", '{"problem": "n?"}', "expected a known format"),
        ("a.txt", "some words", "expected a known format"),
        ("a.csv", "x,y\n1,2\n", "fields x, y"),
        ("a.xml", "<a></a>", "expected a known format"),
        ("a.json", "", "expected a file with rows"),
        ("a.jsonl", "\ufeff\n\n", "expected a file with rows"),
        ("a.parquet", "PAR1 no", "broken parquet"),
        ("a.bin", "\x00\x01", "expected a known format"),
    ],
)
def test_sources_without_a_format_are_told_what_they_hold(door, name, content, said):
    path = written(door.folder, name, content)
    if not content:
        path.write_text("")
    done = door(**{name.replace(".", "__"): content})
    assert done.status == 1 and said in done.said and "Traceback" not in done.said


def test_packed_sources_are_named(door):
    with zipfile.ZipFile(door.folder / "x.zip", "w") as packed:
        packed.writestr("a.json", "[]")
    (door.folder / "x.json.gz").write_bytes(gzip.compress(b"[]"))
    (door.folder / "x16.json").write_bytes(json.dumps([ONE]).encode("utf-16"))
    for name, said in (("x.zip", "unzip"), ("x.json.gz", "gunzip"), ("x16.json", "iconv")):
        done = door.convert(name)
        assert done.status == 1 and said in done.said


def test_csv_in_another_encoding(door):
    done = door(r__csv="question,answer\nWo?,Köln\n".encode("latin1"))
    assert done.status == 1 and "UTF-8" in done.said and "iconv" in done.said


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--from", "lava"], 2, "did you mean 'llava'"),
        (["--fields", "problem"], 2, "OURS=THEIRS"),
        (["--fields", "problem=q", "--from", "llava"], 1, "leave --fields or --from out"),
        (["--task", "seg"], 1, "leave --task out"),
        (["--image_folder", "nowhere"], 1, "which is no folder"),
    ],
)
def test_flags_that_cannot_act_are_refused(door, flags, status, said, capsys):
    path = written(door.folder, "rows.json", [ONE])
    try:
        got = main([str(path), "--out", str(door.folder / "out"), *flags])
    except SystemExit as error:
        got = error.code
    assert got == status and said in "".join(capsys.readouterr())


def test_turns_of_what_has_none_and_a_missing_file(door, capsys):
    assert "leave --turns out" in door("--turns", "all", r__json=[{"problem": "n?", "answer": "1"}]).said
    assert main([str(door.folder / "gone.json"), "--out", str(door.folder / "o")]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(FOREIGN_FORMATS))
def test_every_format_is_classified_and_none_fits_a_stray_row(door, name):
    assert {*ANNOTATED, *OF_CONVERSATIONS} <= FOREIGN_FORMATS.keys()
    assert FOREIGN_FORMATS[name].title and name in convert_parser().format_help().replace("\n", "").replace(" ", "")


def test_a_name_that_means_several_files(door):
    picture(door.folder, "images/x/same.png")
    picture(door.folder, "images/y/same.png")
    done = door(rows__json=[{**ONE, "image": "same.png"}, {**ONE, "image": "x/same.png"}])
    assert len(done.rows) == 1 and "several files" in done.said and done.rows[0]["image"] == "x/same.png"


def test_links_and_paths_that_leave_the_folder(door, tmp_path_factory):
    outside = picture(tmp_path_factory.mktemp("outside"), "secret.png")
    (door.folder / "images" / "link.png").symlink_to(outside)
    rows = [{**ONE, "image": name} for name in ("link.png", str(outside), f"../../{outside.name}")]
    done = door(rows__json=[ONE, *rows])
    assert len(done.rows) == 1 and done.reasons == {"a picture that is not there": 3}
    found = door("--image_folder", str(outside.parent), rows__json=rows[1:])
    assert [row["image"] for row in found.rows] == ["secret.png"] * 2


def test_damaged_pictures_are_left_out(door):
    data = (door.folder / "images" / "d.jpg").read_bytes()
    (door.folder / "images" / "cut.jpg").write_bytes(data[: len(data) // 2])
    (door.folder / "images" / "empty.png").write_bytes(b"")
    done = door(rows__json=[ONE, {**ONE, "image": "cut.jpg"}, {**ONE, "image": "empty.png"}])
    assert len(done.rows) == 1 and sum(done.reasons.values()) == 2


def test_fields_are_kept_where_asked(door):
    row = {**ONE, "level": 3, "source": "x"}
    assert "level" not in door(rows__json=[row]).rows[0]
    assert door("--keep", "level", rows__json=[row]).rows[0]["level"] == 3


def test_names_of_files_are_safe():
    assert NOT_IN_NAMES.sub("_", "../a b/c") == "_a_b_c"


SHARED = "llava_array sharegpt sharegpt_from qwen_vl_old mmmu win tag_in_multi swift_objects bbox2d zh mixed chat_rel"


@pytest.mark.parametrize("name", SHARED.split())
def test_examples_as_people_have_them_become_sound_rows(shared, door, name):
    (path,) = sorted((shared / "foreign").glob(f"{name}.json*"))[:1]
    done = door.convert(path)
    assert done.status == 0 and done.report["left_out"] == []
