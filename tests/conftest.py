"""Paths and small data that several tests share."""

import gc
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A mathematical grading has 2 s: less than a busy machine may take from a process. Tests of hangs set it themselves.
os.environ.setdefault("OPEN_R1_GRADE_SECONDS", "15")

from helpers.library_shortcuts import take_shortcuts
from helpers.process_state import forget, seed
from helpers.repository import REPO, SHARED, environment_kept, make_dataset
from hypothesis import HealthCheck, settings

settings.register_profile(  # the same examples in each run, however long one takes
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")
HERE = ("http://127.0.0.1", "file:", "data:", "blob:")  # what a page may ask for
LONG = ("slow", "distributed", "vllm")  # markers of tests that take seconds to minutes


def pytest_sessionstart() -> None:
    """Imports and the collection leave no garbage: it is looked for from `pytest_collection_finish` on."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of many slow tests first, then those of many tests: workers that take files end together.

    Before all come those on fake CUDA: a process that has run a backward pass can be given no device any more.
    """
    tests = Counter(item.path for item in items)
    slow = Counter(item.path for item in items for name in LONG if item.get_closest_marker(name))
    items.sort(key=lambda item: ("gpu_rehearsal" not in item.path.parts, -slow[item.path], -tests[item.path]))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: without it each full garbage collection would look at it for a second."""
    if "transformers" in sys.modules:
        take_shortcuts()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What tests leave in their process is not there for the next: variables, counts, warnings given, seeds."""
    forget()
    seed()
    with environment_kept():
        yield


@pytest.fixture
def all_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor tries cheap strategies on all rows and all pairs of golds, on a busy machine too."""
    monkeypatch.setattr("open_r1.rewards.attacks.STRATEGY_SECONDS", 600.0)
    monkeypatch.setattr("open_r1.rewards.attacks.PAIR_SECONDS", 600.0)


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real rows that are not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the folder {SHARED.relative_to(REPO.parent)} with real data is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def tiny() -> str:
    """The embedded tiny VLM."""
    return str(REPO / "assets" / "tiny-vlm")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl (64 rows), heldout.jsonl (64 rows) and their images."""
    out = tmp_path_factory.mktemp("digits")
    make_dataset("digits", out, "--rows", 64, "--heldout_rows", 64)
    return out


@pytest.fixture(scope="session")
def mixed(digits: Path) -> Path:
    """`mixed.jsonl` beside `digits`: text rows, one-image rows and two-image rows of different sizes in turn."""
    from PIL import Image

    rows = [json.loads(line) for line in (digits / "train.jsonl").read_text().splitlines()]
    large = Image.open(digits / rows[0]["image"]).resize((168, 84))
    large.save(digits / "images" / "large.png")
    for i, row in enumerate(rows):
        if i % 3 == 1:
            del row["image"]
            row["conversations"][0]["value"] = "What is the sum of 1 and 2?"
        if i % 3 == 2:
            row["image"] = [row["image"], "images/large.png"]
            row["conversations"][0]["value"] = "First <image> then <image> which digits?"
    path = digits / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system, playwright's own cannot be downloaded everywhere; not left idle for minutes."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium; bash setup.sh --dev --browser installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new page, 1280 px wide. The test fails on an error in it or on its console, on a dialog, and on a request that
    leaves this machine."""
    opened, wrong = browser.new_page(viewport={"width": 1280, "height": 900}), []
    opened.set_default_timeout(60_000)
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    opened.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url.startswith(HERE) else wrong.append(f"asked for {asked.url}"))
    yield opened
    opened.close()
    assert wrong == []


@pytest.fixture(scope="module")
def few(mixed) -> Path:
    """Rows with one image, none, two and one."""
    path = mixed.with_name("few.jsonl")
    path.write_text("".join(mixed.read_text().splitlines(keepends=True)[:4]))
    return path
