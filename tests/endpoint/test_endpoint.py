"""The endpoint's client and its cache against a server that misbehaves: what is retried, refused, and kept."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.cpu_time import cpu_seconds
from helpers.fake_endpoint import KEY, FakeEndpoint, Reply, Script, serving
from PIL import Image

from open_r1.endpoint.answer_cache import AnswerCache, answer_key
from open_r1.endpoint.batch import GIVE_UP_AFTER, Accepted, CachedEndpoint, Rejected, run_batch
from open_r1.endpoint.client import (
    Endpoint,
    EndpointAnswer,
    EndpointError,
    RequestFailed,
    credentials,
    endpoint_messages,
)
from open_r1.endpoint.replies import parse_object
from open_r1.errors import DataError, UsageError

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The openai package's own back-off, in milliseconds instead of seconds."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def endpoint(server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, key: str = KEY, **options: object) -> Endpoint:
    for name, value in server.environment(key).items():
        monkeypatch.setenv(name, value)
    return Endpoint("m", **{"timeout": 60, "retries": 2, **options})


def after(failures: list[Reply]) -> Script:
    """These replies, then good ones."""
    return lambda request, served: failures[served] if served < len(failures) else Reply("good")


def test_a_chat_with_a_picture_and_options(monkeypatch):
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    with serving(lambda request, served: Reply("cat", reasoning="it purrs", finish="length")) as server:
        answer = endpoint(server, monkeypatch).chat(
            messages, [Image.new("RGB", (2, 2))], temperature=0, max_tokens=None
        )
    assert answer == EndpointAnswer("cat", "it purrs", "length")
    (request,) = server.requests
    picture, text = request["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,") and text["text"] == "What?"
    assert (request["temperature"], "max_tokens" in request, request["model"]) == (0, False, "m")
    assert messages[0]["content"][0] == {"type": "image"}  # the caller's are not written into


def test_pictures_and_places_must_be_equally_many():
    with pytest.raises(ValueError, match="shorter"):
        endpoint_messages([{"role": "user", "content": [{"type": "image"}]}], [])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "failures",
    [
        [Reply(status=500), Reply(status=503)],
        [Reply(status=429), Reply(status=429)],
        [Reply(status=408)],
        [Reply("late", after=60)],
    ],
    ids=["500 and 503", "429 twice", "408", "a timeout"],
)
def test_what_passes_is_asked_again(monkeypatch, failures):
    with serving(after(failures)) as server:
        seconds = 3 if failures[0].after else 60
        assert endpoint(server, monkeypatch, timeout=seconds).chat(HI).text == "good"
    assert len(server.requests) == len(failures) + 1


@pytest.mark.slow
def test_retry_after_is_honoured(monkeypatch):
    with serving(after([Reply(status=429, headers={"Retry-After": "1"})])) as server:
        began = time.monotonic()
        assert endpoint(server, monkeypatch).chat(HI).text == "good"
    assert 1.0 <= time.monotonic() - began < 30.0 and len(server.requests) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("reply", "said", "requests"),
    [
        (Reply(status=500), "status 500", 3),  # the first and 2 retries
        (Reply(status=400), "status 400.*correct the model", 1),
        (Reply(body=b'{"choices": [{"mess'), "no JSON", 1),
        (Reply(body=b'{"error": "overloaded"}'), "expected a chat completion", 1),
        (Reply(body=b"<html>", headers={"Content-Type": "text/html"}), "expected a chat completion", 1),
        (Reply(body=b'{"choices": []}'), "expected a chat completion", 1),
    ],
)
def test_one_failed_request_is_no_end(monkeypatch, reply, said, requests):
    with serving(lambda request, served: reply if served < requests else Reply("good")) as server:
        client = endpoint(server, monkeypatch)
        with pytest.raises(RequestFailed, match=said):
            client.chat(HI)
        assert client.chat(HI).text == "good"
    assert len(server.requests) == requests + 1


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "export the OPENAI_API_KEY"), (403, "may use this model"), (404, "OPENAI_BASE_URL")]
)
def test_what_no_retry_can_mend_stops_at_once_and_keeps_the_key(monkeypatch, caplog, status, remedy):
    caplog.set_level(logging.DEBUG)
    with serving(lambda request, served: Reply(status=status)) as server:
        with pytest.raises(EndpointError, match=f"got status {status}.*expected an answer; .*{remedy}") as caught:
            endpoint(server, monkeypatch).chat(HI)
        assert len(server.requests) == 1 and server.keys == [f"Bearer {KEY}"]
    messages = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "[key]" in messages and KEY not in messages


@pytest.mark.slow
def test_the_key_is_in_no_repr_and_no_debug_log():
    code = "from open_r1.endpoint.client import Endpoint\n"
    code += "e = Endpoint('m'); print(e, e.chat([{'role': 'user', 'content': 'a'}]))"
    with serving(lambda request, served: Reply("good")) as server:
        env = {**os.environ, **server.environment(), "OPENAI_LOG": "debug"}
        process = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True, check=True)
    assert "good" in process.stdout and "DEBUG" in process.stderr and KEY not in process.stdout + process.stderr


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("", "k", "OPENAI_BASE_URL: not set"),
        ("localhost:8000", "k", "OPENAI_BASE_URL: got 'localhost:8000'"),
        ("ftp://me:pw@host/v1", "k", "OPENAI_BASE_URL: got 'ftp://host/v1'"),
        ("http://localhost", " ", "OPENAI_API_KEY: not set"),
    ],
)
def test_a_missing_or_odd_environment_is_named(monkeypatch, url, key, said):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointError, match=said) as caught:
        credentials()
    assert "pw" not in str(caught.value)


@pytest.mark.slow
def test_the_deadline_counts_no_queueing(monkeypatch):
    with serving(lambda request, served: Reply("slow", after=0.3 if served < 12 else 60)) as server:
        one = endpoint(server, monkeypatch, concurrency=1, deadline=3.0)
        with ThreadPoolExecutor(12) as pool:  # the last waits 3.3 s for its turn, and then 0.3 s
            assert [answer.text for answer in pool.map(one.chat, [HI] * 12)] == ["slow"] * 12
        with pytest.raises(RequestFailed, match=r"no reply in 0\.1 s"):
            endpoint(server, monkeypatch, deadline=0.1).chat(HI)


@pytest.mark.slow
def test_the_deadline_ends_a_reply_that_trickles(monkeypatch):
    slow = Reply("good", seconds_a_byte=0.2)  # about 130 bytes: no single wait exceeds the timeout
    with serving(lambda request, served: slow) as server, pytest.raises(RequestFailed, match=r"no reply in 3 s"):
        endpoint(server, monkeypatch, timeout=60, deadline=3.0).chat(HI)
    assert len(server.requests) == 1


def test_text_that_is_no_unicode_is_mended(monkeypatch):
    with serving(lambda request, served: Reply("a\ud800b")) as server:
        assert endpoint(server, monkeypatch).chat(HI).text == "a?b"


def test_concurrency_is_bounded_as_the_server_sees_it(monkeypatch):
    meeting = threading.Barrier(3)  # no request is answered before two more are there

    def together(request: dict, served: int) -> Reply:
        meeting.wait(60)
        return Reply("good", after=0.05)

    with serving(together) as server:
        bounded = endpoint(server, monkeypatch, concurrency=3)
        with ThreadPoolExecutor(12) as pool:
            assert len(list(pool.map(bounded.chat, [HI] * 12))) == 12
    assert server.most_at_once == 3


# The cache.


def test_a_journal_asks_once_also_from_many_threads_and_after_reopening(tmp_path):
    calls = []
    cache = AnswerCache(tmp_path / "j.jsonl")

    def ask() -> dict:
        time.sleep(0.02)
        calls.append(1)
        return {"text": "é"}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: cache.get_or_ask("k", ask), range(16))) == [{"text": "é"}] * 16
    cache.close()
    again = AnswerCache(tmp_path / "j.jsonl")
    assert (again.get_or_ask("k", ask), len(calls), again.requests, again.hits) == ({"text": "é"}, 1, 0, 1)


def test_a_failed_asking_is_not_kept(tmp_path):
    cache = AnswerCache(tmp_path / "j.jsonl")
    with pytest.raises(RequestFailed):
        cache.get_or_ask("k", lambda: (_ for _ in ()).throw(RequestFailed("no")))
    assert cache.get_or_ask("k", lambda: {"text": "yes"}) == {"text": "yes"}


ENTRY = b'{"key": "a", "value": {"text": "1"}}'


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (ENTRY[:-9], {"a"}),
        (ENTRY.replace(b'"a"', b'"b"'), {"a", "b"}),
        (b"\xc3", {"a"}),
        (b"", {"a"}),
    ],
    ids=["cut in the middle", "cut before its newline", "cut inside a letter", "not cut"],
)
def test_a_line_that_a_kill_cut_is_mended(tmp_path, tail, kept):
    path = tmp_path / "j.jsonl"
    path.write_bytes(ENTRY + b"\n" + tail)
    cache = AnswerCache(path)
    for key in ("a", "b", "c"):
        cache.get_or_ask(key, lambda: {"text": "new"})
    assert cache.hits == len(kept)
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b", "c"]


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"key": "a"}', b'{"key": "a", "value": 1}'])
def test_a_spoilt_line_inside_a_journal_is_named(tmp_path, line):
    path = tmp_path / "j.jsonl"
    path.write_bytes(ENTRY + b"\n" + line + b"\n" + ENTRY + b"\n")
    with pytest.raises(DataError, match=r"j\.jsonl:2: line: got"):
        AnswerCache(path)


def test_two_runs_cannot_share_a_journal(tmp_path):
    cache = AnswerCache(tmp_path / "j.jsonl")
    with pytest.raises(UsageError, match="in use"):
        AnswerCache(tmp_path / "j.jsonl")
    cache.close()
    AnswerCache(tmp_path / "j.jsonl").close()


def test_keys_differ_by_row_prompt_and_model():
    keys = {answer_key(*parts) for parts in [("r", "p", "m"), ("s", "p", "m"), ("r", "q", "m"), ("r", "p", "n")]}
    assert len(keys) == 4 and answer_key({"a": 1, "b": 2}, "p", "m") == answer_key({"b": 2, "a": 1}, "p", "m")


# Rows asked in parallel.


def test_rows_come_out_in_order_and_failures_are_named():
    def work(item: int) -> Accepted | Rejected:
        time.sleep(0.01 * (item % 3))
        if item == 4:
            raise RequestFailed("server asleep")
        return Accepted({"n": item})

    results = run_batch(range(9), work, lambda item: f"row {item}", 4, "test")
    assert results[4] == Rejected("row 4", "unanswered", "server asleep")
    assert [result.line["n"] for i, result in enumerate(results) if i != 4] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_dead_endpoint_ends_the_run_early():
    calls = []

    def work(item: int) -> Accepted | Rejected:
        calls.append(item)
        time.sleep(0.01)
        raise RequestFailed("connection refused")

    with pytest.raises(EndpointError, match=f"{GIVE_UP_AFTER} questions in a row got no answer; connection refused"):
        run_batch(range(1000), work, str, 2, "test")
    assert GIVE_UP_AFTER <= len(calls) < 200


def test_an_asker_opens_pictures_only_for_what_it_asks(monkeypatch, tmp_path):
    calls = []

    def pictures() -> list[Image.Image]:
        calls.append(1)
        return [Image.new("RGB", (2, 2))]

    messages = [{"role": "user", "content": [{"type": "image"}]}]
    with serving(lambda request, served: Reply(f"answer {served}")) as server:
        asker = CachedEndpoint(endpoint(server, monkeypatch), AnswerCache(tmp_path / "j"), {"temperature": 0.5})
        answers = [asker.ask(row, messages, pictures).text for row in ("1", "2", "1")]
    assert (answers, len(calls)) == (["answer 0", "answer 1", "answer 0"], 2)
    assert server.requests[0]["temperature"] == 0.5


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"a": 1} {"a": 1}', '{"a": 1, "a": 2}', "[" * 100_000, '{"a": 1', "null"]
)
def test_replies_that_are_no_object(text):
    def refused() -> None:
        with pytest.raises(ValueError, match=r"it is n|a key occurs twice"):
            parse_object(text)

    assert cpu_seconds(refused, 0.1) < 0.1
