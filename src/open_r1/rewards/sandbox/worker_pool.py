"""A pool of worker processes in which a call has a deadline and a memory limit, and may crash its process.

Workers come from a fork server that has loaded the rewards and math-verify and never used CUDA (`fork_server`); a
killed worker is replaced in milliseconds. Arguments are pickled, results are plain values. Memory is limited on Linux
only.
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
STUCK_SECONDS = 300  # beyond a call's deadline: a worker died with a lock, cannot start, or loads endlessly
ATTEMPTS = 3
OUT_OF_MEMORY = 86  # exit status of a worker that is out of memory

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_is_worker = False
_load_error = ""  # in a worker: the traceback of its file's import
_folder = -1  # in a worker: a descriptor of the folder that it works in


@dataclass(frozen=True)
class WorkerKind:
    """A kind of workers: the user's file that each loads first, the bytes that it may allocate after that, and the
    number of workers."""

    file: str | None = None
    memory_bytes: float = 2 << 30
    count: int = WORKERS


OWN_REWARDS = WorkerKind()
_pools: dict[tuple[int, WorkerKind], ProcessPool] = {}  # by process id too: a forked child must not use its parent's


class LostCall(Exception):
    """A call without a result; `reason`: over its deadline ("timeouts"), or its worker died ("crashes")."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class WorkerError(RuntimeError):
    """A call that fails in every worker: arguments that cannot be sent, a file that cannot be loaded, an error."""


def call_in_worker(kind: WorkerKind, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` in a worker, within `seconds` of its start; the worker imports the function by its name.

    Safe to call from many threads. Raises LostCall, WorkerError, and RuntimeError where workers do not start.
    """
    payload = _packed(function, *args)
    for _ in range(ATTEMPTS):
        pool = _pool(kind)
        try:
            is_ok, value = _result(pool, payload, seconds)
        except (RuntimeError, CancelledError):  # pebble stops the whole pool when an idle worker is killed
            _discard(kind, pool)
            continue
        if is_ok:
            return value
        raise WorkerError(value)
    what = (
        f"cannot load {kind.file}, or the machine is out of memory" if kind.file else "is the machine out of memory?"
    )
    raise RuntimeError(f"reward workers died or hung {ATTEMPTS} times in a row; {what}")


def _result(pool: ProcessPool, payload: bytes, seconds: float) -> tuple[bool, Any]:
    """The result of a call in the pool; raises LostCall over its deadline, or where its worker died."""
    future = pool.schedule(_work, args=(payload, seconds), timeout=seconds)
    try:
        return future.result(timeout=seconds + STUCK_SECONDS)
    except TimeoutError as error:  # of the task (pebble), or of the wait
        if not future.done():
            raise RuntimeError(f"no result in {seconds + STUCK_SECONDS:g} s") from error
        raise LostCall("timeouts") from error
    except ProcessExpired as error:
        raise LostCall("crashes") from error


def _packed(function: Callable[..., Any], *args: Any) -> bytes:
    """The pickled call; raises WorkerError where its arguments cannot be pickled."""
    try:
        return bytes(reduction.ForkingPickler.dumps((function, args)))
    except Exception as error:  # an object's __reduce__ may raise anything
        raise WorkerError(f"its arguments cannot be sent to a process: {type(error).__name__}: {error}") from error


def count_lost(reason: str, number: int = 1) -> None:
    """Counts gradings without a verdict, by reason: "timeouts", "crashes", or "errors" that were skipped."""
    with _lock:
        _counts[reason] += number


def grading_counts() -> dict[str, int]:
    """Numbers of gradings that ran out of time, killed their worker, or raised and were skipped, in this process."""
    with _lock:
        return {name: _counts[name] for name in ("timeouts", "crashes", "errors")}


def in_worker() -> bool:
    """Whether this process is a worker."""
    return _is_worker


def shutdown() -> None:
    """Stops the workers of this process; the next call starts new ones."""
    for (process, kind), pool in list(_pools.items()):
        if process == os.getpid():
            _discard(kind, pool)


def _discard(kind: WorkerKind, pool: ProcessPool) -> None:
    """Stops a pool, once."""
    key = os.getpid(), kind
    with _lock:
        mine = _pools.get(key) is pool
        if mine:
            del _pools[key]
    if mine:
        pool.stop()
        pool.join()


def worker_context() -> Context:
    """The context of all workers; its fork server loads the rewards first."""
    context = Context()
    context.set_forkserver_preload(["math_verify", "open_r1.rewards.grading"])
    return context


def _pool(kind: WorkerKind) -> ProcessPool:
    """The pool of this process for a kind of workers; starts it on the first call."""
    key = os.getpid(), kind
    with _lock:
        if key not in _pools:
            CONSTS.term_timeout = 0  # workers ignore SIGTERM, so SIGKILL follows at once
            context = worker_context()
            _pools[key] = ProcessPool(kind.count, initializer=start_worker, initargs=(kind,), context=context)
            atexit.register(shutdown)
        return _pools[key]


# What follows runs in workers only.


def start_worker(kind: WorkerKind) -> str:
    """Prepares a new worker: signals, the user's file or the parsers, the memory limit. The traceback of a file that
    cannot be loaded, else ""."""
    global _is_worker, _load_error, _folder
    _is_worker, _folder = True, os.open(".", os.O_RDONLY)
    ignore_sigterm()
    lead_group()
    sys.stdout.reconfigure(
        line_buffering=True
    )  # so that a user's print appears at once and is not lost with the worker
    for name in ("math_verify", "latex2sympy2_extended"):  # they warn for every text that they cannot parse
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        if kind.file is None:
            from open_r1.rewards.sandbox.math_verify_worker import warm_parsers

            warm_parsers()
        else:
            from open_r1.rewards.sandbox.user_module import import_file

            import_file(kind.file)
    except BaseException:
        _load_error = traceback.format_exc()
    _limit_memory(kind.memory_bytes)
    return _load_error


def _limit_memory(extra: float) -> None:
    """Limits the worker's address space to its present size and `extra` bytes. (Linux)"""
    if sys.platform != "linux":
        return
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = held + int(extra) if allowed == resource.RLIM_INFINITY else min(held + int(extra), allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _work(payload: bytes, seconds: float) -> tuple[bool, Any]:
    """Runs a call in the worker: (True, its result) or (False, the traceback of its error). A call that leaves the
    folder leaves it for itself: paths mean the same to the next one."""
    # Ends the worker in any case, also where its parent died and cannot kill it.
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 5)
    worker = os.getpid()
    try:
        if _load_error:
            return False, _load_error
        function, args = reduction.ForkingPickler.loads(payload)
        return True, function(*args)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # the memory may stay in use
    except BaseException:
        return False, traceback.format_exc()
    finally:
        if os.getpid() != worker:
            os._exit(0)  # a child that the call forked: it would answer the worker's next calls too
        os.fchdir(_folder)
        signal.setitimer(signal.ITIMER_REAL, 0)
