"""Film strips of rows with videos: what a run stores of them, and how the pages show and play them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clips import clip_rows, moving_square
from helpers.page_layout import settle, unseen
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.data.video.types import Video, VideoFrames
from open_r1.report.page import write_report
from open_r1.report.preview import write_preview
from open_r1.report.thinning import thin_rollouts
from open_r1.rollout.prompts import Example
from open_r1.trainer.outputs.rollout_log import RolloutLog

SIZE = (320, 180)
SCORED = {
    "completions": ["right", "left"],
    "rewards": {"accuracy": [1.0, 0.0]},
    "advantages": [0.7, -0.7],
    **{"parsed": ["right", "left"], "tokens": [1, 1], "truncated": [False, False]},
}


def film(way: str = "right", count: int = 8, size: tuple[int, int] = SIZE, gap: float = 0.25) -> VideoFrames:
    return VideoFrames(moving_square(way, count, size), tuple(gap * n for n in range(count)), gap * count)


def stored_run(folder: Path, *rows: list[VideoFrames], pictures: int = 0, keep: int = 1000) -> Path:
    """A run with one group for each row of videos, as training stores it."""
    log = RolloutLog(str(folder), 1, rank=0, keep=keep)
    for step, videos in enumerate(rows):
        names = tuple(Video((f"{number}.mp4",)) for number in range(len(videos)))
        record = Record("r", ("a.png",) * pictures, "", (), "right", {}, f"a:{step + 1}", "default", names)
        chat = [{"role": "user", "content": "<video>Which way?"}]
        example = Example(record, chat, [Image.new("RGB", (300, 150), "navy")] * pictures, None, (), videos)
        log.add(step, [example] * 2, SCORED, 2)
    (folder / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.0, "reward": 0.5}\n')
    return folder


def groups(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------ what is stored


def test_a_rows_frames_are_stored_small_in_order_with_their_times(tmp_path):
    (group,) = groups(stored_run(tmp_path, [film()]))
    (video,) = group["videos"]
    assert (video["seconds"], video["span"], video["sampled"]) == ([0.25 * n for n in range(8)], 2.0, 8)
    frames = [Image.open(tmp_path / "rollout_images" / name) for name in video["frames"]]
    assert {frame.size for frame in frames} == {(192, 108)}
    places = [int((np.asarray(f.convert("RGB"))[54, :, 1] < 120).nonzero()[0].mean()) for f in frames]
    assert places == sorted(places) and len(set(places)) == 8  # the square goes to the right
    assert sum(path.stat().st_size for path in (tmp_path / "rollout_images").iterdir()) < 20_000


def test_a_long_video_and_many_videos_of_a_row_take_no_more_room(tmp_path):
    (long, many) = groups(stored_run(tmp_path, [film(count=96)], [film(count=24) for _ in range(4)]))
    (video,) = long["videos"]
    assert len(video["frames"]) == 32 and video["sampled"] == 96
    assert (video["seconds"][0], video["seconds"][-1]) == (0.0, 23.75)
    assert [len(one["frames"]) for one in many["videos"]] == [8] * 4


def test_frames_go_when_their_groups_are_thinned_and_equal_ones_are_stored_once(tmp_path):
    folder = stored_run(tmp_path, [film()], [film()], [film("down")])
    stored = {path.name for path in (folder / "rollout_images").iterdir()}
    first, second, third = (group["videos"][0]["frames"] for group in groups(folder))
    assert first == second and stored == {*first, *third}
    assert thin_rollouts(folder, 1) == 1
    assert {path.name for path in (folder / "rollout_images").iterdir()} == {*third}


def test_rows_without_videos_are_stored_as_before(tmp_path):
    (group,) = groups(stored_run(tmp_path, [], pictures=1))
    assert "videos" not in group and len(group["images"]) == 1


# ----------------------------------------------------------------------------------------------------------- the pages


def open_report(page: Any, folder: Path) -> Any:
    page.goto(write_report([folder], folder / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    return page.locator(".film").first


@pytest.mark.browser
def test_a_film_is_played_and_stepped_by_pointer_and_keys(page, tmp_path):
    strip = open_report(page, stored_run(tmp_path, [film()]))
    time, button, slider = strip.locator(".time"), strip.locator("button"), strip.locator("input")
    screen, cells = strip.locator(".screen"), strip.locator("li")
    assert cells.locator("span").all_inner_texts() == [f"{0.25 * n:.2f}" for n in range(8)]
    assert time.inner_text() == "0.00 s, 1/8" and button.get_attribute("aria-label") == "play video 1"
    first = screen.get_attribute("src")

    button.click()
    later = "document.querySelector('.film .time').textContent.startsWith('0.75')"
    shown = "document.querySelector('.film .screen').getAttribute('src')"
    page.wait_for_function(f"(first) => {later} && {shown} !== first", arg=first)
    assert button.get_attribute("aria-label") == "pause video 1"
    page.wait_for_function("() => document.querySelector('.film .time').textContent.startsWith('0.00')")  # again
    button.click()
    stopped = time.inner_text()
    settle(page, 700)
    assert time.inner_text() == stopped

    cells.nth(4).click()
    assert time.inner_text() == "1.00 s, 5/8" and cells.nth(4).get_attribute("aria-current") == "true"
    assert screen.get_attribute("src") == cells.nth(4).locator("img").get_attribute("src")
    assert strip.locator("[aria-current]").count() == 1
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert (time.inner_text(), slider.get_attribute("aria-valuetext")) == ("1.25 s, 6/8", "1.25 s, 6/8")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('.film .time').textContent.startsWith('1.50')")
    page.keyboard.press(" ")
    assert page.locator(".film.playing").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_pictures_and_films_of_a_row_fit_beside_what_was_said(page, tmp_path, width):
    page.set_viewport_size({"width": width, "height": 900})
    rows = [film(count=40), film("up", 3, (56, 56), 1.0)]
    strip = open_report(page, stored_run(tmp_path, rows, pictures=1))
    assert page.locator(".pictures > *").count() == 3 and page.locator(".film").count() == 2
    assert strip.locator(".soft").inner_text() == "video 1: 16 of the 40 frames that the model saw of 10 s"
    assert unseen(page, ".completions *, .completions, .reel, .reel *") == []
    reel = strip.locator(".reel")
    strip.locator("li").last.scroll_into_view_if_needed()
    assert reel.evaluate("node => node.scrollWidth > node.clientWidth && node.scrollLeft > 0")
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")


@pytest.mark.browser
def test_frames_that_are_no_longer_stored_are_left_out(page, tmp_path):
    folder = stored_run(tmp_path, [film()], [film("down")])
    right, down = (group["videos"][0]["frames"] for group in groups(folder))
    for name in (*right, *down[2:5]):
        (folder / "rollout_images" / name).unlink()
    strip = open_report(page, folder)  # the newest first
    assert strip.locator("li").count() == 5
    assert strip.locator(".soft").inner_text() == "video 1: 5 of the 8 frames that the model saw of 2 s"
    assert page.locator(".missing").inner_text() == "video 1 is no longer stored"


def clips_page(folder: Path, count: int = 4) -> Path:
    data = load_records(str(clip_rows(folder, count)), str(folder))
    return write_preview(data, folder / "preview.html")


def test_the_doctors_page_shows_the_frames_of_clips_and_names_one_that_cannot_be_read(tmp_path):
    data = load_records(str(clip_rows(tmp_path, 4)), str(tmp_path))
    (tmp_path / "clips" / "1.mp4").write_bytes(b"no clip")
    text = write_preview(data, tmp_path / "preview.html").read_text()
    assert text.count('class="film"') == 3 and text.count("data-seconds=") == 3 * 4
    assert "1.mp4" in text.partition('class="finding"')[2].partition("</p>")[0]
    assert "frames of 2 s" in text and "script-src 'sha256-" in text


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_the_doctors_page_plays_clips(page, tmp_path, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(clips_page(tmp_path).as_uri())
    assert page.locator(".film").count() == 4 and page.locator(".film .time").first.inner_text() == "0.00 s, 1/4"
    page.locator(".film button").nth(1).click()
    page.wait_for_function("() => document.querySelectorAll('.film .time')[1].textContent.includes('3/4')")
    assert page.locator(".film.playing").count() == 1
    assert unseen(page, ".reel, .reel *") == []
