"""The repository's paths, and its scripts started as a user starts them."""

import os
import runpy
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers.preloaded import can_run, is_preloaded, run_preloaded

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
    """A port on which nothing listens, below those that Linux gives to connections: none takes it meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def run_script(
    script: str,
    *args: object,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path = REPO,
    alone: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository as a user would; it fails where the script does, unless `check` is false.

    It runs in a fork of an interpreter that has imported the trainers, which saves seconds; a script that is not in
    `src` starts none. Where imports would read other environment variables than the tests began with, or it is to be
    `alone`, it has an interpreter of its own.
    """
    argv = [str(REPO / script), *map(str, args)]
    worthwhile = script.startswith("src/") or is_preloaded()
    if alone or not worthwhile or not can_run(env or os.environ):
        done = subprocess.run([sys.executable, *argv], cwd=cwd, text=True, capture_output=True, env=env)
    else:
        done = run_preloaded(argv, cwd, env or os.environ)
    assert not check or done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def make_dataset(task: str, out: Path, *options: object) -> None:
    """local_scripts/make_dataset.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_dataset.py", task, "--out", str(out), *map(str, options)])
        runpy.run_path(str(REPO / "local_scripts" / "make_dataset.py"), run_name="__main__")
