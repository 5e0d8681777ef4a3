"""An interpreter that has imported the trainers once, and runs what tests start in forks of itself.

A fork begins where an interpreter of its own would begin after seconds of imports, and ends as one: `run_preloaded`
runs a script, `python` is an executable to start, as torchrun's ranks do under `ranked`, and `venv` is an environment
in which it is `python`, for scripts of the shell. `preloaded_server.py` forks, asked by `preloaded_client.py`.
"""

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from helpers.preloaded_client import begin, read_by_imports, status

REPO = Path(__file__).resolve().parents[2]
HELPERS = REPO / "tests" / "helpers"
ENVIRONMENT = dict(os.environ)  # imports read some, so forks run under these and no other
SECONDS_TO_START = 300


@dataclass(frozen=True)
class Interpreter:
    """The running one, with the folder of its socket, which is an environment too."""

    process: subprocess.Popen[str]
    folder: Path

    def end(self) -> None:
        """Kill it with its forks; the next call starts another."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        _start.cache_clear()


@cache
def _start() -> Interpreter:
    """The one of this process, which ends it."""
    home = TemporaryDirectory(prefix="preloaded-")
    folder = Path(home.name)
    (folder / "environment.json").write_text(dumps(read_by_imports(ENVIRONMENT)))
    make_environment(folder)
    command = [sys.executable, str(HELPERS / "preloaded_server.py"), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "text": True, "start_new_session": True}
    running = Interpreter(subprocess.Popen(command, cwd=REPO, env=ENVIRONMENT, **pipes), folder)
    atexit.register(home.cleanup)
    atexit.register(running.end)
    begun = time.monotonic()
    while not (folder / "socket").exists():
        assert running.process.poll() is None and time.monotonic() - begun < SECONDS_TO_START, "it does not start"
        time.sleep(0.05)
    return running


def make_environment(folder: Path) -> None:
    """This interpreter's environment by links, but that `python` and the scripts of Python in it are forks."""
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "bin":
            (folder / entry.name).symlink_to(entry)
    (folder / "bin").mkdir()
    client = f"exec {sys.executable} -I -S {HELPERS / 'preloaded_client.py'} {folder}"
    for entry in (Path(sys.prefix) / "bin").iterdir():
        made = folder / "bin" / entry.name
        if entry.name in ("python", "python3"):
            made.write_text(f'#!/bin/sh\n{client} "$@"\n')
        elif entry.name == "torchrun":
            made.write_text(f'#!/bin/sh\n{client} -m torch.distributed.run "$@"\n')
        else:
            made.symlink_to(entry)
            continue
        made.chmod(0o755)


def is_preloaded() -> bool:
    """Whether the interpreter has been started."""
    return bool(_start.cache_info().currsize)


def interpreter() -> Interpreter:
    """The running one; a script's test may have ended the last one."""
    if _start().process.poll() is not None:
        _start().end()
    return _start()


def venv() -> str:
    """An environment whose `python` and `torchrun` are forks: VENV of the scripts of the shell."""
    return str(interpreter().folder)


def python() -> str:
    """An executable that is python with its imports done."""
    return f"{venv()}/bin/python"


def ranked(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables under which torchrun's ranks are forks."""
    return {**environment, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": python()}


def can_run(environment: Mapping[str, str]) -> bool:
    """Whether a fork can have these variables: those that imports read are as they were."""
    return read_by_imports(environment) == read_by_imports(ENVIRONMENT)


def run_preloaded(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What `python *words` in `cwd` says."""
    with open(os.devnull) as nothing, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        with begin(str(interpreter().folder), words, str(cwd), environment, streams) as connection:
            ended = status(connection)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess([sys.executable, *words], ended, out.read(), err.read())
