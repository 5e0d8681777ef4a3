"""A call in a child process that ends with a deadline: what a file of others makes a pattern or a template do."""

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable

from open_r1.errors import UsageError

BUSY_FACTOR = 12  # times the seconds of computing that a child may take in all: others want cores and disk, too
MORE_MEMORY = 8 * 2**30  # bytes that the child may add to what its parent has
_MESSAGE = 2**16  # bytes of a child's answer that are read


class DeadlinePassed(UsageError):
    """The call had not ended after its seconds, or needed more memory than it may have."""


def refuse_endless(call: Callable[[], str | None], seconds: float, endless: str) -> None:
    """Run `call` in a fork of this process; it returns None, or a sentence about a fault.

    Raises UsageError with that sentence, and DeadlinePassed with `endless` where the child has computed for `seconds`,
    has not ended in `BUSY_FACTOR` times as long, or was killed. An exception of `call` is such a sentence.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(call, writer, seconds)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + seconds * BUSY_FACTOR)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer is None or not answer.startswith("done"):
        ended = answer is not None and status != -signal.SIGPROF
        raise DeadlinePassed(f"{endless}{' (it ended by itself: memory, or a crash)' if ended else ''}")
    if sentence := answer.removeprefix("done"):
        raise UsageError(sentence)


def _answer(call: Callable[[], str | None], writer: int, seconds: float) -> None:
    """The child: write what `call` says into the pipe, and end without anything of the parent's running."""
    try:
        _limit_memory()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        sentence = call() or ""
    except BaseException as error:  # a child must not run on in the parent's code
        sentence = " ".join(traceback.format_exception_only(error)).strip()
    try:
        os.write(writer, f"done{sentence}".encode()[: _MESSAGE - 1])
    finally:
        os._exit(0)


def _limit_memory() -> None:
    """Allow the process `MORE_MEMORY` on top of the addresses that it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MORE_MEMORY
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _read(reader: int, until: float) -> str | None:
    """All that the child writes until it ends; None where that takes longer than `until`."""
    parts: list[bytes] = []
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(reader, _MESSAGE)
        if not part:
            return b"".join(parts).decode(errors="replace")
        parts.append(part)
    return None
