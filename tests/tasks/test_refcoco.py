"""The public forms of RefCOCO become our lines; a pickle that would run code is refused."""

import importlib
import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.repository import REPO, run_script
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.rewards.gold import gold_score

QUESTION = "Please provide the bounding box coordinate of the region this sentence describes: {}."


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module: a process for each case would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPO / "local_scripts")
        yield importlib.import_module("prepare_refcoco")


@pytest.fixture
def convert(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the script; gives what it prints."""

    def run(*args: object, out: Path) -> str:
        script.main([*map(str, args), "--out", str(out)])
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(script: ModuleType) -> Callable[..., str]:
    """Runs the script, which must fail and leave no line behind; gives what it says."""

    def run(*args: object, out: Path) -> str:
        with pytest.raises(SystemExit) as stopped:
            script.main([*map(str, args), "--out", str(out)])
        assert isinstance(stopped.value.code, str) and not list(out.glob("*.jsonl"))
        return stopped.value.code

    return run


def read(out: Path, folder: Path) -> dict[str, list[dict]]:
    """Rows by file name, after they have passed our reader and their gold answers have earned the maximum."""
    files = sorted(out.glob("*.jsonl"))
    for record in load_records(list(map(str, files)), str(folder), reward_methods="rec"):
        assert gold_score(record) == (1, 1)
    return {file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def jpeg(color: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return buffer.getvalue()


def sentences(*texts: str) -> list[dict]:
    return [{"sent": text, "raw": text.upper(), "tokens": text.split(), "sent_id": k} for k, text in enumerate(texts)]


def ref(number: int, split: str, *texts: str, **fields: object) -> dict:
    name = f"COCO_train2014_00000000000{number}_{number}7.jpg"
    defaults = {"ref_id": number, "ann_id": number * 10, "image_id": number, "category_id": 1, "file_name": name}
    return {**defaults, "sent_ids": [0], "sentences": sentences(*texts), "split": split, **fields}


REFS = [ref(1, "train", "the cat", "cat on the left."), ref(2, "testA", "a man"), ref(3, "testB", "猫")]


@pytest.fixture
def refer(tmp_path: Path) -> Path:
    """A folder of the refer toolbox with three images, whose files are empty."""
    images = [
        {"id": k, "width": 640, "height": 480, "file_name": f"COCO_train2014_00000000000{k}.jpg"} for k in (1, 2, 3)
    ]
    annotations = [{"id": k * 10, "image_id": k, "bbox": [10.126, 20.0, 30.5, 40.0 + k]} for k in (1, 2, 3)]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "coco" / "train2014").mkdir(parents=True)
    for image in images:
        (tmp_path / "coco" / "train2014" / image["file_name"]).touch()
    return tmp_path


def pickled(folder: Path, content: bytes) -> tuple[object, ...]:
    """The arguments for these bytes as a refs pickle."""
    path = folder / "refs(unc).p"
    path.write_bytes(content)
    return path, "--instances", folder / "instances.json", "--image_prefix", "train2014"


@pytest.mark.parametrize("protocol", range(6))
def test_refs_pickle(convert, refer, protocol):
    message = convert(*pickled(refer, pickle.dumps(REFS, protocol)), "--name", "refcoco+", out=refer / "out")
    assert "2 rows written to" in message
    rows = read(refer / "out", refer / "coco")
    assert {name: len(lines) for name, lines in rows.items()} == {
        "refcoco+_train.jsonl": 2,
        "refcoco+_testA.jsonl": 1,
        "refcoco+_testB.jsonl": 1,
    }
    assert rows["refcoco+_train.jsonl"][1] == {
        "id": "refcoco+-train-1",
        "image": "train2014/COCO_train2014_000000000001.jpg",
        "conversations": [
            {"from": "human", "value": "<image>" + QUESTION.format("cat on the left")},
            # x 10.126, y 20, w 30.5, h 41: 10.126 + 30.5 = 40.626
            {"from": "gpt", "value": "[10.13, 20.0, 40.63, 61.0]"},
        ],
        "ref_id": 1,
        "ann_id": 10,
        "sentence": "cat on the left.",
        "split": "train",
        "image_wh": [640, 480],
    }
    assert rows["refcoco+_testB.jsonl"][0]["sentence"] == "猫"


def test_a_pickle_of_python_2_is_read(convert, refer):
    # byte strings, as Python 2's protocol 0 writes its texts
    old = b"(lp0\n(dp1\nS'ref_id'\np2\nI1\nsS'ann_id'\nI10\nsS'image_id'\nI1\nsS'split'\nS'val'\ns"
    old += b"S'sentences'\n(lp3\n(dp4\nS'sent'\nS'the cat'\nsasa."
    convert(*pickled(refer, old), out=refer / "out")
    (row,) = read(refer / "out", refer / "coco")["refcoco_val.jsonl"]
    assert row["sentence"] == "the cat"


class Hostile:
    """What an attacker puts into a pickle."""

    def __init__(self, call: object, *args: object):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("call", "name"), [(os.system, "system"), (eval, "eval"), (os.mkdir, "mkdir")])
def test_a_hostile_pickle_is_refused_and_runs_nothing(refused, refer, protocol, call, name):
    victim = refer / "victim"
    argument = {"system": f"mkdir {victim}", "eval": f"__import__('os').mkdir({str(victim)!r})", "mkdir": str(victim)}
    content = pickle.dumps([*REFS, Hostile(call, argument[name])], protocol)
    message = refused(*pickled(refer, content), out=refer / "out")
    assert (
        "refs(unc).p: pickle: got it names" in message and name in message and "expected plain values only" in message
    )
    assert not victim.exists()
    pickle.loads(content)  # the same bytes do run under pickle itself
    assert victim.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "refs(unc).p: pickle: got"),
        (pickle.dumps(REFS)[:200], "refs(unc).p: pickle: got"),
        (b"\x80\x04\x82\x01.", "refs(unc).p: pickle: got"),  # a code of the extension registry
        (b"cos\nsystem\n(S'true'\ntR.", "it names os.system"),
        (pickle.dumps({"a": 1}), "pickle: got dict, expected a list of refs"),
        (pickle.dumps([7]), "refs(unc).p:1: row: got 7"),
        (pickle.dumps([*REFS, ref(4, "val", "x")]), "refs(unc).p:4: ann_id: got 40, expected an id of"),
        (pickle.dumps([ref(1, "val", "x", ann_id=[10])]), "refs(unc).p:1: ann_id: got [10], expected an id of"),
        (pickle.dumps([ref(1, "minival", "x")]), "refs(unc).p:1: split: got 'minival', expected one of train, val"),
        (pickle.dumps([ref(1, "val")]), "refs(unc).p:1: sentences: got [], expected at least one sentence"),
        (pickle.dumps([ref(1, "val", " ")]), "refs(unc).p:1: sentences: got [{'sent': ' '"),
        (pickle.dumps([{"ann_id": 10}]), "refs(unc).p:1: image_id: got nothing (the row has: ann_id)"),
    ],
)
def test_bad_refs_are_named(refused, refer, content, said):
    assert said in refused(*pickled(refer, content), out=refer / "out")


def test_boxes_without_an_area_and_without_numbers_are_named_together(refused, refer):
    instances = json.loads((refer / "instances.json").read_text())
    for annotation, box in zip(instances["annotations"], ([1, 2, 0, 4], [1, 2, 3], [1, 2, "3", 4]), strict=True):
        annotation["bbox"] = box
    (refer / "instances.json").write_text(json.dumps(instances))
    message = refused(*pickled(refer, pickle.dumps(REFS)), out=refer / "out")
    assert "refs(unc).p:1: bbox: got [1, 2, 1, 6], expected a box with an area" in message
    assert "refs(unc).p:2: bbox: got [1, 2, 3], expected four numbers" in message
    assert "refs(unc).p:3: bbox: got [1, 2, '3', 4], expected four numbers" in message


def test_instances_are_asked_for(refused, refer):
    (refer / "refs.p").write_bytes(pickle.dumps(REFS))
    assert "--instances: got nothing, expected the instances.json" in refused(refer / "refs.p", out=refer / "out")


def lmms(number: int, *texts: str, **fields: object) -> dict:
    name = f"COCO_val2014_00000000000{number}_{number}.jpg"
    picture = {"bytes": jpeg("red" if number % 2 else "blue"), "path": name}
    defaults = {"question_id": str(number), "image": picture, "question": "", "answer": list(texts)}
    return {
        **defaults,
        "bbox": [1.0, 2.0, 30.0, 40.0],
        "file_name": name,
        "segmentation": [1.0],
        "iscrowd": 0,
        **fields,
    }


def parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_lmms_parquet_with_images_inside(convert, tmp_path):
    same = {"file_name": "COCO_val2014_000000000001_9.jpg"}  # another region of image 1
    first = parquet(
        tmp_path / "val-00000-of-00001.parquet",
        [lmms(1, "left one", "a cat"), lmms(2, "dog"), lmms(1, "man", bbox=[0.0, 0.0, 5.5, 5.0], **same)],
    )
    second = parquet(tmp_path / "testA-00000-of-00001-ab12.parquet", [lmms(3, "boy")])
    out = tmp_path / "out"
    convert(first, second, "--name", "refcocog", out=out)
    rows = read(out, out)
    assert {name: len(lines) for name, lines in rows.items()} == {"refcocog_val.jsonl": 4, "refcocog_testA.jsonl": 1}
    row = rows["refcocog_val.jsonl"][3]
    assert row["image"] == "images/COCO_val2014_000000000001.jpg" and row["image_wh"] == [64, 48]
    assert row["conversations"][1]["value"] == "[0.0, 0.0, 5.5, 5.0]" and row["question_id"] == "1"
    assert row["conversations"][0]["value"] == "<image>" + QUESTION.format("man")
    size = sorted(path.name for path in (out / "images").iterdir())
    assert size == [f"COCO_val2014_00000000000{k}.jpg" for k in (1, 2, 3)]
    assert (out / "images" / size[0]).read_bytes() == jpeg("red")


def jxu(number: int, split: str, *texts: str, **fields: object) -> dict:
    row = ref(number, split, *texts)
    info = json.dumps({"width": 640, "height": 480, "file_name": row["file_name"]})
    return {**row, "bbox": [1.0, 2.0, 31.0, 42.0], "raw_image_info": info, "captions": list(texts), **fields}


def test_jxu_parquet(convert, refer):
    path = parquet(
        refer / "part.parquet", [jxu(1, "train", "the cat", "it"), jxu(2, "val", "a man"), jxu(3, "test", "b")]
    )
    convert(path, "--image_prefix", "train2014", out=refer / "out")
    rows = read(refer / "out", refer / "coco")
    assert set(rows) == {"refcoco_train.jsonl", "refcoco_val.jsonl", "refcoco_test.jsonl"}
    row = rows["refcoco_train.jsonl"][1]
    assert row["conversations"][1]["value"] == "[1.0, 2.0, 31.0, 42.0]"  # x1, y1, x2, y2 already
    assert row["image"] == "train2014/COCO_train2014_000000000001.jpg"
    assert (row["ref_id"], row["sentence"], row["split"], row["image_wh"]) == (1, "it", "train", [640, 480])


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        (
            "val.parquet",
            [{"image": "x", "caption": "y"}],
            "columns: got caption, image, expected answer, bbox, file_name",
        ),
        ("part-0.parquet", [lmms(1, "x")], "split: got a name without a split, expected one of train, val"),
        ("val.parquet", [lmms(1)], "val.parquet:1: answer: got []"),
        (
            "val.parquet",
            [lmms(1, "x", image={"bytes": b"no image"})],
            "val.parquet:1: image: got cannot identify image",
        ),
        ("val.parquet", [lmms(1, "x", image={"path": "a.jpg"})], "val.parquet:1: image: got {'path': 'a.jpg'}"),
        ("val.parquet", [lmms(1, "x", bbox=[1.0, 2.0, -3.0, 4.0])], "val.parquet:1: bbox: got [1.0, 2.0, -2.0, 6.0]"),
        ("val.parquet", [lmms(1, "x", bbox=[1.0, float("nan"), 3.0, 4.0])], "val.parquet:1: bbox: got [1.0, nan,"),
        (
            "val.parquet",
            [lmms(1, "x"), lmms(2, "y", file_name="COCO_val2014_000000000001_5.jpg")],
            "val.parquet:2: file_name: got 'COCO_val2014_000000000001.jpg' with other bytes than before",
        ),
        ("val.parquet", [jxu(1, "first", "x")], "val.parquet:1: split: got 'first'"),
    ],
)
def test_bad_parquet_is_named(refused, tmp_path, name, rows, said):
    assert said in refused(parquet(tmp_path / name, rows), out=tmp_path / "out")


def test_split_may_be_given(convert, tmp_path):
    convert(parquet(tmp_path / "part-0.parquet", [lmms(1, "x")]), "--split", "testB", out=tmp_path / "out")
    assert (tmp_path / "out" / "refcoco_testB.jsonl").exists()


@pytest.mark.parametrize("name", ["val.parquet", "val.json", "refs.p", "val.csv", "absent_val.json"])
def test_damaged_and_unknown_files_are_named(refused, tmp_path, name):
    if "absent" not in name:
        (tmp_path / name).write_bytes(b"\x00 neither")
    (tmp_path / "instances.json").write_text('{"images": [{"id": 1}], "annotations": [{"id": 1, "bbox": []}]}')
    assert name in refused(tmp_path / name, "--instances", tmp_path / "instances.json", out=tmp_path / "out")


def test_file_names_cannot_leave_the_folder(convert, tmp_path):
    path = parquet(tmp_path / "val.parquet", [lmms(1, "x", file_name="../../../escaped.jpg")])
    convert(path, out=tmp_path / "a" / "out")
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("escaped.jpg")] == ["a/out/images/escaped.jpg"]


def test_rec_jsons_with_null_solutions(convert, refused, shared, tmp_path):
    source = shared / "refcocos" / "refcocos_test.json"
    source_rows = json.loads(source.read_text())
    out = tmp_path / "out"
    message = refused(source, "--name", "refcocos", out=out)
    nulls = [number for number, row in enumerate(source_rows, start=1) if row["solution"] is None]
    first, *others = nulls
    assert f"refcocos_test.json:{first}: solution: got null (and {len(others)} alike, in lines" in message
    assert len(nulls) == 16 and ", ".join(map(str, others[:5])) in message and "expected a box" in message
    output = convert(source, "--name", "refcocos", "--skip_unanswered", "--image_prefix", "coco", out=out)
    assert "157 rows written" in output and "16 without a box left out" in output
    answered = [row for row in source_rows if row["solution"] is not None]
    for row in answered:
        image = tmp_path / "coco" / row["image"]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    (rows,) = read(out, tmp_path).values()
    for row, source_row in zip(rows, answered, strict=True):
        assert json.loads(row["conversations"][1]["value"]) == pytest.approx(source_row["solution"], abs=0.005)
        assert row["conversations"][0]["value"] == "<image>" + source_row["problem"]
        assert row["image"] == f"coco/{source_row['image']}" and row["sentence"] == source_row["normal_caption"]
        assert row["image_wh"] == [source_row["width"], source_row["height"]] and row["split"] == "test"


def test_rec_jsons_keep_tags_and_find_the_sentence(convert, tmp_path):
    rows = [
        {"image": "a/COCO_train2014_000000581857_16.jpg", "problem": QUESTION.format("it"), "solution": [1, 2, 3, 4]},
        {"image": "b.jpg", "problem": "Where in <image> is it?", "solution": [1, 2, 3, 4], "annotation_id": 7},
    ]
    (tmp_path / "refcocop_train.json").write_text(json.dumps(rows))
    for name in ("a/COCO_train2014_000000581857.jpg", "b.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    convert(tmp_path / "refcocop_train.json", "--name", "refcocop", out=tmp_path / "out")
    first, second = read(tmp_path / "out", tmp_path / "images")["refcocop_train.jsonl"]
    assert (first["image"], first["sentence"]) == (
        "a/COCO_train2014_000000581857.jpg",
        "it",
    ) and "image_wh" not in first
    assert second["conversations"][0]["value"] == "Where in <image> is it?" and second["ann_id"] == 7


def test_the_command(tmp_path):
    (tmp_path / "val.json").write_text(json.dumps([{"image": "b.jpg", "problem": "Where?", "solution": [1, 2, 3, 4]}]))
    (tmp_path / "b.jpg").touch()
    run_script("local_scripts/prepare_refcoco.py", tmp_path / "val.json", "--out", tmp_path / "out")
    (record,) = load_records(str(tmp_path / "out" / "refcoco_val.jsonl"), str(tmp_path))
    assert record.images == ("b.jpg",) and record.turns[0].text == "<image>Where?"
