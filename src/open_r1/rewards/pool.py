"""math-verify in worker processes that can be killed: a completion can make sympy run for ever or eat all memory.

Workers come from a fork server that has math-verify loaded and never saw CUDA; a killed one is replaced in
milliseconds. The script that trains is not imported again in them. Only strings go in and plain bools come out.

$OPEN_R1_GRADE_SECONDS (default 2) is the deadline of one grading; what exceeds it is graded False and counted.
"""

import atexit
import io
import logging
import math
import multiprocessing.context
import os
import resource
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import forkserver, popen_forkserver, reduction, spawn, util

from pebble import ProcessExpired, ProcessPool

MAX_CHARS = 2_000  # of each side; 1 MB of digits takes sympy 622 MB
MEMORY_BYTES = 2 << 30  # address space of a worker
WORKERS = min(4, os.cpu_count() or 1)
STUCK_SECONDS = 120  # for a result, beyond any queue: a worker died holding a lock, or none can start
ATTEMPTS = 3

_lock = threading.Lock()
_pools: dict[int, ProcessPool] = {}  # by process id: a forked child must not use its parent's
_counts: Counter[str] = Counter()


@dataclass(frozen=True)
class Settings:
    """math-verify's own parameters, at its defaults."""

    targets: tuple[str, ...] = ("latex", "expr")
    float_rounding: int = 6
    strict: bool = True
    allow_set_relation_comp: bool = False


DEFAULTS = Settings()


@lru_cache(maxsize=65_536)
def verify(gold: str, answer: str, settings: Settings = DEFAULTS) -> bool:
    """math-verify's verdict on the ends of two texts (`clip`); False where it takes too long or kills its worker.

    Safe to call from many threads, and faster so. Raises RuntimeError where workers do not start.
    """
    for _ in range(ATTEMPTS):
        pool = _pool()
        try:
            return _graded(pool, gold, answer, settings)
        except (RuntimeError, CancelledError):  # pebble gives the whole pool up when an idle worker is killed
            _discard(pool)
    raise RuntimeError(f"grading workers died or hung {ATTEMPTS} times in a row; is the machine out of memory?")


def _graded(pool: ProcessPool, gold: str, answer: str, settings: Settings) -> bool:
    seconds = deadline()
    future = pool.schedule(_verify, args=(clip(gold), clip(answer), settings, seconds), timeout=seconds)
    try:
        return future.result(timeout=STUCK_SECONDS)
    except TimeoutError as error:  # pebble's for the task, and the wait's own
        if not future.done():
            raise RuntimeError(f"no result in {STUCK_SECONDS} s") from error
        return _count("timeouts")
    except (ProcessExpired, MemoryError):
        return _count("crashes")


def warm_up() -> None:
    """Start the workers and wait for one grading: before CUDA starts, and so that the first step is not slow."""
    verify("$1$", "$1$")


def stats() -> dict[str, int]:
    """How many gradings ran out of time and how many killed their worker, in this process so far."""
    with _lock:
        return {name: _counts[name] for name in ("timeouts", "crashes")}


def shutdown() -> None:
    """Stop this process's workers; the next grading starts new ones."""
    if pool := _pools.get(os.getpid()):
        _discard(pool)


def deadline() -> float:
    """Seconds one grading may take. Raises ValueError where the environment holds no positive number."""
    value = os.environ.get("OPEN_R1_GRADE_SECONDS", "2")
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"OPEN_R1_GRADE_SECONDS: got {value!r}, expected a positive number of seconds")
    return seconds


def clip(text: str) -> str:
    """At most MAX_CHARS: from the last `\\boxed` on where there is one, else the end.

    >>> clip("7" * 5000 + r" so \\boxed{8}" + "." * 9000)[:9], len(clip("7" * 5000))
    ('\\\\boxed{8}', 2000)
    """
    if len(text) <= MAX_CHARS:
        return text
    boxed = text.rfind(r"\boxed")
    return text[boxed : boxed + MAX_CHARS] if boxed >= 0 else text[-MAX_CHARS:]


def _count(name: str) -> bool:
    with _lock:
        _counts[name] += 1
    return False


def _discard(pool: ProcessPool) -> None:
    with _lock:
        mine = _pools.get(os.getpid()) is pool
        if mine:
            del _pools[os.getpid()]
    if mine:
        pool.stop()
        pool.join()


def _pool() -> ProcessPool:
    with _lock:
        if os.getpid() not in _pools:
            context = _Context()
            context.set_forkserver_preload(["math_verify", __name__])
            _pools[os.getpid()] = ProcessPool(max_workers=WORKERS, initializer=_start_worker, context=context)
            atexit.register(shutdown)
        return _pools[os.getpid()]


class _Popen(popen_forkserver.Popen):
    def _launch(self, process_obj: multiprocessing.Process) -> None:
        """The parent's, less the import of `__main__`: a training script would load torch in every worker."""
        preparation = spawn.get_preparation_data(process_obj.name)
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
        buffer = io.BytesIO()
        multiprocessing.context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            multiprocessing.context.set_spawning_popen(None)
        self.sentinel, pipe = forkserver.connect_to_new_process(self._fds)
        self.finalizer = util.Finalize(self, util.close_fds, (os.dup(pipe), self.sentinel))
        with open(pipe, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(multiprocessing.context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: multiprocessing.Process) -> _Popen:
        return _Popen(process_obj)


class _Context(multiprocessing.context.ForkServerContext):
    Process = _Process


# What follows runs in workers only.


def _start_worker() -> None:
    import math_verify  # noqa: F401 (a second to import; the fork server has it already)

    logging.disable(logging.CRITICAL)  # math-verify warns of every text that it cannot parse
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _verify(gold: str, answer: str, settings: Settings, seconds: float) -> bool:
    # Ends a worker whose parent died without being able to kill it.
    limit = math.ceil(time.process_time() + 2 * seconds + 2)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    import math_verify

    parsed_gold, parsed_answer = _parsed(gold, settings.targets), _parsed(answer, settings.targets)
    return bool(parsed_gold and parsed_answer) and math_verify.verify(
        parsed_gold,
        parsed_answer,
        float_rounding=settings.float_rounding,
        strict=settings.strict,
        allow_set_relation_comp=settings.allow_set_relation_comp,
        timeout_seconds=None,
    )


@lru_cache(maxsize=256)
def _parsed(text: str, targets: tuple[str, ...]) -> list:
    import math_verify

    known = {"latex": math_verify.LatexExtractionConfig(), "expr": math_verify.ExprExtractionConfig()}
    return math_verify.parse(text, [known[target] for target in targets], parsing_timeout=None)
