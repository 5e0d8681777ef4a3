"""What a judge sees: pictures, and frames of videos, within limits of number and size."""

import json
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import clip_rows, moving_square
from helpers.fake_endpoint import serving
from helpers.judged_rows import grade, honest, judged_row
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.data.video.types import Video, VideoFrames
from open_r1.errors import DataError
from open_r1.rewards.judge import method as judge
from open_r1.rewards.judge.shown import PictureLimits, judge_pictures
from open_r1.score import main as score


def sent(request: dict) -> list[Image.Image]:
    parts = request["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(BytesIO(b64decode(url.partition(",")[2]))) for url in urls]


def clip(frames: int, **of: object) -> VideoFrames:
    return VideoFrames(moving_square(frames=frames, **of), tuple(number / 2 for number in range(frames)), frames / 2)


def test_a_list_of_pictures_and_clips_is_bounded_in_number_and_size():
    picture = Image.new("RGB", (300, 100))
    shown = judge_pictures([picture], [clip(9), clip(3, size=(200, 100))], PictureLimits(number=7, pixels=5_000))
    assert len(shown.images) == 1 + 3 + 3 and {image.width * image.height <= 5_000 for image in shown.images} == {True}
    assert shown.frames == (
        *("video 1 0.0 s", "video 1 2.0 s", "video 1 4.0 s"),
        *("video 2 0.0 s", "video 2 0.5 s", "video 2 1.0 s"),
    )
    first, last = clip(9).pixels[0], clip(9).pixels[8]
    assert np.array_equal(shown.images[1], first) and np.array_equal(shown.images[3], last)
    other = judge_pictures([picture], [clip(9, way="left"), clip(3, size=(200, 100))], PictureLimits(7, 5_000))
    assert other.digest != shown.digest  # a verdict on another clip is another one's
    assert judge_pictures([], [clip(5)], PictureLimits(16)).frames == ("0.0 s", "0.5 s", "1.0 s", "1.5 s", "2.0 s")


@pytest.mark.parametrize("group", ["false", "true", "rank"])
def test_frames_of_a_rows_video_are_sent_with_their_times(use, tmp_path, group):
    rows = load_records(str(clip_rows(tmp_path, count=1)), str(tmp_path), reward_methods=["llm"])
    with serving(honest("way")) as server:
        use(server, JUDGE_IMAGES="true", JUDGE_MAX_IMAGES="3", JUDGE_MAX_PIXELS="1000", JUDGE_GROUP=group)
        grade(["some way", "no idea"], rows[0])
    for request in server.requests:
        frames = sent(request)
        assert 2 <= len(frames) <= 3 and all(frame.width * frame.height <= 1_000 for frame in frames)
        assert f"The last {len(frames)} are frames of a video, in the order of time: 0.0 s, " in str(request)


def test_saved_completions_may_name_a_video(use, tmp_path):
    clip_rows(tmp_path, count=1)
    row = {"completion": "the right way", "gold": "right", "question": "Which way?", "video": "clips/0.mp4"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with serving(honest("way")) as server:
        use(server, JUDGE_IMAGES="true", JUDGE_MAX_IMAGES="4")
        assert (
            score(
                ["--reward_method", "llm", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "o.jsonl")]
            )
            == 0
        )
    assert len(sent(server.requests[-1])) == 4


@pytest.mark.parametrize(
    ("images", "videos"), [(("a.png",) * 5, ()), (("a.png",) * 3, (Video(("a.mp4",)),))], ids=["pictures", "videos"]
)
def test_more_than_may_be_shown_is_refused_and_not_left_out(use, tmp_path: Path, images, videos):
    from dataclasses import replace

    row = replace(judged_row(folder=tmp_path, images=images), videos=videos)
    with serving(honest("red")) as server:
        use(server, JUDGE_IMAGES="true", JUDGE_MAX_IMAGES="4")
        with pytest.raises(DataError, match=r"a\.jsonl:7: images: got .*, expected at most 4; JUDGE_MAX_IMAGES=5"):
            judge.llm("red car, a", row)
    assert not server.requests
