"""What `python` is in tests that start many: it has the interpreter of `preloaded.py` run the same words in a fork.

    python -I -S tests/helpers/preloaded_client.py FOLDER [python's own arguments]

It ends as the fork ends, by the same status or signal, passes signals on, and the fork ends where it is killed. Words
and environments that a fork cannot be given have an interpreter of their own in its place. No import takes long here.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
READ_BY_IMPORTS = ("HF_", "TRANSFORMERS_", "TORCH", "CUDA_", "PYTHON", "LD_", "LC_", "LANG", "ACCELERATE_", "DS_")
READ_BY_IMPORTS += ("WANDB_", "MPL", "XDG_", "HOME", "TMPDIR")
# set by imports, taken by forks, or read when ranks meet
OTHERS = ("TORCHINDUCTOR_CACHE_DIR", "PYTHONPATH", "PYTHONWARNINGS", "PYTHON_EXEC", "TORCHELASTIC_", "TORCH_NCCL_")


def read_by_imports(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that count when libraries are imported, and so are those that the interpreter began with."""
    names = (name for name in environment if name.startswith(READ_BY_IMPORTS) and not name.startswith(OTHERS))
    return {name: environment[name] for name in names}


def can_fork(words: list[str]) -> bool:
    """Whether python's arguments are a script, `-m module` or `-c code`, behind `-u` or nothing."""
    first = next((word for word in words if word != "-u"), "-")
    return first in ("-m", "-c") or not first.startswith("-")


def begin(
    folder: str, words: Sequence[str], cwd: str, environment: Mapping[str, str], streams: Sequence[int]
) -> socket.socket:
    """Ask for `python *words` with these descriptors as stdin, stdout and stderr; `status` reads how it ended."""
    asked = json.dumps({"words": words, "cwd": cwd, "environment": dict(environment)}).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{folder}/socket")
    socket.send_fds(connection, [len(asked).to_bytes(8, "big")], list(streams))
    connection.sendall(asked)
    return connection


def status(connection: socket.socket) -> int:
    """Wait for the end: the exit status, or minus the number of the signal that ended it."""
    answer = b"".join(iter(lambda: connection.recv(16), b""))
    if not answer:
        raise ConnectionError("the interpreter has ended")
    return int(answer)


def main(folder: str, words: list[str]) -> None:
    with open(f"{folder}/environment.json") as file:
        began_with = json.load(file)
    if not can_fork(words) or read_by_imports(os.environ) != began_with:
        os.execv(sys.executable, [sys.executable, *words])
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until they can be passed on
    connection = begin(folder, words, os.getcwd(), os.environ, (0, 1, 2))  # noqa: PTH109 # pathlib takes long
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: connection.send(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    ended = status(connection)
    if ended < 0:
        if -ended in PASSED_ON:
            signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
    os._exit(ended)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
