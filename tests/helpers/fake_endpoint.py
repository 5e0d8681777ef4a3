"""An OpenAI-compatible endpoint on this machine; a test decides its replies."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from open_r1.rewards.judge.prompt import DECOY_WORDS

KEY = "sk-secret-8f2d1c"  # must be in no output


@dataclass(frozen=True)
class Reply:
    """What the server sends: a chat completion of `text`, or `body` as it is with `status` and `headers`."""

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    reasoning: str | None = None
    after: float = 0.0  # seconds of waiting before it
    finish: str = "stop"
    seconds_a_byte: float = 0.0
    usage: tuple[int, int] | None = None  # tokens in and out

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": f"no, not with the key {KEY}"}}).encode()
        message = {"role": "assistant", "content": self.text}
        message |= {"reasoning_content": self.reasoning} if self.reasoning is not None else {}
        choice = {"index": 0, "finish_reason": self.finish, "message": message}
        whole = {"id": "x", "object": "chat.completion", "created": 0, "choices": [choice]}
        if self.usage:
            tokens = dict(zip(("prompt_tokens", "completion_tokens"), self.usage, strict=True))
            whole["usage"] = tokens | {"total_tokens": sum(self.usage)}
        return json.dumps(whole).encode()


Script = Callable[[dict[str, Any], int], Reply]  # (request, how many were served before) -> reply


class FakeEndpoint:
    """A server that records every request, and the largest number of requests at the same time."""

    def __init__(self, script: Script):
        self.script, self.requests, self.most_at_once = script, [], 0
        self.keys: list[str | None] = []
        self._now, self._lock = 0, threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def texts(self) -> list[str]:
        """The text of the last message of each request."""
        return [text_of(request["messages"][-1]) for request in self.requests]

    def environment(self, key: str = KEY) -> dict[str, str]:
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": key}

    def answer(self, path: str, key: str | None, request: dict[str, Any]) -> Reply:
        with self._lock:
            served = len(self.requests)
            self.requests.append(request)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = Reply(status=404) if path != "/v1/chat/completions" else self.script(request, served)
            time.sleep(reply.after)
            return reply
        finally:
            with self._lock:
                self._now -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = endpoint.answer(self.path, self.headers["Authorization"], request)
                content = reply.content()
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    for piece in map(bytes, zip(content)) if reply.seconds_a_byte else (content,):
                        self.wfile.write(piece)
                        time.sleep(reply.seconds_a_byte)
                except (BrokenPipeError, ConnectionResetError):  # the client was killed, or timed out
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@contextmanager
def serving(script: Script) -> Iterator[FakeEndpoint]:
    """A running endpoint; `script(request, served)` decides each reply."""
    endpoint = FakeEndpoint(script)
    thread = threading.Thread(target=endpoint.serve, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
        thread.join()


def judge_prompt(request: dict) -> tuple[str, dict]:
    """(nonce, data) of a judge's prompt, parsed strictly."""
    nonce, data = DELIMITED.fullmatch(text_of(request["messages"][-1])).groups()
    return nonce, json.loads(data)


def verdict(request: dict, equal: object) -> Reply:
    """The verdict `equal` on each answer, as an honest judge gives it: random letters are equal to nothing, and the
    reference is to itself."""
    nonce, data = judge_prompt(request)
    if "candidates" in data:
        reference = data["reference"]
        found = {n: not is_decoy(text) and (text == reference or equal) for n, text in data["candidates"].items()}
        return Reply(json.dumps({"nonce": nonce, "verdicts": found}), usage=(100, 10))
    equal = not is_decoy(data["reference"]) and equal
    return Reply(json.dumps({"nonce": nonce, "equal": equal}), usage=(100, 10))


def is_ranking(request: dict) -> bool:
    """Whether a judge is asked for ranks."""
    return '"ranks"' in request["messages"][0]["content"]


def ranking(request: dict, worth: Callable[[str, int], float], reference: float = 1.0) -> Reply:
    """Ranks by the `worth` of a text at a place (from 0) in the call, as an honest judge gives them: the reference is
    worth `reference` and random letters 0."""
    nonce, data = judge_prompt(request)

    def of(text: str, place: int) -> float:
        if text == data["reference"]:
            return reference
        return 0.0 if is_decoy(f"{text} {data['reference']}") else worth(text, place)

    worths = {name: of(text, place) for place, (name, text) in enumerate(data["candidates"].items())}
    levels = sorted(set(worths.values()), reverse=True)
    ranks = {name: levels.index(value) + 1 for name, value in worths.items()}
    return Reply(json.dumps({"nonce": nonce, "ranks": ranks}), usage=(100, 10))


def is_decoy(text: str) -> bool:
    """Whether a text has random letters or words, as the judge's decoys are."""
    return RANDOM_LETTERS.search(text) is not None or len(set(DECOY_WORDS).intersection(text.split())) > 2


RANDOM_LETTERS = re.compile(r"\b[0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8}\b")
DELIMITED = re.compile(r"----- ([0-9a-f]{32})\n(.*)\n----- \1")
