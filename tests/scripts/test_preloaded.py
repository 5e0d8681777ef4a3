"""Forks of one interpreter, which tests start, read, say and end as python does: tests/helpers/preloaded.py."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.preloaded import python, ranked, run_preloaded
from helpers.repository import REPO

pytestmark = pytest.mark.slow
SEEN = "import json, os, sys; print(json.dumps([sys.argv, os.getcwd(), os.environ.get('MINE'), sys.stdin.read()]))"
WAIT = "import os, time\ntry:\n print(os.getpid(), flush=True)\n time.sleep(600)\nexcept BaseException: os._exit(5)"


def said(executable: str, *words: str, **environment: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    env = {**os.environ, **environment}
    done = subprocess.run([executable, *words], cwd=REPO, env=env, input="in", text=True, capture_output=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("-c", SEEN, "a", "b c"),
        ("-u", "-c", SEEN),
        ("-c", "raise SystemExit('why')"),
        ("-c", "import os; os.kill(os.getpid(), 9)"),
        ("-m", "json.tool", "--no-such-flag"),
        ("local_scripts/smoke.py", "--no-such-flag"),
        ("-V",),
    ],
)
def test_a_fork_says_and_ends_as_python_does(words):
    assert said(python(), *words, MINE="1") == said(sys.executable, *words, MINE="1")


def test_what_imports_have_read_is_not_another_in_a_fork():
    code = "import sys; print('torch' in sys.modules)"
    assert said(python(), "-c", code)[1] == "True\n"
    assert said(python(), "-c", code, HF_HOME="/elsewhere")[1] == "False\n"
    assert ranked()["PYTHON_EXEC"] == python()


def test_a_fork_receives_signals_and_ends_with_what_asked_for_it():
    for number, status in ((signal.SIGINT, 5), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen([python(), "-c", WAIT], stdout=subprocess.PIPE, text=True) as running:
            fork = int(running.stdout.readline())
            running.send_signal(number)
            assert running.wait(60) == status
        until = time.monotonic() + 60
        while exists(fork):
            assert time.monotonic() < until, "the fork is left over"
            time.sleep(0.01)


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_after_another_have_their_own_streams():
    done = [run_preloaded(["-c", f"print({number})"], REPO, os.environ) for number in range(3)]
    assert [json.loads(one.stdout) for one in done] == [0, 1, 2] and {one.returncode for one in done} == {0}
