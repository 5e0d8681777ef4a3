"""What a test leaves in its process is not there for the next one, so that the order of files plays no part."""

import logging
import random
import re
from importlib import import_module

import numpy as np
import pytest
from helpers.process_state import COUNTED, REMEMBERED
from helpers.repository import REPO
from hypothesis import settings

from open_r1.rewards.sandbox.worker_pool import count_lost, grading_counts
from open_r1.rewards.trl_adapter import BatchReward, lost_gradings
from open_r1.tools.episodes import warn_once

EMPTY = re.compile(
    r"^(\w+)(?:: [^=\n]+)? = (?:set\(\)|\{\}|\[\]|(?:Counter|dict|OrderedDict)\(\)|defaultdict\(.*\))(?:  #.*)?$",
    re.MULTILINE,
)
KEPT = {  # what is true of a type, a model's settings, a file's content or a process, whichever test asks
    ("open_r1.data.video.decoding.processes", "_idle"),
    ("open_r1.models.processor_check", "_TRIED"),
    ("open_r1.models.repairs", "_repaired"),
    ("open_r1.rewards.sandbox.worker_pool", "_pools"),
    ("open_r1.rollout.vllm.colocate", "POLICY_WEIGHTS"),
    ("open_r1.tools.environment_host", "_hosts"),
    ("open_r1.trainer.forward.image_sight", "_found"),
}
drawn: list[tuple[float, float]] = []


def test_what_is_begun_anew_is_there():
    assert all(hasattr(getattr(import_module(module), name), "clear") for module, name in COUNTED.items())
    assert all(hasattr(getattr(import_module(module), name), "cache_clear") for module, name in REMEMBERED.items())


def test_every_container_of_a_module_is_begun_anew_or_kept_on_purpose():
    found = set()
    for path in sorted((REPO / "src").rglob("*.py")):
        module = ".".join(path.relative_to(REPO / "src").with_suffix("").parts)
        found |= {(module, name) for name in EMPTY.findall(path.read_text())}
    assert found - COUNTED.items() == KEPT


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
