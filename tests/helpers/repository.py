"""The repository's paths, and its scripts started as a user starts them."""

import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


SHARED = REPO.parent / "shared" / "data"


@contextmanager
def environment_kept() -> Iterator[None]:
    """What is written into the environment within is gone afterwards."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_script(script: str, *args: object, check: bool = True, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository with this interpreter, as a user would."""
    command = [sys.executable, str(REPO / script), *map(str, args)]
    done = subprocess.run(command, cwd=REPO, text=True, capture_output=True, **kwargs)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def make_dataset(task: str, out: Path, *options: object) -> None:
    """local_scripts/make_dataset.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_dataset.py", task, "--out", str(out), *map(str, options)])
        runpy.run_path(str(REPO / "local_scripts" / "make_dataset.py"), run_name="__main__")
