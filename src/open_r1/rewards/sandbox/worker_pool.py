"""Worker processes that can be killed: a call in one has a deadline and a memory limit, and may end its process.

Workers come from a fork server that has the rewards and math-verify loaded and never saw CUDA (`forked`); a killed
one is replaced in milliseconds. Arguments are pickled, results are plain. Memory is limited on Linux alone.
"""

import atexit
import logging
import os
import resource
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from open_r1.rewards.sandbox.fork_server import Context, ignore_sigterm, lead_group

WORKERS = min(4, os.cpu_count() or 1)
STUCK_SECONDS = (
    300  # for a result, beyond its deadline: a worker died holding a lock, none can start, or loads for ever
)
ATTEMPTS = 3
OUT_OF_MEMORY = 86  # exit status of a worker

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_inside = False  # this process is a worker
_unloadable = ""  # in a worker: why its file cannot be loaded


@dataclass(frozen=True)
class Crew:
    """Workers of one kind: the user's file that each loads first, and the bytes that it may take beyond that."""

    file: str | None = None
    memory_bytes: float = 2 << 30


OWN_REWARDS = Crew()
_pools: dict[tuple[int, Crew], ProcessPool] = {}  # by process id too: a forked child must not use its parent's


class Lost(Exception):
    """A call that ran out of time ("timeouts") or whose worker died ("crashes"): `how`."""

    def __init__(self, how: str):
        super().__init__(how)
        self.how = how


class WorkerError(RuntimeError):
    """No worker can do the call: its arguments cannot be sent, the user's file cannot be loaded, or it raised."""


def call(crew: Crew, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in a worker, within `seconds` of its start; the function is found by its module and name.

    Safe to call from many threads. Raises Lost, WorkerError, and RuntimeError where workers do not start.
    """
    payload = _packed(function, *args)
    for _ in range(ATTEMPTS):
        pool = _pool(crew)
        try:
            done, value = _result(pool, payload, seconds)
        except (RuntimeError, CancelledError):  # pebble gives the whole pool up when an idle worker is killed
            _discard(crew, pool)
            continue
        if done:
            return value
        raise WorkerError(value)
    what = (
        f"cannot load {crew.file}, or the machine is out of memory" if crew.file else "is the machine out of memory?"
    )
    raise RuntimeError(f"reward workers died or hung {ATTEMPTS} times in a row; {what}")


def _result(pool: ProcessPool, payload: bytes, seconds: float) -> tuple[bool, Any]:
    future = pool.schedule(_work, args=(payload, seconds), timeout=seconds)
    try:
        return future.result(timeout=seconds + STUCK_SECONDS)
    except TimeoutError as error:  # pebble's for the task, and the wait's own
        if not future.done():
            raise RuntimeError(f"no result in {seconds + STUCK_SECONDS:g} s") from error
        raise Lost("timeouts") from error
    except ProcessExpired as error:
        raise Lost("crashes") from error


def _packed(function: Callable[..., Any], *args: Any) -> bytes:
    try:
        return bytes(reduction.ForkingPickler.dumps((function, args)))
    except Exception as error:  # whatever an object's own __reduce__ raises
        raise WorkerError(f"its arguments cannot be sent to a process: {type(error).__name__}: {error}") from error


def count(how: str, number: int = 1) -> None:
    """Count gradings without a verdict: "timeouts", "crashes", or "errors" that were skipped."""
    with _lock:
        _counts[how] += number


def grading_counts() -> dict[str, int]:
    """How many gradings ran out of time, killed their worker, raised and were skipped, in this process so far."""
    with _lock:
        return {name: _counts[name] for name in ("timeouts", "crashes", "errors")}


def inside() -> bool:
    """This process is a worker."""
    return _inside


def shutdown() -> None:
    """Stop this process's workers; the next call starts new ones."""
    for (process, crew), pool in list(_pools.items()):
        if process == os.getpid():
            _discard(crew, pool)


def _discard(crew: Crew, pool: ProcessPool) -> None:
    key = os.getpid(), crew
    with _lock:
        mine = _pools.get(key) is pool
        if mine:
            del _pools[key]
    if mine:
        pool.stop()
        pool.join()


def _pool(crew: Crew) -> ProcessPool:
    key = os.getpid(), crew
    with _lock:
        if key not in _pools:
            CONSTS.term_timeout = 0  # workers do not listen to SIGTERM: it is SIGKILL that ends them
            context = Context()
            context.set_forkserver_preload(["math_verify", "open_r1.rewards.grading"])
            _pools[key] = ProcessPool(WORKERS, initializer=_start_worker, initargs=(crew,), context=context)
            atexit.register(shutdown)
        return _pools[key]


# What follows runs in workers only.


def _start_worker(crew: Crew) -> None:
    global _inside, _unloadable
    _inside = True
    ignore_sigterm()
    lead_group()
    sys.stdout.reconfigure(line_buffering=True)  # a user's print is seen at once, and not lost with the worker
    for name in ("math_verify", "latex2sympy2_extended"):  # they warn of every text that they cannot parse
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        if crew.file is None:
            from open_r1.rewards.sandbox.math_verify_worker import warm_parsers

            warm_parsers()
        else:
            from open_r1.rewards.sandbox.user_module import import_file

            import_file(crew.file)
    except BaseException:
        _unloadable = traceback.format_exc()
    _limit_memory(crew.memory_bytes)


def _limit_memory(extra: float) -> None:
    if sys.platform != "linux":
        return
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = held + int(extra) if allowed == resource.RLIM_INFINITY else min(held + int(extra), allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _work(payload: bytes, seconds: float) -> tuple[bool, Any]:
    """(True, the result) or (False, the traceback of what was raised)."""
    # Ends a worker, whatever it does, whose parent died without being able to kill it.
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 5)
    try:
        if _unloadable:
            return False, _unloadable
        function, args = reduction.ForkingPickler.loads(payload)
        return True, function(*args)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # what holds the memory may well go on holding it
    except BaseException:
        return False, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
