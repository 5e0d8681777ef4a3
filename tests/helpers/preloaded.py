"""An interpreter that has imported the trainers once and runs each script in a fork of itself: `run_preloaded`.

    python tests/helpers/preloaded.py

reads a JSON object {"argv": [script, flags ...], "cwd": folder, "out": folder of its output} a line, and answers with
the exit status. A fork begins where an interpreter of its own would begin after seconds of imports, and ends as one.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

REPO = Path(__file__).resolve().parents[2]
CHANGING = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR"}  # set by pytest, and by torch at its import


def lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without those of `CHANGING`."""
    return {name: value for name, value in environment.items() if name not in CHANGING}


ENVIRONMENT = lasting(os.environ)  # imports read some, so forks run under these and no other


@cache
def _interpreter() -> subprocess.Popen[str]:
    """The one of this process, which ends it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    running = subprocess.Popen([sys.executable, __file__], cwd=REPO, env=ENVIRONMENT, **pipes)
    atexit.register(_end, running)
    return running


def is_preloaded() -> bool:
    """Whether the interpreter has been started."""
    return bool(_interpreter.cache_info().currsize)


def _end(running: subprocess.Popen[str]) -> None:
    """Kill it with its forks; the next call starts another."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    _interpreter.cache_clear()


def run_preloaded(argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """What `python *argv` in `cwd` says under `ENVIRONMENT`."""
    if (running := _interpreter()).poll() is not None:  # a script's test may have ended it
        _interpreter.cache_clear()
        running = _interpreter()
    with TemporaryDirectory() as out:
        try:
            print(json.dumps({"argv": argv, "cwd": str(cwd), "out": out}), file=running.stdin, flush=True)
            status = int(running.stdout.readline())
        except BaseException:
            _end(running)  # a later answer would be taken for the next call's
            raise
        said = [Path(out, name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess([sys.executable, *argv], status, *said)


def _become(argv: list[str], cwd: str, out: str) -> None:
    """In a fork: the streams, the folder and the command of the script."""
    for number, name in ((0, os.devnull), (1, f"{out}/stdout"), (2, f"{out}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).resolve().parent)


def _serve() -> str:
    """Fork for each request; returns, in the fork, the path of its script."""
    answers = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        if (child := os.fork()) == 0:
            _become(**json.loads(line))
            return sys.argv[0]
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    sys.exit()


if __name__ == "__main__":
    from open_r1 import grpo_jsonl, sft_jsonl  # noqa: F401

    gc.freeze()
    runpy.run_path(_serve(), run_name="__main__")
