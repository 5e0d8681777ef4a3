"""Rows that name videos, in every form, and what is said of each that cannot be meant."""

import json
from pathlib import Path

import pytest
from helpers.clips import moving_square, write_clip

from open_r1.data.chat import messages, plain_messages
from open_r1.data.fingerprint import picture_digest, picture_sizes
from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record, parse_row
from open_r1.data.video.types import Video
from open_r1.errors import DataError
from open_r1.trainer.outputs.whole_steps import row_digest

ASK = {"problem": "Which way?", "solution": "left"}
CLIP = Video(("a.mp4",))


def parsed(row: dict) -> Record:
    return parse_row(row, "a.jsonl:1", 1)


def prompt(record: Record) -> str:
    return "|".join(message["content"] for message in plain_messages(messages(record)))


@pytest.mark.parametrize(
    ("fields", "videos"),
    [
        ({"video": "a.mp4"}, (CLIP,)),
        ({"video": ["a.mp4", "b.webm"]}, (CLIP, Video(("b.webm",)))),
        ({"videos": "a.mp4"}, (CLIP,)),
        ({"videos": ["a.mp4"], "video": None}, (CLIP,)),
        ({"video": ["1.jpg", "2.PNG"]}, (Video(("1.jpg", "2.PNG"), of_frames=True),)),
        ({"videos": [["1.jpg", "2.jpg"], "a.mp4"]}, (Video(("1.jpg", "2.jpg"), of_frames=True), CLIP)),
        ({"video": [["1.jpg"]]}, (Video(("1.jpg",), of_frames=True),)),
        ({"video": "moving.gif"}, (Video(("moving.gif",)),)),
        ({"video": ["a.gif", "b.gif"]}, (Video(("a.gif",)), Video(("b.gif",)))),
        ({"video": None, "videos": None}, ()),
        ({"video": [], "videos": []}, ()),
        ({"video": "a.mp4", "video_start": 1, "video_end": 2.5, "fps": 4}, (Video(("a.mp4",), False, 1.0, 2.5, 4.0),)),
        ({"video": "a.mp4", "nframes": 8, "fps": None}, (Video(("a.mp4",), nframes=8),)),
        (
            {"videos": ["a.mp4", "b.mp4"], "video_start": [3, None], "nframes": 8},
            (Video(("a.mp4",), start=3.0, nframes=8), Video(("b.mp4",), nframes=8)),
        ),
        (
            {"video": ["1.jpg", "2.jpg"], "fps": 1, "nframes": 2},
            (Video(("1.jpg", "2.jpg"), True, fps=1.0, nframes=2),),
        ),
    ],
)
def test_a_row_names_its_videos(fields, videos):
    record = parsed({**ASK, **fields})
    assert record.videos == videos
    assert not videos or record.extra == {}


def test_fields_of_videos_are_others_in_a_row_without_one():
    assert parsed({**ASK, "fps": 30, "nframes": "many"}).extra == {"fps": 30, "nframes": "many"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"video": "a.mp4", "videos": ["b.mp4"]},
            "video: got both 'video' and 'videos', expected one of the",
        ),
        ({"video": 3}, "video: got 3, expected a path, or a list of the pictures of its frames; write paths relative"),
        ({"video": ""}, "video: got ''"),
        ({"video": ["a.mp4", None]}, "video: got null"),
        ({"video": [[]]}, "video: got [], expected a path, or a list"),
        ({"video": {"path": "a.mp4"}}, "video: got {"),
        ({"video": ["a.mp4", "1.jpg"]}, "expected videos alone, or the pictures of one video's frames alone"),
        ({"videos": ["1.jpg", "2.jpg"]}, "write the frames of each video as a list of its own: [[...], ...]"),
        ({"videos": [["a.mp4", "b.mp4"]]}, "expected the pictures of its frames, ending in .bmp, .jpeg"),
        ({"video": "a.mp4", "fps": 0}, "fps: got 0, expected frames a second above 0; write a number, such as 2"),
        ({"video": "a.mp4", "fps": True}, "fps: got true"),
        ({"video": "a.mp4", "fps": "2"}, "fps: got '2'"),
        ({"video": "a.mp4", "nframes": 2.5}, "nframes: got 2.5, expected a whole number of frames, 1 or more"),
        ({"video": "a.mp4", "nframes": 0}, "nframes: got 0"),
        ({"video": "a.mp4", "video_start": -1}, "video_start: got -1, expected a second, 0 to 10,000,000"),
        ({"video": "a.mp4", "video_start": 1e300}, "video_start: got 1e+300, expected a second, 0 to 10,000,000"),
        (
            {"video": "a.mp4", "video_end": 1e300},
            "video_end: got 1e+300, expected a second above 0, at most 10,000,000",
        ),
        (
            {"video": "a.mp4", "video_end": 0},
            "video_end: got 0, expected a second above 0, at most 10,000,000; write a number, such",
        ),
        ({"video": "a.mp4", "video_start": 5, "video_end": 5}, "video_start: got 5 to 5, expected a begin before its"),
        (
            {"video": "a.mp4", "fps": 2, "nframes": 4},
            "fps: got 2, and nframes 4, expected a rate or a number",
        ),
        ({"video": "a.mp4", "fps": [1, 2]}, "fps: got 2 values for 1 video(s), expected as many values as videos"),
        (
            {"video": "a.mp4", "problem": "<video><video>?"},
            "<video>: got 2 <video> tag(s) for 1 video(s), exp",
        ),
        ({"video": "a.mp4", "problem": "<image>?"}, "<image>: got 1 <image> tag(s) for 0 image(s), expected"),
        (
            {"video": "a.mp4", "audio": "a.wav"},
            "audio: got an audio, 'a.wav', expected pictures and videos",
        ),
        ({"video": "a.mp4", "clip": "b.mp4"}, "clip: got a video, 'b.mp4', expected videos under 'video' or 'videos'"),
        ({"problem": "<video>\nWhat?"}, "'<video>', the place of a video, in a row without one"),
        ({"problem": "<|video_pad|>?"}, "name the video under 'video' or 'videos', or remove the mark"),
        (
            {"video": "a.mp4", "problem": "<video1> What?"},
            "'<video1>', which is no place of a video, expected",
        ),
        ({"video": "a.mp4", "problem": "<vid> What?"}, "'<vid>', which is no place of a video"),
        ({"video": "a.mp4", "problem": "See [video]."}, "'[video]', which is no place of a video"),
        (
            {"video": "a.mp4", "problem": "What?<audio>"},
            "'<audio>', the place of a sound, expected pictures",
        ),
        (
            {"video": "a.mp4", "problem": "<|vision_start|><|video_pad|><|vision_end|>?"},
            "'<|vision_start|><|video_pad|><|vision_end|>', which is no place of a video",
        ),
    ],
)
def test_what_cannot_be_meant_is_a_message(fields, said):
    with pytest.raises(DataError) as refused:
        parsed({**ASK, **fields})
    assert len(refused.value.problems) == 1 and said in str(refused.value), str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"video": "a.mp4", "fps": -1, "problem": "<video>?"}, "fps: got -1"),
        ({"video": "a.mp4", "video_start": 5, "video_end": 2, "problem": "<video>?"}, "video_start: got 5 to 2"),
        ({"video": 3, "problem": "<video>?"}, "video: got 3"),
        ({"videos": ["a.mp4"], "video": "b.mp4", "problem": "<video>?"}, "video: got both"),
        ({"image": 3, "problem": "<image>?"}, "image: got 3"),
    ],
)
def test_a_row_whose_video_is_refused_is_not_told_that_it_names_none(fields, said):
    with pytest.raises(DataError) as refused:
        parsed({**ASK, **fields})
    assert len(refused.value.problems) == 1 and said in str(refused.value), str(refused.value)


def test_a_message_about_a_picture_tag_names_the_tag_of_a_video():
    with pytest.raises(DataError, match="write <video> for the place of a video, or convert the file: python"):
        parsed({**ASK, "video": "a.mp4", "problem": "<image>?"})


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"problem": "First <video>, then?"}, "First <video>, then?"),
        ({"problem": "Which?"}, "<video>Which?"),
        ({"image": "b.png", "problem": "Like <image>?"}, "<video>Like <image>?"),
        ({"image": "b.png", "problem": "Is <image> in <video>?"}, "Is <image> in <video>?"),
        ({"image": "b.png"}, "<image><video>Which way?"),
        ({"image": "b.png", "problem": "In <video>?"}, "<image>In <video>?"),
        ({"system": "Look at <video>."}, "Look at <video>.|Which way?"),
    ],
)
def test_videos_stand_where_their_tags_are_and_first_without_any(fields, shown):
    assert prompt(parsed({**ASK, "video": "a.mp4", **fields})) == shown


PART, TEXT = {"type": "video", "video": "b.mp4"}, {"type": "text", "text": "What?"}


def chat(*parts: dict, **fields: object) -> dict:
    turns = [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": "x"}]
    return {"messages": turns, **fields}


@pytest.mark.parametrize(
    ("row", "videos"),
    [
        (chat(PART, TEXT), (Video(("b.mp4",)),)),
        (chat({"type": "video"}, TEXT, video="a.mp4"), (CLIP,)),
        (chat(PART, {"type": "video"}, TEXT, videos=["a.mp4"]), (Video(("b.mp4",)), CLIP)),
        (chat({**PART, "fps": 1.0, "video_end": 3}, TEXT), (Video(("b.mp4",), end=3.0, fps=1.0),)),
        (chat({"type": "video", "video": ["1.jpg", "2.jpg"]}, TEXT), (Video(("1.jpg", "2.jpg"), of_frames=True),)),
        (chat({"type": "image", "image": "c.png"}, PART, TEXT), (Video(("b.mp4",)),)),
    ],
)
def test_content_parts_name_videos(row, videos):
    record = parsed(row)
    assert record.videos == videos and "<video>" in prompt(record)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (chat({"type": "video"}, TEXT), "<video>: got 1 <video> tag(s) for 0 video(s)"),
        (chat(PART, TEXT, video="a.mp4"), "<video>: got 0 <video> tag(s) for 1 video(s)"),
        (chat({**PART, "max_pixels": 9}, TEXT), "messages[0].content[0].max_pixels: got 9, expected"),
        (chat({"type": "video", "fps": 2}, TEXT, video="a.mp4"), "write 'fps' beside the row's 'video'"),
        (chat({"type": "video", "video": 3}, TEXT), "messages[0].content[0].video: got 3, expected a path"),
        (chat({"type": "video_url", "video_url": {"url": "a.mp4"}}, TEXT), "messages[0].content[0]: got"),
    ],
)
def test_odd_content_parts_are_messages(row, said):
    with pytest.raises(DataError) as refused:
        parsed(row)
    assert said in str(refused.value), str(refused.value)


def test_conversations_name_videos_too():
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "x"}]
    record = parsed({"video": "a.mp4", "conversations": turns})
    assert record.videos == (CLIP,) and prompt(record) == "<video>\nWhat?" and record.solution == "x"


def test_the_source_of_a_frame_is_no_video_unless_its_tag_says_so():
    row = {**ASK, "image": "b.png", "video": "a.mp4", "frame": 12}
    assert parsed(row).videos == () and parsed(row).extra == {"video": "a.mp4", "frame": 12}
    assert parsed({**row, "problem": "Is it in <video>?"}).videos == (CLIP,)


def test_html_is_text_in_a_row_without_a_video():
    record = parsed({"problem": "What does the <video> element do?", "solution": "it plays"})
    assert record.videos == () and prompt(record) == "What does the <video> element do?"


# ---------------------------------------------------------------------------------------------------- from files


@pytest.fixture
def rows(tmp_path) -> Path:
    write_clip(tmp_path / "clips" / "a.mp4", moving_square())
    (tmp_path / "rows.jsonl").write_text(json.dumps({**ASK, "video": "clips/a.mp4"}) + "\n")
    return tmp_path


def write(folder: Path, **fields: object) -> str:
    (folder / "rows.jsonl").write_text(json.dumps({**ASK, **fields}) + "\n")
    return str(folder / "rows.jsonl")


def test_rows_of_a_file_have_their_videos(rows):
    assert load_records(str(rows / "rows.jsonl"), str(rows))[0].videos == (Video(("clips/a.mp4",)),)
    whole = load_records(write(rows, video=str(rows / "clips" / "a.mp4")), str(rows))
    assert whole[0].videos == (Video(("clips/a.mp4",)),)  # an absolute path below the folder


@pytest.mark.parametrize(
    ("fields", "folder", "said"),
    [
        ({"video": "b.mp4"}, ".", "video: got 'b.mp4', expected an existing file under"),
        ({"video": "clips/A.MP4"}, ".", "write 'clips/a.mp4'"),
        ({"video": "clips"}, ".", "video: got 'clips', a folder, expected a regular file; name a video file"),
        ({"video": ["1.jpg"]}, ".", "video: got '1.jpg', expected an existing file"),
        (
            {"video": "clips/a.mp4"},
            None,
            "video: got 'clips/a.mp4', expected an image folder for rows with",
        ),
    ],
)
def test_a_path_that_leads_nowhere_is_a_message_before_training(rows, fields, folder, said):
    with pytest.raises(DataError) as refused:
        load_records(write(rows, **fields), folder and str(rows / folder))
    assert said in str(refused.value), str(refused.value)


def test_another_video_makes_another_data_set(rows):
    records = load_records(str(rows / "rows.jsonl"), str(rows))
    before = picture_sizes(records), picture_digest(records), row_digest(records[0])
    write_clip(rows / "clips" / "a.mp4", moving_square("up"))
    assert picture_sizes(records) != before[0] and picture_digest(records) != before[1]
    other = load_records(write(rows, video="clips/a.mp4", nframes=4), str(rows))
    assert row_digest(other[0]) != before[2]
