"""The demo with videos: an example's clip, an uploaded one, limits, attention over frames; in a browser too."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.clips import moving_square, tiny_with_videos, write_clip
from helpers.demo_site import serving, session_of
from PIL import Image

from open_r1.evaluation.session import ModelSession
from open_r1.tasks.registry import TASKS

SOMEBODY = SimpleNamespace(session_hash="somebody")


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> ModelSession:
    return session_of(tiny_with_videos(tmp_path_factory.mktemp("model")), "motion")


@pytest.fixture(scope="module")
def controller(session) -> Any:
    from open_r1.evaluation.demo.controller import DemoController

    return DemoController(session, TASKS["motion"].generator())


def asked(controller: Any, video: object, text: str = "Which way?") -> Any:
    *_, last = controller.ask([], text, "", {}, "direct", 0.0, 6, 0, video, SOMEBODY)
    return last


@pytest.mark.slow
def test_an_examples_clip_is_drawn_asked_and_attended_to(controller):
    pictures, text, gold, _, videos = controller.draw(1)
    assert pictures == [] and gold and [Path(video).stat().st_size > 500 for video in videos] == [True]
    assert controller.draw(1)[4] == videos and controller.draw(2)[4] != videos
    *_, length, _, _, answer = asked(controller, videos, text)
    assert "8 frames seen" in length and len(answer.example.videos[0].seconds) == 8
    attention, slider, _, heat = controller.show_attention(answer)
    assert len(heat.value) == 4 and attention.videos[0].shape[1] == 4 and slider.maximum == len(answer.ids)
    assert heat.label.endswith("on what was shown") and heat.label.count("%") == 4


def test_several_videos_beside_a_picture_stand_where_the_text_names_them(controller, tmp_path):
    videos = [str(write_clip(tmp_path / f"{way}.mp4", moving_square(way, size=(56, 56)))) for way in ("left", "up")]
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    pictures = [(str(tmp_path / "a.png"), None)]
    text = "<video>Is <image> in it, or in <video>?"
    *_, last = controller.ask(pictures, text, "", {}, "direct", 0.0, 6, 0, videos, SOMEBODY)
    example = last[5].example
    assert (len(example.pictures), len(example.videos)) == (1, 2)
    assert example.conversation[-1]["content"].startswith(text)
    *_, heat = controller.show_attention(last[5])
    assert len(heat.value) == 1 + 2 * 2  # a picture, and a step of two frames


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (["a.mp4"] * 5, "videos: got 5, expected at most 4; remove some"),
        (["{folder}/text.mp4", None], "video: got None, expected a file"),
        (3, "video: got 3, expected a file"),
        ("/etc", "video: got no file"),
        ("none.mp4", "video: got no file"),
        ("{folder}/text.mp4", "text.mp4"),
    ],
)
def test_what_is_no_video_and_what_is_too_much_is_said(controller, tmp_path, video, message):
    import gradio

    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(gradio.Error) as caught:
        asked(controller, video.format(folder=tmp_path) if isinstance(video, str) else video)
    assert message in caught.value.message and not controller.stops


def test_frames_count_among_the_tokens_of_a_prompt(session, tmp_path):
    import gradio

    from open_r1.evaluation.demo.controller import DemoController
    from open_r1.evaluation.demo.limits import Limits

    small = DemoController(session, None, Limits(tokens=150))
    short = write_clip(tmp_path / "short.mp4", moving_square(frames=8, size=(56, 56)), 8.0)
    long = write_clip(tmp_path / "long.mp4", moving_square(frames=32, size=(224, 224)), 2.0)
    assert asked(small, str(short))[5].example.has_media
    with pytest.raises(gradio.Error, match="with its pictures and videos"):
        asked(small, str(long))


@pytest.fixture(scope="module")
def site(session) -> Iterator[str]:
    yield from serving(session)


@pytest.mark.browser
def test_a_clip_is_uploaded_and_asked_about_in_the_page(page, site, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", moving_square(frames=16))
    page.goto(site)
    page.locator("#videos input[type=file]").set_input_files(clip)
    page.locator("#player1 video").wait_for()
    page.locator("#question textarea").fill("Which way does it move?")
    page.locator("#ask").click()
    page.wait_for_function("() => document.querySelector('#look:not([disabled])')")
    assert "4 frames seen" in page.get_by_label("Length").input_value()
    page.locator("#videos").get_by_label("Clear").click()
    page.locator("#player1").wait_for(state="hidden")
    page.locator("#videos input[type=file]").set_input_files([clip, clip])
    page.locator("#player2 video").wait_for()
    page.locator("#ask").click()
    page.wait_for_function("() => document.querySelector('#length textarea').value.includes('8 frames seen')")
    page.locator("#draw").click()
    page.locator("#player2").wait_for(state="hidden")
    page.locator("#player1 video").wait_for()
    page.locator("#ask").click()
    page.wait_for_function("() => document.querySelector('#length textarea').value.includes('8 frames seen')")
    page.locator("#look").click()
    page.locator("#heat img").nth(3).wait_for()
    page.wait_for_timeout(500)  # what the player would load comes late
