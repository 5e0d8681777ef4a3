"""A judge at an endpoint on this machine."""

from collections.abc import Callable, Iterator

import pytest
from helpers.fake_endpoint import FakeEndpoint

from open_r1.rewards.judge import method
from open_r1.rewards.judge.settings import DEFAULTS
from open_r1.rewards.judge.tally import TALLY


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`use(server, JUDGE_...)` points the environment at it, with nothing kept or counted."""

    def point(server: FakeEndpoint, **more: str) -> None:
        for name in DEFAULTS:
            monkeypatch.delenv(name, raising=False)
        for name, value in {**server.environment(), "JUDGE_MODEL": "m", "JUDGE_SECONDS": "60", **more}.items():
            monkeypatch.setenv(name, value)
        method._judge_of.cache_clear()
        TALLY.clear()

    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    yield point
    TALLY.clear()
