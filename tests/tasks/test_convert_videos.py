"""Rows with videos of LLaVA-Video, ms-swift and Video-R1 become rows of this project, which the doctor finds sound."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.clips import moving_square, write_clip
from helpers.converted import Converted, Door, talk
from helpers.imported import picture

from open_r1.check import main as check
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.video.types import Video


@pytest.fixture
def door(tmp_path, capsys) -> Door:
    made = Door(tmp_path, capsys)
    for name in ("videos/a.mp4", "videos/deep/b.mp4"):
        write_clip(tmp_path / name, moving_square())
    for number in range(3):
        picture(tmp_path, f"images/frames/{number}.png", (64, 48))
    return made


def read(door: Door, done: Converted) -> list[tuple[tuple[Video, ...], str]]:
    """(videos, prompt) of each row as training reads it; the doctor finds nothing."""
    file, folder = str(door.folder / "out" / "train.jsonl"), done.report["image_folder"]
    assert check(["--data_file_paths", file, "--image_folders", folder, "--attack_limit", "1"]) == 0
    return [(record.videos, record.turns[0].text) for record in load_records(file, folder)]


def names(row: dict) -> object:
    return row.get("video", row.get("videos"))


def test_llava_videos_place_of_a_picture_is_that_of_the_video(door):
    rows = [talk("<image>\nWhich way?", "left", video="a.mp4", id="1", data_source="x")]
    done = door(llava__json=[*rows, talk("Which way?", "up", video="deep/b.mp4", id="2")])
    assert done.status == 0 and [names(row) for row in done.rows] == ["a.mp4", "deep/b.mp4"]
    assert "--model_name_or_path assets/tiny-vlm-motion" in done.said  # whose chat template writes videos
    (first, asked), (second, untagged) = read(door, done)
    assert asked == "<video>\nWhich way?" and untagged == "Which way?"
    assert first[0].paths == ("a.mp4",) and second[0].paths == ("deep/b.mp4",)


def test_videos_within_a_parquet_file_become_files(door):
    """One file, several, and the pictures of frames, as `datasets` stores them."""
    clip = {"bytes": (door.folder / "videos" / "a.mp4").read_bytes(), "path": None}
    frames = [{"bytes": path.read_bytes(), "path": None} for path in sorted((door.folder / "images/frames").iterdir())]
    row = {"problem": "<video>Which way?", "solution": "left"}
    pq.write_table(
        pa.Table.from_pylist([row | {"videos": [clip]}, row | {"videos": frames}]), door.folder / "a.parquet"
    )
    done = door.convert("a.parquet")
    assert done.status == 0 and names(done.rows[0]).endswith(".mp4") and len(names(done.rows[1])) == 3
    assert [len(videos[0].paths) for videos, _ in read(door, done)] == [1, 3]


def test_ms_swift_lists_videos(door):
    turns = [{"role": "user", "content": "<video>Which?<video>"}, {"role": "assistant", "content": "the first"}]
    mixed = [{"role": "user", "content": "Is <image> in <video>?"}, {"role": "assistant", "content": "no"}]
    rows = [
        {"messages": turns, "videos": ["a.mp4", "deep/b.mp4"]},
        {"messages": mixed, "videos": ["a.mp4"], "images": ["a.png"]},
        {"query": "<video>Which way?", "response": "up", "videos": ["a.mp4"]},
    ]
    done = door(chat__jsonl=rows[:2])
    assert [names(row) for row in done.rows] == [["videos/a.mp4", "videos/deep/b.mp4"], "videos/a.mp4"]
    assert done.rows[1]["image"] == "images/a.png"
    assert read(door, done)[1][1] == "Is <image> in <video>?"
    done = door("--overwrite", query__jsonl=rows[2:])
    assert names(done.rows[0]) == "a.mp4" and done.golds == ["up"]


def video_r1(**fields: object) -> dict:
    plain = {"problem_id": 7, "problem": "Which way does it move?", "data_type": "video", "options": []}
    plain |= {"problem_type": "free-form", "solution": "<answer>left</answer>", "path": "./a.mp4", "data_source": "x"}
    return plain | fields


def test_video_r1_has_options_and_golds_in_tags(door):
    options = ["A. left", "B. right"]
    rows = [
        video_r1(problem_type="multiple choice", options=options, solution="<answer>B</answer>"),
        video_r1(problem_type="numerical", problem="How often?", solution="<answer>3</answer>"),
        video_r1(data_type="image", path="./a.png", problem="How many?", solution="<answer>2</answer>"),
    ]
    done = door(r1__json=rows)
    assert "Video-R1" in done.said and done.golds == ["B", "3", "2"]
    assert done.rows[0]["accu_reward_method"] == "mcq" and "A. left\nB. right" in done.questions[0]
    assert [names(row) for row in done.rows] == ["videos/a.mp4", "videos/a.mp4", None]
    assert done.rows[2]["image"] == "images/a.png"
    assert "of type" not in done.said
    read(door, done)


def test_what_video_r1_pays_in_part_is_counted_with_what_helps(door):
    rows = [video_r1(problem_type="OCR", solution="<answer>EXIT 4</answer>"), *[video_r1()] * 2]
    done = door(r1__json=[*rows, video_r1(problem_type="regression", solution="<answer>2.5</answer>")])
    assert done.methods == ["cer", None, None, None]
    said = " ".join(done.said.split())
    assert "free-form rows: 2; Video-R1 pays them for words in common with the gold. Here --reward_method llm" in said
    assert "regression rows: 1; Video-R1 pays them for numbers near the gold. Here a reward of your own can" in said
    read(door, done)


def test_frames_are_the_pictures_of_one_video(door):
    frames = [f"frames/{number}.png" for number in range(3)]
    done = door(frames__json=[talk("<video>How many?", "1", video=frames)])
    assert done.rows[0]["video"] == frames
    assert read(door, done)[0][0][0].of_frames


def test_what_cannot_be_read_is_left_out_with_its_reason(door):
    (door.folder / "videos" / "bad.mp4").write_bytes(b"<html></html>")
    rows = [talk("<video>?", "x", video=name) for name in ("a.mp4", "gone.mp4", "bad.mp4")]
    rows += [talk("<video><video>?", "x", video="a.mp4"), talk("<video>?", "x", video=[3])]
    rows += [talk("?", "x", audio="a.wav")]
    done = door(rows__json=rows)
    assert len(done.rows) == 1
    assert done.reasons == {
        "a video that is not there": 1,
        "a video that cannot be opened: expected a video": 1,
        "<video>: expected as many tags as videos, or no tag at all": 1,
        "a video of type int, where a file or a list of pictures is read": 1,
        "a row with audio, which is no picture": 1,
    }
    assert json.loads((door.folder / "out" / "convert.json").read_text())["files"]
