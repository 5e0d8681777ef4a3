"""Processes of environments: one for each instance, forked from a host process that has loaded the user's file.

Loading a file, which may take seconds, is done once; a fork takes milliseconds and shares the host's memory. An
instance has a process group of its own, with the programs that it starts, and nothing of one reaches another: one that
hangs, crashes or fills its memory is killed alone. Where the run is killed, Linux kills the host and all instances.
"""

import gc
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, reduction, util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from open_r1.errors import UsageError
from open_r1.rewards.sandbox.fork_server import lead_group
from open_r1.rewards.sandbox.worker_pool import OUT_OF_MEMORY, WorkerKind, start_worker, worker_context

HOST_SECONDS = 120.0  # to load a user's file
MOST_INSTANCES = 512  # of one rank at once: each is a process

Serve = Callable[[Connection], None]  # what an instance's process does, until its connection ends
Prepare = Callable[[], Serve]  # what a host does, once, after it has loaded the file


@dataclass(frozen=True)
class Host:
    """The host process of a user's file; safe to use from many threads."""

    connection: Connection
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fork(self) -> tuple[Connection, int]:
        """A new process: the connection to it, and its id."""
        ours, theirs = Pipe()
        with self.lock, theirs:
            self.connection.send(None)
            reduction.send_handle(self.connection, theirs.fileno(), None)
            return ours, self.connection.recv()

    def kill(self, pid: int) -> None:
        """Ends a process of this host, with the programs that it started."""
        with self.lock:
            self.connection.send(pid)
            self.connection.recv()


# by process id too: a forked child must not use its parent's
_hosts: dict[tuple[int, WorkerKind, str], Host] = {}
_starting = threading.Lock()


def host_of(kind: WorkerKind, name: str, prepare: Prepare) -> Host:
    """The host of a kind of workers for what `name` names, in this process, started on the first call. Raises
    UsageError for a file that cannot be loaded within `HOST_SECONDS`."""
    key = os.getpid(), kind, name
    with _starting:
        if key not in _hosts:
            _hosts[key] = _started(kind, prepare)
        return _hosts[key]


def _started(kind: WorkerKind, prepare: Prepare) -> Host:
    ours, theirs = Pipe()
    process = worker_context().Process(target=run_host, args=(theirs, kind, prepare), name="environments")
    process.start()
    theirs.close()
    util.Finalize(None, ours.close, exitpriority=10)  # before processes are joined at exit: the host ends by it
    try:
        failed = ours.recv() if ours.poll(HOST_SECONDS) else f"it was not loaded within {HOST_SECONDS:g} s"
    except EOFError:
        failed = "its process ended"
    if failed:
        process.kill()
        raise UsageError(f"environment {kind.file}: no worker process can load it: {failed}")
    return Host(ours)


# What follows runs in the host and in its children.


def run_host(connection: Connection, kind: WorkerKind, prepare: Prepare) -> None:
    """Forks a process for each None that is received, and ends the process of each id; ends with its connection."""
    held: dict[int, int] = {}  # process id -> the pipe whose closing kills it, where this process is killed
    failed = start_worker(kind)
    serve = None if failed else prepare()
    gc.freeze()  # so that children do not copy its memory by looking for garbage
    connection.send(failed)
    while serve is not None:
        try:
            asked = connection.recv()
        except EOFError:
            break
        if asked is None:
            handle = reduction.recv_handle(connection)
            connection.send(_fork(connection, handle, held, serve))
        else:
            _kill(asked, held)
            connection.send(None)
    for pid in list(held):
        _kill(pid, held)


def _fork(connection: Connection, handle: int, held: dict[int, int], serve: Serve) -> int:
    """The id of a new process that serves the socket `handle`."""
    life, ours = os.pipe()
    pid = os.fork()
    if pid:
        os.close(life)
        os.close(handle)
        held[pid] = ours
        return pid
    try:
        for pipe in (ours, *held.values()):
            os.close(pipe)
        connection.close()
        lead_group(life)
        serve(Connection(handle))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    finally:  # with the programs that it started; a child never returns into the host's loop
        os.killpg(0, signal.SIGKILL)
    raise AssertionError("a killed process went on")


def _kill(pid: int, held: dict[int, int]) -> None:
    """Ends a child, its group, and what descends from it in other groups, as a browser; its id is free only then."""
    apart = [(os.kill, each) for each in descendants(pid)]
    for end, number in ((os.killpg, pid), (os.kill, pid), *apart):  # it may not lead its group yet
        with suppress(ProcessLookupError, PermissionError):
            end(number, signal.SIGKILL)
    os.close(held.pop(pid))
    os.waitpid(pid, 0)


def descendants(pid: int) -> list[int]:
    """The processes that descend from one, by /proc; [] on systems without it."""
    found, known = [pid], None if Path(f"/proc/self/task/{os.getpid()}/children").exists() else _all_children()
    for each in found:
        found += _listed_children(each) if known is None else known.get(each, [])
    return found[1:]


def _listed_children(pid: int) -> list[int]:
    """The children of a process, as most Linux kernels list them."""
    children = list[int]()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            children += map(int, listed.read_text().split())
    return children


def _all_children() -> dict[int, list[int]]:
    """Process -> its children, of all processes."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    return children


def answer_calls(connection: Connection, functions: dict[str, Callable[..., Any]]) -> None:
    """Answers (name, arguments) by `functions`, in order, until the connection ends."""
    own = os.getpid()
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        answer = functions[name](*arguments)
        if os.getpid() != own:
            os._exit(0)  # a child that the call forked: it would answer later calls too
        connection.send(answer)
