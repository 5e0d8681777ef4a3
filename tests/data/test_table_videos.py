"""Videos within parquet files and datasets are read as pictures are: unpacked once, by content, in every form."""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.clips import moving_square, tiny_with_videos, write_clip
from PIL import Image

from open_r1 import grpo
from open_r1.check import main as check
from open_r1.data.field_names import renaming_of
from open_r1.data.hub_dataset import load_hub_records
from open_r1.data.images import load_images
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.data.tables.rows import parquet_table
from open_r1.data.video.files import load_videos
from open_r1.data.video.types import FrameSampling
from open_r1.errors import DataError, UsageError

CODECS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "ts": "mpeg2video"}
CODECS |= {"mpg": "mpeg2video", "flv": "flv", "wmv": "wmv2", "gif": "", "mts": "mpeg2video"}
ENDINGS = {"mov": "mp4", "webm": "mkv", "mts": "ts"}  # that content tells otherwise than the name
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a.mp4 and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPEN_R1_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.mp4").write_bytes(clip())
    return tmp_path


def clip(ending: str = "mp4", way: str = "right") -> bytes:
    """The bytes of a clip of 8 frames."""
    path, pixels = Path(f"made.{ending}"), moving_square(way)
    if ending == "gif":
        first, *others = map(Image.fromarray, pixels)
        first.save(path, save_all=True, append_images=others, duration=125)
    else:
        rate = 25.0 if ending in ("mpg", "ts", "mts") else 8.0
        write_clip(path, pixels, rate, CODECS[ending])
    data = path.read_bytes()
    path.unlink()
    return data


def stills(count: int = 4) -> list[dict[str, Any]]:
    """The frames of a video as pictures of a table."""
    made = []
    for pixels in moving_square(frames=count):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        made.append({"bytes": file.getvalue(), "path": None})
    return made


def table(rows: list[dict], schema: pa.Schema | None = None) -> str:
    plain = [{"problem": "What happens?", "solution": "left"} | row for row in rows]
    pq.write_table(pa.Table.from_pylist(plain, schema), "a.parquet")
    return "a.parquet"


def read(path: str, folder: str | None = None, fields: str = "") -> list[Record]:
    return list(load_records(path, folder, renaming=renaming_of(fields), progress=False))


def frames(records: list[Record]) -> list[list[tuple[int, ...]]]:
    """The shape of the frames of each video of each record."""
    return [[video.pixels.shape for video in videos] for videos in load_videos(records, FrameSampling())]


def refusal(path: str, folder: str | None = None, fields: str = "") -> str:
    with pytest.raises(DataError) as caught:
        read(path, folder, fields)
    return str(caught.value.problems[0])


FORMS = {
    "bytes": lambda: clip(),
    "struct": lambda: {"bytes": clip(), "path": "elsewhere/a.mp4"},
    "numbers": lambda: list(clip()),
    "base64": lambda: base64.b64encode(clip()).decode(),
    "data URI": lambda: "data:video/mp4;base64," + base64.b64encode(clip()).decode(),
    "path": lambda: "a.mp4",
    "struct of a path": lambda: {"bytes": None, "path": "a.mp4"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("column", ["video", "videos"])
def test_a_video_is_read_in_every_form(form, column):
    cell = FORMS[form]()
    (record,) = read(table([{column: [cell, cell] if column == "videos" else cell}]), ".")
    assert frames([record]) == [[(4, 48, 64, 3)] * (1 + (column == "videos"))]
    assert (record.folder == ".") == ("path" in form)


@pytest.mark.parametrize("ending", CODECS)
def test_a_file_is_named_by_its_content(ending):
    (record,) = read(table([{"video": {"bytes": clip(ending), "path": "x.bin"}, "video_end": None}]))
    (video,) = record.videos
    assert Path(video.paths[0]).suffix[1:] == ENDINGS.get(ending, ending)
    assert frames([record])[0][0][1:] == (48, 64, 3)


def test_lists_of_pictures_are_the_frames_of_a_video():
    schema = pa.schema({"problem": pa.string(), "solution": pa.string(), "video": pa.list_(STRUCT), "fps": pa.int64()})
    (record,) = read(table([{"video": stills(), "fps": 2}], schema))
    (video,) = record.videos
    assert video.of_frames and len(video.paths) == 4 and frames([record]) == [[(4, 48, 64, 3)]]
    (record,) = read(table([{"videos": [stills(), stills(6)]}]))
    assert [len(video.paths) for video in record.videos] == [4, 6]
    (own,) = load_videos([record], FrameSampling())
    assert np.array_equal(own[0].pixels[0], moving_square(frames=4)[0])


def test_pictures_and_videos_of_a_row_lie_together_and_each_is_stored_once(folder):
    picture = stills(1)[0]
    row = {"video": clip(), "images": [picture], "problem": "Is <image> in <video>?"}
    records = read(table([row, row, {"video": clip(way="left"), "images": None}]))
    assert [(len(record.images), len(record.videos)) for record in records] == [(1, 1), (1, 1), (0, 1)]
    assert len(load_images(records[:1])[0]) == 1 and len(frames(records)) == 3
    assert sorted(path.suffix for path in (folder / "cache").rglob("pictures/*/*")) == [".mp4", ".mp4", ".png"]


def test_videos_within_the_parts_of_a_message():
    part = {"type": "video", "video": {"bytes": clip(), "path": None}, "text": None}
    turns = [{"role": "user", "content": [part, {"type": "text", "video": None, "text": "What?"}]}]
    turns += [{"role": "assistant", "content": [{"type": "text", "video": None, "text": "left"}]}]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), "a.parquet")
    (record,) = read("a.parquet")
    assert record.turns[0].text == "<video>What?" and frames([record]) == [[(4, 48, 64, 3)]]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (b"", "got 0 bytes, expected MP4, WebM, AVI or another container"),
        (b"no video, no picture", "20 bytes that are no video"),
        (b"<!DOCTYPE html><html>sign in", "28 bytes, a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"ID3\x04" + bytes(60), "sound without pictures (MP3)"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ("https://example.com/a.mp4", "nothing is fetched"),
        ("data:video/mp4;base64,@@@", "base64 of a video"),
        ("missing.mp4", "an existing file under"),
        ("../a.mp4", "without '..'"),
        (7, "got 7, expected bytes"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_video_is_named_with_its_row(cell, words):
    message = refusal(table([{"video": None}, {"video": cell}]), ".")
    assert message.startswith("a.parquet:2: video: ") and words in message


def test_the_source_of_a_picture_may_be_an_address():
    row = {"image": stills(1)[0], "video": "https://example.com/a.mp4", "timestamp": 2.5, "problem": "<image>What?"}
    (record,) = read(table([row]))
    assert len(record.images) == 1 and record.videos == ()


def test_files_of_videos_beside_media_within_the_table_are_refused_with_the_row():
    rows = [{"video": {"bytes": clip(), "path": None}}, {"video": {"bytes": None, "path": "a.mp4"}}]
    assert refusal(table(rows), ".").startswith("a.parquet:2: video: got files of videos, and pictures or videos")


def test_a_column_of_another_name_is_suggested_and_read():
    path = table([{"clip_bytes": clip()}])
    assert "name the column of videos, --fields videos=clip_bytes, or leave clip_bytes out" in refusal(path)
    assert frames(read(path, fields="video=clip_bytes")) == [[(4, 48, 64, 3)]]


def test_few_rows_with_large_videos_are_in_memory_at_once(monkeypatch):
    path = table([{"video": clip() + np.random.default_rng(number).bytes(9_000)} for number in range(40)])
    monkeypatch.setattr("open_r1.data.tables.rows.BYTES_AT_ONCE", 100_000)
    sizes = [len(batch) for batch in parquet_table(path).batches()]
    assert sum(sizes) == 40 and 1 < max(sizes) < 11 and len(read(path)) == 40


# ------------------------------------------------------------------------------------------------------------ datasets


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_a_feature_of_videos_needs_no_decoder_of_datasets(folder, monkeypatch, form):
    from datasets import Dataset, Features, List, Value, Video

    monkeypatch.setitem(sys.modules, "torchcodec", None)
    for kind, cell in ((Video(), clip()), (Video(decode=False), clip()), (List(Video()), [clip(), clip(way="up")])):
        columns = Features({"videos": kind, "problem": Value("string"), "solution": Value("string")})
        stored = [{"bytes": data, "path": None} for data in (cell if isinstance(cell, list) else [cell])]
        value = stored if isinstance(cell, list) else stored[0]
        rows = Dataset.from_dict({"videos": [value], "problem": ["What?"], "solution": ["left"]}, features=columns)
        place = folder / f"{form}-{type(kind).__name__}-{getattr(kind, 'decode', '')}"
        rows.save_to_disk(place) if form == "folder" else pq.write_table(rows.data.table, f"{place}.parquet")
        name = str(place) if form == "folder" else f"{place}.parquet"
        assert frames(list(load_hub_records(name, None, "train", None))) == [[(4, 48, 64, 3)] * len(stored)]


@pytest.mark.slow
def test_the_scripts_take_a_parquet_of_clips(folder, capsys):
    path = table([{"video": {"bytes": clip(way=way), "path": None}, "solution": way} for way in ("left", "up")] * 2)
    check(["--data_file_paths", path])
    said = capsys.readouterr().out
    assert "frames of a video" in said and "0 defects" in said
    command = f"--dataset_name {path} --model_name_or_path {tiny_with_videos(folder / 'model')} --output_dir out"
    command += " --num_generations 4 --per_device_train_batch_size 8 --max_steps 1 --max_completion_length 4"
    grpo.main([*command.split(), "--save_strategy", "no", "--report_to", "none", "--reward_funcs", "accuracy"])
    (group, *_) = [json.loads(line) for line in (folder / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert group["where"].startswith("a.parquet:") and group["videos"][0]["sampled"] == 4


def test_a_damaged_video_is_named_with_its_row():
    records = read(table([{"video": clip()}, {"video": clip()[:900]}]))
    with pytest.raises((DataError, UsageError), match=r"a\.parquet:2: video: "):
        load_videos(records, FrameSampling())
