"""The demo served in this process, and a caller of its API who ignores the page."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import httpx

from helpers.repository import REPO, free_port
from open_r1.evaluation.flags import add_answer_flags
from open_r1.evaluation.session import ModelSession, session_settings
from open_r1.tasks.registry import TASKS

PLAIN = [[], "What is 1 + 1?", "", {}, "think", 0.0, 16, 0, None]  # what the page sends with a question


def session_of(model: str, task: str) -> ModelSession:
    parser = argparse.ArgumentParser()
    add_answer_flags(parser)
    words = ["--model", str(REPO / "assets" / model), "--task", task, "--max_completion_length", "64"]
    return ModelSession(session_settings(parser.parse_args(words)))


def serving(session: ModelSession, **limits: Any) -> Iterator[str]:
    from open_r1.evaluation.demo.limits import Limits
    from open_r1.evaluation.demo.server import serve
    from open_r1.evaluation.demo.ui import build

    page = build(session, TASKS[session.settings.tasks[0]].generator(), Limits(**limits))
    assert not page.analytics_enabled
    yield serve(page, "127.0.0.1", free_port())
    page.close(verbose=False)


class Caller:
    """A caller of the API; `address` is the one that a proxy on this machine forwards."""

    def __init__(self, site: str, address: str = "10.0.0.1"):
        headers = {"content-type": "application/json", "x-forwarded-for": address}
        self.client = httpx.Client(base_url=site, headers=headers, timeout=60)
        actions = self.client.get("config").json()["dependencies"]
        self.ask = next(a["id"] for a in actions if len(a["inputs"]) == 9 and len(a["outputs"]) == 6)
        self.actions = {action["id"]: len(action["inputs"]) for action in actions}
        self.stop = next(a["id"] for a in actions if not a["inputs"] and not a["outputs"] and not a["queue"])

    def post(self, path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(f"gradio_api/{path}", content=content)

    def join(self, session: str, data: Any, action: int | None = None) -> httpx.Response:
        fn = self.ask if action is None else action
        return self.post("queue/join", {"data": data, "fn_index": fn, "session_hash": session})

    def end_of(self, session: str) -> dict[str, Any]:
        """The last message about a session's request."""
        ends = ("process_completed", "unexpected_error")
        with self.client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
            messages = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
            return next(message for message in messages if message["msg"] in ends)

    def said(self, session: str, data: Any, action: int | None = None) -> str | None:
        """The error that a request ends in, None for an answer."""
        joined = self.join(session, data, action)
        if joined.status_code != 200:
            detail = joined.json()["detail"]
            return detail if isinstance(detail, str) else json.dumps(detail)
        end = self.end_of(session)
        return None if end.get("success") else end["output"]["error"]
