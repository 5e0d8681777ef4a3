"""What a test leaves in its process is not there for the next one, so that the order of files plays no part."""

import logging
import random
from importlib import import_module

import numpy as np
import pytest
from helpers.process_state import COUNTED, REMEMBERED
from hypothesis import settings

from open_r1.rewards.sandbox.worker_pool import count_lost, grading_counts
from open_r1.rewards.trl_adapter import BatchReward, lost_gradings
from open_r1.tools.episodes import warn_once

drawn: list[tuple[float, float]] = []


def test_what_is_begun_anew_is_there():
    assert all(hasattr(getattr(import_module(module), name), "clear") for module, name in COUNTED.items())
    assert all(hasattr(getattr(import_module(module), name), "cache_clear") for module, name in REMEMBERED.items())


@pytest.mark.parametrize("turn", [0, 1])
def test_counts_warnings_and_chance_are_as_for_the_first_test(turn: int, caplog: pytest.LogCaptureFixture) -> None:
    assert not any(grading_counts().values()) and lost_gradings() == {}
    count_lost("timeouts")
    with caplog.at_level(logging.WARNING):
        warn_once("a game", "it was lost")
    assert "it was lost" in caplog.text
    drawn.append((random.random(), np.random.random()))
    assert drawn[turn] == drawn[0]


def test_examples_are_the_same_in_each_run() -> None:
    assert settings.default.derandomize and settings.default.deadline is None


def test_gradings_have_time_on_a_busy_machine() -> None:
    assert BatchReward("accuracy")._job.seconds >= 10
