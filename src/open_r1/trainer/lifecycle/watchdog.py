"""Watchdog: ends a run that hangs, with the stacks of all its threads, or whose peer on another machine has died.

Each rank records its phase (data, rollout, reward, update, evaluation, save). A thread checks every few seconds:
without progress for `--hang_timeout` it writes the Python stacks of all threads to `watchdog/rankN.txt` in the output
folder, requests those of the other ranks through torch's store, and ends the process with status 4. Where a call holds
the interpreter so that no thread can run, the C timer of `faulthandler` does it. The file's first line is the phase.

If a rank dies, torchrun ends the others of its machine; ranks of other machines wait until a collective times out. So
each rank writes heartbeats into the store, and one that misses them for `SILENCE` seconds ends the others.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist

from open_r1.errors import last_words

HUNG = 4  # exit status
CHECK_EVERY_SECONDS = 5.0  # at most
SILENCE = 45.0  # seconds without a heartbeat after which a rank counts as dead
GRACE = 10.0  # seconds for the others to write their stacks
HEADER = 160  # bytes of the first line, which is overwritten in place
QUIET = ("start", "save", "end")  # phases in which one call may hold the interpreter for minutes


class Watchdog:
    """`with watch.phase("rollout"):` records what a rank does; within `running()` a thread checks for progress."""

    def __init__(self, output_dir: str, timeout: float, rank: int = 0, ranks: int = 1):
        self.path = Path(output_dir) / "watchdog" / f"rank{rank}.txt"
        self.timeout, self.rank, self.ranks = timeout, rank, ranks
        self.name, self.step, self.last = "start", 0, time.monotonic()
        self.file: Any = None
        self.peers: Peers | None = None
        self.stopping = threading.Event()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Context of a phase; its begin and end count as progress."""
        outer = self.name
        self.enter(name)
        try:
            yield
        finally:
            self.enter(outer)

    def enter(self, name: str, step: int | None = None) -> None:
        """Record a phase and, if given, the number of finished optimizer steps."""
        self.name, self.last = name, time.monotonic()
        self.step = self.step if step is None else step
        if self.file is not None:
            os.pwrite(self.file.fileno(), self.header(), 0)

    def header(self) -> bytes:
        """The first line of the status file: rank, process, step and phase."""
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"rank {self.rank}, process {os.getpid()}, step {self.step}, phase {self.name} since {clock}"
        return line.encode()[: HEADER - 1].ljust(HEADER - 1) + b"\n"

    # ------------------------------------------------------------------------------------------------------- watching

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context in which the watchdog's thread and C timer run; does nothing for a timeout of 0."""
        if self.timeout <= 0:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "wb")  # noqa: SIM115 (open as long as the run)
        self.file.write(self.header())
        self.file.flush()
        if self.ranks > 1:  # a clone: another thread may wait in the original
            self.peers = Peers(dist.distributed_c10d._get_default_store().clone(), self.rank, self.ranks)
        thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)
        self.enter("update")
        self.arm()  # before the thread gets to it
        thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()
            self.enter("end")
            self.file.close()
            self.file = None

    def watch(self) -> None:
        """The thread's loop: set the timer, and end the process if there is trouble."""
        tick = min(CHECK_EVERY_SECONDS, self.timeout / 4)
        while not self.stopping.wait(tick):
            self.arm()
            if trouble := self.trouble(tick):
                self.end(trouble)
        if self.peers:
            self.peers.leave()

    def arm(self) -> None:
        """Restart the C timer, which ends the process if no thread restarts it in time."""
        faulthandler.dump_traceback_later(self.timeout + GRACE, exit=True, file=self.file)

    def trouble(self, tick: float) -> str | None:
        """Why the run should end, or None."""
        idle = time.monotonic() - self.last
        if idle >= self.timeout:
            reason = f"no progress for {idle:.0f} s in phase {self.name} of step {self.step} (--hang_timeout)"
            if self.peers:
                self.peers.request_stacks(f"rank {self.rank}: {reason}")
            return reason
        return self.peers.trouble(self.name, tick) if self.peers else None

    def end(self, reason: str) -> None:
        """Write the stacks of all threads to the file and the reason to stderr, and end this process."""
        self.file.seek(0, os.SEEK_END)
        self.file.write(f"{reason}\n".encode())
        self.file.flush()
        faulthandler.dump_traceback(self.file, all_threads=True)
        words = (
            f"\nrank {self.rank}: {reason}. Where each of its threads is: {self.path}. The run ends; continue it with "
            "--resume_from_checkpoint auto, or raise --hang_timeout if that phase may take longer\n"
        )
        sys.stderr.write(last_words(words))
        sys.stderr.flush()
        time.sleep(min(GRACE, self.timeout) if self.peers else 0)
        os._exit(HUNG)


class Peers:
    """Heartbeats of the ranks and requests for stacks, in the store of torch's process group."""

    def __init__(self, store: dist.Store, rank: int, ranks: int):
        self.store = dist.PrefixStore("watchdog", store)
        self.rank, self.others = rank, [other for other in range(ranks) if other != rank]
        self.beats, self.heartbeats = 0, dict.fromkeys(self.others, ("", 0.0))  # rank -> (newest, seconds since)
        self.failing = 0.0

    def trouble(self, phase: str, tick: float) -> str | None:
        """Write a heartbeat; why the run should end, or None. `tick` seconds have passed since the last call."""
        try:
            self.beats += 1
            self.store.set(f"sign/{self.rank}", f"{self.beats} {phase}")
            if self.store.check(["call"]):
                return self.store.get("call").decode()
            newest = {other: self.heartbeat(other) for other in self.others}
        except dist.DistError as error:
            self.failing += tick
            return f"the store of the run's ranks is gone ({error})" if self.failing >= SILENCE else None
        self.failing = 0.0
        for other, beat in newest.items():
            old, since = self.heartbeats[other]
            self.heartbeats[other] = (beat, since + tick if beat == old and beat.split()[-1] not in QUIET else 0.0)
        silent = [other for other, (_, since) in self.heartbeats.items() if since >= SILENCE]
        return f"rank {silent[0]} has died: no sign of it for {SILENCE:.0f} s" if silent else None

    def heartbeat(self, other: int) -> str:
        """The newest heartbeat of a rank: its number and phase."""
        key = f"sign/{other}"
        return self.store.get(key).decode() if self.store.check([key]) else "0 start"

    def request_stacks(self, reason: str) -> None:
        """Make the other ranks write their stacks and end."""
        self.publish("call", reason)

    def leave(self) -> None:
        """Record that this rank has ended without trouble."""
        self.publish(f"sign/{self.rank}", f"{self.beats} end")

    def publish(self, key: str, text: str) -> None:
        """Write a text into the store; a lost store is reported on stderr."""
        try:
            self.store.set(key, text)
        except dist.DistError as error:  # the other ranks notice a lost store by themselves
            sys.stderr.write(f"rank {self.rank}: the store of the run's ranks is gone ({error})\n")
