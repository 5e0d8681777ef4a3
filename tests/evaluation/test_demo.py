"""The demo: what its buttons do, what it serves, and the page itself in a real Chromium."""

import io
import json
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from helpers.demo_site import PLAIN, Caller, serving, session_of
from helpers.page_layout import unseen
from helpers.preloaded import python
from helpers.repository import REPO, free_port
from PIL import Image, ImageColor

from open_r1.data.images import MAX_FILE_BYTES
from open_r1.evaluation.session import ModelSession
from open_r1.evaluation.token_stream import Stream
from open_r1.rewards.drawing import ANSWERED
from open_r1.tasks.registry import TASKS

HERE = ("http://127.0.0.1", "data:", "blob:")
SOMEBODY = SimpleNamespace(session_hash="somebody")
HOSTILE = '<img src="http://example.com/a.png" onerror="alert(1)"><b id=evil>**x**</b>\u2028\0\ud800</textarea>'


@pytest.fixture(scope="module")
def session() -> ModelSession:
    return session_of("tiny-vlm", "digits")


@pytest.fixture
def controller(session) -> Any:
    from open_r1.evaluation.demo.controller import (
        DemoController,  # gradio is imported in seconds: only by tests that are run
    )

    return DemoController(session, TASKS["digits"].generator())


def question(controller, number: int, folder) -> list[Any]:
    """What the page would send for a drawn example, asked greedily."""
    pictures, text, gold, extra, video = controller.draw(number)
    pictures[0].save(folder / "drawn.png")
    return [[(str(folder / "drawn.png"), None)], text, gold, extra, "think", 0.0, 64, 0, video]


def test_the_stream_of_an_answer_ends_with_all_of_its_tokens():
    stream = Stream(threading.Event())
    for token in (1, 2, None):  # the reader is slower than the model
        stream.queue.put(token)
    assert list(stream) == [[1, 2]]


# -------------------------------------------------------------------------------------------------- what buttons do


def test_an_example_is_drawn_asked_and_scored(controller, tmp_path):
    inputs = question(controller, 3, tmp_path)  # the second question about the second picture
    assert inputs[1:3] == ["What is the sum of the digits in this image?", str(sum(inputs[3]["digits"]))]
    empty, *texts, last = controller.ask(*inputs, SOMEBODY)
    text, read, length, gallery, rewards, answer = last
    assert empty[0] == "" and len(texts) > 3 and texts[-1][0] == text == answer.completion
    assert json.loads(read) == answer.parsed and length.startswith(f"{len(answer.ids)} tokens")
    assert [row[:2] for row in rewards.value["data"]] == [["accuracy", "1"], ["format", "1"]]
    assert not gallery.visible and not controller.stops


def test_without_gold_nothing_is_scored(controller, tmp_path):
    inputs = question(controller, 0, tmp_path)
    *_, last = controller.ask(*inputs[:2], " ", *inputs[3:], SOMEBODY)
    assert not last[4].visible and last[1] != "nothing"


def test_a_visitor_stops_what_that_visitor_asked(controller, tmp_path):
    outputs = controller.ask(*question(controller, 0, tmp_path), SOMEBODY)
    next(outputs), next(outputs)
    controller.stop(SimpleNamespace(session_hash="another"))
    assert not controller.stops["somebody"].is_set()
    controller.stop(SOMEBODY)
    *_, last = outputs
    assert last[5].truncated and last[2].endswith("cut off")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (2, "<b>many</b>", "got &#x27;&lt;b&gt;many&lt;/b&gt;&#x27;, expected an integer"),
        (1, "", "question: got none, expected what you want to know; write it in words"),
        (1, " \n", "question: got none, expected what you want to know; write it in words"),
        (1, "<image>", "question: got none, expected what you want to know; write it in words"),
        (6, None, "Most tokens: got None"),
        (0, [("x.png", None)] * 17, "pictures: got 17, expected at most 16"),
    ],
)
def test_what_cannot_be_asked_is_said_as_text(controller, tmp_path, place, value, message):
    import gradio

    inputs = question(controller, 0, tmp_path)
    inputs[place] = value
    with pytest.raises(gradio.Error) as caught:
        list(controller.ask(*inputs, SOMEBODY))
    assert message in caught.value.message and not controller.stops


def test_attention_is_stepped_through(controller, tmp_path):
    from open_r1.evaluation.demo.controller import step

    *_, last = controller.ask(*question(controller, 0, tmp_path), SOMEBODY)
    attention, slider, token, heat = controller.show_attention(last[5])
    assert slider.maximum == len(last[5].ids) and attention.on_images.sum(axis=1).argmax() == slider.value - 1
    assert [part["token"] for part in token.value][1] == attention.tokens[slider.value - 1]
    first, other = (step(attention, last[5], number) for number in (1, slider.value))
    assert len(heat.value) == 1 and first[0].value != other[0].value == token.value


# ------------------------------------------------------------------------------------------------- what it serves


@pytest.fixture(scope="module")
def site(session) -> Iterator[str]:
    yield from serving(session)


@pytest.fixture(scope="module")
def shapes_site() -> Iterator[str]:
    yield from serving(session_of("tiny-vlm-shapes", "rec"))


@pytest.mark.slow
def test_it_serves_this_machine_alone_and_none_of_its_files(site):
    answer = httpx.get(site, timeout=60)
    assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
    for path in (REPO / "pyproject.toml", "pyproject.toml", "assets/tiny-vlm/config.json", "/etc/passwd"):
        assert httpx.get(f"{site}gradio_api/file={path}", timeout=60).status_code in (403, 404), path
    large = httpx.post(f"{site}gradio_api/upload", files={"files": ("a.png", bytes(MAX_FILE_BYTES + 1))})
    assert large.status_code == 413
    assert site.startswith("http://127.0.0.1:")
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.2", int(site.rstrip("/").rpartition(":")[2])))


HOST = "127.0.0.1:PORT"
REQUESTS = {  # headers -> status
    "its address": ({"Host": HOST}, 200),
    "localhost": ({"Host": "localhost:PORT"}, 200),
    "the other loopback": ({"Host": "[::1]:PORT"}, 200),
    "a tunnel's port": ({"Host": "localhost:9000"}, 200),
    "its own page": ({"Host": HOST, "Origin": "http://127.0.0.1:PORT"}, 200),
    "a rebound name": ({"Host": "evil.example:PORT"}, 403),
    "a name like an address": ({"Host": "127.0.0.1.evil.example"}, 403),
    "a name with a user": ({"Host": "localhost@evil.example"}, 403),
    "no name": ({"Host": ""}, 403),
    "another site": ({"Host": HOST, "Origin": "https://evil.example"}, 403),
    "its name under another scheme": ({"Host": HOST, "Origin": "https://127.0.0.1:PORT"}, 403),
    "another server here": ({"Host": HOST, "Origin": "http://127.0.0.1:1"}, 403),
    "a page without origin": ({"Host": HOST, "Origin": "null"}, 403),
}


@pytest.mark.parametrize("path", ["", "config", "gradio_api/info", "gradio_api/upload", "gradio_api/queue/join"])
def test_pages_of_other_sites_reach_nothing(site, path):
    port = site.rstrip("/").rpartition(":")[2]
    for name, (headers, status) in REQUESTS.items():
        sent = {key: value.replace("PORT", port) for key, value in headers.items()}
        answer = httpx.request("POST" if path.endswith(("upload", "join")) else "GET", site + path, headers=sent)
        assert (answer.status_code == 403) == (status == 403), (name, answer.status_code, answer.text[:200])
        assert status == 200 or ("expected" in answer.text and "content-security-policy" in answer.headers)


def test_a_name_that_it_was_started_with_is_its_own():
    from open_r1.evaluation.demo.host_check import HostCheck

    guard = HostCheck(None, "Box.example")
    refusals = {
        name: guard.refusal({"headers": [(b"host", name.encode())]}) for name in ("box.example", "other.example")
    }
    assert refusals["box.example"] is None and "--host NAME" in refusals["other.example"]
    assert guard.refusal({"headers": []}) and guard.refusal({"headers": [(b"host", b"localhost")] * 2})


@pytest.mark.parametrize(
    ("task", "message"), [("digits", "--port: got 127.0.0.1:"), ("digit", "did you mean 'digits'")]
)
def test_the_command_says_what_cannot_act(site, monkeypatch, tiny, task, message):
    """A port that is taken, by the site, and a task that nobody knows."""
    words = ["--model", tiny, "--task", task, "--port", site.rstrip("/").rpartition(":")[2]]
    monkeypatch.setattr(sys, "argv", ["demo.py", *words])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(REPO / "eval" / "demo.py"), run_name="__main__")


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(tiny):
    command = [python(), str(REPO / "eval" / "demo.py"), "--model", tiny, "--task", "digits"]
    with subprocess.Popen([*command, "--port", str(free_port())], stdout=subprocess.PIPE, text=True) as running:
        address = running.stdout.readline().split()[0]
        assert httpx.get(address, timeout=60).status_code == 200 and address.startswith("http://127.0.0.1:")
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 0


# ------------------------------------------------------------------------------------------------------- the page


class Gate:
    """Holds a model at its n-th token until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch, tokens: int):
        self.open, put = threading.Event(), Stream.put
        self.stream: Stream | None = None  # the one that is held

        def held(stream: Stream, value: Any) -> None:
            self.stream = stream
            put(stream, value)
            if len(stream.ids) == tokens:
                assert self.open.wait(120)

        patch.setattr(Stream, "put", held)


def value(page, name: str) -> str:
    return page.locator(f"#{name} textarea, #{name} input").first.input_value()


def wait_for(page, name: str, text: str) -> None:
    """Until the field holds this text, or any where it is empty."""
    script = "([name, text]) => { const v = document.querySelector(`#${name} textarea, #${name} input`).value;"
    page.wait_for_function(script + " return v && v.includes(text) }", arg=[name, text])


def draw_and_ask(page, site: str) -> None:
    page.goto(site)
    page.get_by_role("button", name="Draw an example").click()
    page.wait_for_selector("#pictures img")
    wait_for(page, "gold", "")
    page.click("#ask")


def picture_of(page, name: str) -> Image.Image:
    """The picture that a gallery shows."""
    image = page.locator(f"#{name} img").first
    image.wait_for()
    return Image.open(io.BytesIO(page.request.get(image.get_attribute("src")).body())).convert("RGB")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_an_answer_streams_is_read_scored_and_explained(page, site, monkeypatch, width):
    gate = Gate(monkeypatch, 8)
    page.set_viewport_size({"width": width, "height": 900})
    draw_and_ask(page, site)
    wait_for(page, "said", "<think>")
    assert "</answer>" not in value(page, "said") and page.locator("#stop").is_enabled()
    assert page.locator("#ask").is_disabled() and page.locator("#look").is_disabled()
    gate.open.set()
    wait_for(page, "length", "tokens")
    assert value(page, "said").endswith(f"<answer>{value(page, 'gold')}</answer>")
    assert value(page, "read") == value(page, "gold")
    page.locator("#rewards").get_by_text("format").last.wait_for()
    words = page.locator("#rewards").inner_text().split()
    assert words[words.index("accuracy") :][:6] == ["accuracy", "1", "1.000", "format", "1", "1.000"]
    page.click("#look:enabled")
    heat = picture_of(page, "heat")
    assert heat.size == (560, 280) and len(heat.getcolors(1 << 20)) > 100  # five times 112 x 56
    before = page.locator("#heat img").get_attribute("src")
    page.locator("#slider input[type=number]").fill("1")
    page.locator("#slider input[type=number]").press("Enter")
    page.wait_for_function("before => document.querySelector('#heat img').src !== before", arg=before)
    assert page.locator("#token .highlighted .text").text_content() == "<think"  # its first token
    assert unseen(page) == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_an_answer_without_a_place_to_break_fits_beside_everything_opened(page, site, monkeypatch, width, scheme):
    ask, look = ModelSession.ask, ModelSession.attention

    def long(self: ModelSession, *given: Any) -> Iterator[Any]:
        *_, answer = ask(self, *given)
        yield replace(answer, completion="word," * 400 + "," * 400)

    def marked(self: ModelSession, answer: Any) -> Any:
        seen = look(self, answer)
        return replace(seen, tokens=[",,,,,,,,"] * len(seen.tokens))

    monkeypatch.setattr(ModelSession, "ask", long)
    monkeypatch.setattr(ModelSession, "attention", marked)
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(site)
    page.get_by_text("How it is asked").click()
    assert page.get_by_label("Example number").is_visible()  # beside "Draw an example"
    draw_and_ask(page, site)
    wait_for(page, "length", "tokens")
    page.click("#look:enabled")
    page.locator("#heat img").first.wait_for()
    assert unseen(page) == []


@pytest.mark.browser
@pytest.mark.parametrize("text", ["", "  \n ", "<image>"])
def test_a_question_without_words_is_asked_for(page, site, text):
    page.goto(site)
    page.locator("#question textarea").fill(text)
    page.click("#ask:enabled")
    page.get_by_text("question: got none, expected what you want to know; write it in words").wait_for()
    page.wait_for_selector("#ask:enabled")


@pytest.mark.browser
def test_a_stopped_answer_is_kept_as_far_as_it_came(page, site, monkeypatch):
    gate = Gate(monkeypatch, 5)
    draw_and_ask(page, site)
    wait_for(page, "said", "<think>")
    page.click("#stop")
    assert gate.stream.stop.wait(60)  # the click reaches the server; the model still waits
    gate.open.set()
    wait_for(page, "length", "cut off")
    assert "</answer>" not in value(page, "said") and value(page, "read") == "nothing"
    page.wait_for_selector("#ask:enabled")


@pytest.mark.browser
def test_a_visitor_who_waits_in_the_queue_stops_before_the_turn(page, site, monkeypatch):
    gate, other = Gate(monkeypatch, 5), Caller(site, "10.9.0.1")
    assert other.join("before", PLAIN).status_code == 200
    draw_and_ask(page, site)
    page.click("#stop:enabled")
    page.get_by_text("Stopped before its turn.").wait_for()
    page.wait_for_selector("#ask:enabled")
    gate.open.set()
    assert other.end_of("before")["success"] and value(page, "said") == ""


@pytest.mark.browser
def test_the_answered_box_is_drawn_where_it_lies(page, shapes_site):
    draw_and_ask(page, shapes_site)
    wait_for(page, "length", "tokens")
    box, drawing, plain = (
        np.array(json.loads(value(page, "read"))),
        picture_of(page, "drawn"),
        picture_of(page, "pictures"),
    )
    factor = drawing.width // plain.width
    assert drawing.size == (560, 560) and factor == 5  # small pictures are shown enlarged
    pixels, before = np.asarray(drawing).astype(int), np.asarray(plain.resize(drawing.size, Image.Resampling.NEAREST))
    changed = (pixels != before).any(axis=2)
    rows, columns = np.nonzero(changed & (np.abs(pixels - ImageColor.getrgb(ANSWERED)) < 40).all(axis=2))
    red_box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(red_box - box * factor).max() <= factor, (red_box, box * factor)


@pytest.mark.browser
def test_an_uploaded_picture_is_asked_about(page, site, tmp_path):
    TASKS["digits"].generator().example(0, "heldout", 1).images[0].save(tmp_path / "digits.png")
    page.goto(site)
    page.locator("#pictures input[type=file]").first.set_input_files(tmp_path / "digits.png")
    page.wait_for_selector("#pictures img")
    page.locator("#question textarea").fill("What is the sum of the digits in this image?")
    page.click("#ask")
    wait_for(page, "length", "tokens")
    assert value(page, "read") != "nothing" and not page.locator("#rewards").is_visible()


@pytest.mark.browser
def test_an_upload_that_is_no_picture_is_refused(page, site):
    page.goto(site)
    page.locator("#pictures input[type=file]").first.set_input_files(
        {"name": "text.png", "mimeType": "image/png", "buffer": b"<svg onload=alert(1)>"}
    )
    page.wait_for_selector("#pictures img", state="attached")
    page.locator("#question textarea").fill("What?")
    page.click("#ask")
    page.get_by_text("an SVG drawing, expected JPEG or PNG").wait_for()
    page.wait_for_selector("#ask:enabled")


@pytest.mark.browser
def test_hostile_text_is_shown_as_text(page, site, monkeypatch):
    ask, look = ModelSession.ask, ModelSession.attention

    def hostile(self: ModelSession, *given: Any) -> Iterator[Any]:
        *_, answer = ask(self, *given)
        yield HOSTILE
        yield replace(answer, completion=HOSTILE)

    def marked(self: ModelSession, answer: Any) -> Any:
        seen = look(self, answer)
        return replace(seen, tokens=[HOSTILE] * len(seen.tokens))

    monkeypatch.setattr(ModelSession, "ask", hostile)
    monkeypatch.setattr(ModelSession, "attention", marked)
    draw_and_ask(page, site)
    wait_for(page, "length", "tokens")
    assert value(page, "said") == HOSTILE.replace("\0", "\\x00").replace("\ud800", "\\ud800")
    page.click("#look:enabled")
    page.wait_for_selector("#token .highlighted .text")
    page.locator("#gold textarea, #gold input").first.fill(HOSTILE.replace("\0", "").replace("\ud800", ""))
    monkeypatch.undo()
    page.click("#ask")
    page.get_by_text("<img src=").last.wait_for()
    assert page.locator("#evil").count() == 0 and page.locator("img[src*='example.com']").count() == 0
