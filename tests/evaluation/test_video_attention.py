"""Attention to videos: on which frames its tokens lie, what sums to one, and the page that shows it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.clips import moving_square, tiny_with_videos, write_clip
from helpers.page_layout import unseen
from PIL import Image

from open_r1.data.video.files import load_videos
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.errors import UsageError
from open_r1.evaluation.attention.video_layout import locate_videos
from open_r1.evaluation.question import Question
from open_r1.evaluation.session import ModelSession, session_settings
from open_r1.report.attention_film import frames
from open_r1.report.attention_page import write_attention_page
from open_r1.report.heat import Attention, mapped_pictures
from open_r1.rollout.processing import process

VIDEO = 7  # the token


def film(count: int = 8, size: tuple[int, int] = (64, 48)) -> VideoFrames:
    return VideoFrames(moving_square(frames=count, size=size), tuple(n / 2 for n in range(count)), count / 2)


def located(ids: list[int], videos: list[VideoFrames], **fields: torch.Tensor):
    model = SimpleNamespace(config=SimpleNamespace(model_type="a_family"))
    return locate_videos(model, {"input_ids": torch.tensor([ids]), **fields}, {VIDEO}, videos)


# ------------------------------------------------------------------------------------------------------------- places


def test_tokens_lie_on_the_steps_of_a_grid_whatever_stands_between_them():
    grid = {"video_grid_thw": torch.tensor([[2, 4, 6], [1, 2, 2]])}  # 2 x 2 patches a token: 2 steps of 2 x 3, 1 of 1
    ids = [1, *[VIDEO] * 6, 2, *[VIDEO] * 6, 3, VIDEO]  # a time stands between the steps, as in Qwen3-VL
    first, second = located(ids, [film(4), film(2)], **grid)
    assert [(step[0].rows, step[0].columns, step[0].at.tolist()) for step in first] == [
        (2, 3, [1, 2, 3, 4, 5, 6]),
        (2, 3, [8, 9, 10, 11, 12, 13]),
    ]
    assert [step[0].at.tolist() for step in second] == [[15]]


def test_frames_that_are_runs_of_equal_squares_need_no_grid():
    ids = [1, *[VIDEO] * 4, 2, *[VIDEO] * 4, 2, *[VIDEO] * 4]
    first, second = located(ids, [film(2), film(1)])
    assert [step[0].at.tolist() for step in first] == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert [(len(second), second[0][0].rows)] == [(1, 2)]


@pytest.mark.parametrize("ids", [[VIDEO] * 8, [1, *[VIDEO] * 4, 2, *[VIDEO] * 5], [1, *[VIDEO] * 3, 2, *[VIDEO] * 3]])
def test_tokens_that_do_not_say_on_which_frame_they_lie_are_refused_by_name(ids):
    with pytest.raises(UsageError, match=r"videos in a prompt of a_family.*--video_form frames"):
        located(ids, [film(2)])


# ------------------------------------------------------------------------------------------------------------ a model


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> ModelSession:
    from infer import options

    words = ["--model", str(tiny_with_videos(tmp_path_factory.mktemp("model"))), "--max_completion_length", "6"]
    settings = session_settings(options().parse_args(words))
    return ModelSession(settings)


@pytest.fixture(scope="module")
def question(tmp_path_factory) -> Question:
    folder = tmp_path_factory.mktemp("asked")
    Image.new("RGB", (56, 56), "navy").save(folder / "a.png")
    clip = write_clip(folder / "clip.mp4", moving_square(frames=16, size=(84, 56)))
    return Question("<video>Which way? <image>", (folder / "a.png",), videos=(clip,))


def test_attention_to_pictures_frames_and_text_is_all_of_it(session, question):
    answer = session.teacher_forced(question, "to the right")
    attention = session.attention(answer)
    (video,) = attention.videos
    assert [image.shape[1:] for image in attention.images] == [(2, 2)] and video.shape[1:] == (2, 2, 3)
    assert len(answer.example.videos[0].seconds) == 4  # two frames a step
    assert np.allclose(attention.rest, 0, atol=1e-5) and (attention.on_images > 0).all()
    assert attention.on_images.shape == (len(attention.tokens), 3)
    assert not any("video_pad" in token or "image_pad" in token for token in attention.prompt_tokens)


def test_a_step_shows_the_frames_whose_pixels_its_tokens_hold(session, question):
    (video,) = load_videos([question.record("default")], FrameSampling())[0]

    def patches(pixels: np.ndarray) -> torch.Tensor:
        chat = [{"role": "user", "content": [{"type": "video", "video": replace(video, pixels=pixels)}]}]
        return process(session.processor, [chat])["pixel_values_videos"].flatten(1)

    whole = patches(video.pixels)
    for number in range(4):
        other = video.pixels.copy()
        other[number] = 0
        changed = (patches(other) != whole).any(dim=1).view(2, -1)  # by steps
        assert changed[number // 2].all() and not changed[1 - number // 2].any()


def test_frames_shown_as_pictures_have_a_map_each_beside_those_of_the_rows_own(session, question):
    frames = ModelSession(replace(session.settings, video_form="frames"))
    answer = frames.teacher_forced(question, "to the right")
    attention = frames.attention(answer)
    assert [image.shape[1:] for image in attention.images] == [(2, 2)]
    assert attention.videos[0].shape[1:] == (4, 2, 3) and session.video_form == "native"
    assert np.allclose(attention.rest, 0, atol=1e-5)
    seen = list(mapped_pictures(attention, answer.example.pictures, answer.example.videos))
    assert [picture.size for picture in seen] == [(56, 56), *[(84, 56)] * 4]


# ------------------------------------------------------------------------------------------------------------ the page


def drawn_attention(count: int, steps: int) -> Attention:
    """Attention drawn at random: a third each on a picture, on the steps of a video, on the prompt."""
    random = np.random.default_rng(0)
    image = random.dirichlet(np.ones(6), count).reshape(count, 2, 3) / 3
    video = random.dirichlet(np.ones(6 * steps), count).reshape(count, steps, 2, 3) / 3
    prompt, said = random.dirichlet(np.ones(9), count) / 3, np.zeros((count, count))
    return Attention(["ab "] * count, ["cd"] * 9, [image], prompt, said, 2, 4, None, [*range(9 + count)], [video])


def page_of(path: Path, attention: Attention, video: VideoFrames) -> dict:
    write_attention_page(path, attention, [Image.new("RGB", (30, 20), "white")], {"model": "m"}, [video])
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def test_the_page_holds_the_frames_their_times_and_their_shares(tmp_path):
    attention = drawn_attention(5, 4)
    data = page_of(tmp_path / "a.html", attention, film(8))
    assert data["films"] == [{"first": 1, "times": ["0.00, 0.50 s", "1.00, 1.50 s", "2.00, 2.50 s", "3.00, 3.50 s"]}]
    assert len(data["pictures"]) == 5 and len(data["shares"][0]["pictures"]) == 5
    assert sum(data["shares"][2]["pictures"][1:]) == pytest.approx(1 / 3, abs=1e-3)
    levels = np.stack([one.levels() for one in attention.maps[1:]], axis=1)  # of all frames together
    assert levels.reshape(5, -1).max(axis=1).tolist() == [1.0] * 5
    assert (levels[0].reshape(4, -1).max(axis=1) < 1).sum() == 3
    pictures = mapped_pictures(attention, [Image.new("RGB", (30, 20))], [film(8)])
    assert len(list(frames(attention, list(pictures)))) == 5


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_shows_the_frames_in_a_row_and_their_shares_over_the_tokens(page, tmp_path, width):
    page_of(tmp_path / "a.html", drawn_attention(6, 16), film(32, (160, 120)))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto((tmp_path / "a.html").as_uri())
    assert page.locator(".reel figure").count() == 16
    assert page.locator(".reel figcaption").first.inner_text().startswith("0.00, 0.50 s: ")
    assert page.locator(".film h2").inner_text() == "video 1: 33.3\u00a0%"
    canvas = page.locator(".shares canvas")
    box, last = canvas.bounding_box(), page.locator(".shares li").last.bounding_box()
    assert box["y"] + box["height"] == pytest.approx(last["y"] + last["height"], abs=3)
    canvas.click(position={"x": box["width"] * 0.9, "y": 5})
    assert page.locator("#step").input_value() == "5"
    assert unseen(page, ".reel, .reel *") == []
