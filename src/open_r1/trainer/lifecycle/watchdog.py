"""A run that hangs says where, and ends; so does one whose peer has died on another machine.

Each rank names the phase it is in (data, rollout, reward, update, evaluation, save). A thread looks every few seconds:
without progress for `--hang_timeout` it writes the Python stacks of all threads to `watchdog/rankN.txt` in the output
folder, asks the other ranks for theirs through torch's store, and ends the process with status 4. Where a call holds
the interpreter so that no thread can run, the C timer of `faulthandler` does it. The file's first line is the phase.

Within a machine torchrun ends the ranks of one that died; across machines nobody does until a collective times out. So
ranks leave a sign of life in the store, and one that is silent for `SILENCE` seconds ends the others.
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

HUNG = 4  # exit status
LOOK_EVERY_SECONDS = 5.0  # seconds between two looks, at most
SILENCE = 45.0
GRACE = 10.0  # for the others to write their stacks
HEADER = 160  # bytes of the first line, overwritten in place
QUIET = ("start", "save", "end")  # phases in which one call may hold the interpreter for minutes


class Watchdog:
    """`with watch.phase("rollout"):` says what a rank does; it watches within `running()` alone."""

    def __init__(self, output_dir: str, timeout: float, rank: int = 0, ranks: int = 1):
        self.path = Path(output_dir) / "watchdog" / f"rank{rank}.txt"
        self.timeout, self.rank, self.ranks = timeout, rank, ranks
        self.name, self.step, self.last = "start", 0, time.monotonic()
        self.file: Any = None
        self.peers: Peers | None = None
        self.stopping = threading.Event()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Entering and leaving it is progress."""
        before = self.name
        self.enter(name)
        try:
            yield
        finally:
            self.enter(before)

    def enter(self, name: str, step: int | None = None) -> None:
        self.name, self.last = name, time.monotonic()
        self.step = self.step if step is None else step
        if self.file is not None:
            os.pwrite(self.file.fileno(), self.header(), 0)

    def header(self) -> bytes:
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"rank {self.rank}, process {os.getpid()}, step {self.step}, phase {self.name} since {clock}"
        return line.encode()[: HEADER - 1].ljust(HEADER - 1) + b"\n"

    # ------------------------------------------------------------------------------------------------------- watching

    @contextmanager
    def running(self) -> Iterator[None]:
        if self.timeout <= 0:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "wb")  # noqa: SIM115 (open as long as the run)
        self.file.write(self.header())
        self.file.flush()
        if self.ranks > 1:  # a store of its own: another thread may wait in the first
            self.peers = Peers(dist.distributed_c10d._get_default_store().clone(), self.rank, self.ranks)
        thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)
        self.enter("update")
        self.arm()  # the thread may never come to it
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
        tick = min(LOOK_EVERY_SECONDS, self.timeout / 4)
        while not self.stopping.wait(tick):
            self.arm()
            if trouble := self.trouble(tick):
                self.end(trouble)
        if self.peers:
            self.peers.leave()

    def arm(self) -> None:
        """Set the C timer anew; it strikes where no thread could do so for that long."""
        faulthandler.dump_traceback_later(self.timeout + GRACE, exit=True, file=self.file)

    def trouble(self, tick: float) -> str | None:
        """Why the run should end, or None."""
        idle = time.monotonic() - self.last
        if idle >= self.timeout:
            why = f"no progress for {idle:.0f} s in phase {self.name} of step {self.step} (--hang_timeout)"
            if self.peers:
                self.peers.call(f"rank {self.rank}: {why}")
            return why
        return self.peers.trouble(self.name, tick) if self.peers else None

    def end(self, why: str) -> None:
        """Stacks of all threads to the file, the reason to stderr, and the end of this process alone."""
        self.file.seek(0, os.SEEK_END)
        self.file.write(f"{why}\n".encode())
        self.file.flush()
        faulthandler.dump_traceback(self.file, all_threads=True)
        sys.stderr.write(
            f"\nrank {self.rank}: {why}. Where each of its threads is: {self.path}. The run ends; continue it with "
            "--resume_from_checkpoint auto, or raise --hang_timeout if that phase may take longer\n"
        )
        sys.stderr.flush()
        time.sleep(min(GRACE, self.timeout) if self.peers else 0)
        os._exit(HUNG)


class Peers:
    """Signs of life and a call for stacks, in the store by which torch's ranks met."""

    def __init__(self, store: dist.Store, rank: int, ranks: int):
        self.store = dist.PrefixStore("watchdog", store)
        self.rank, self.others = rank, [other for other in range(ranks) if other != rank]
        self.beats, self.seen = 0, dict.fromkeys(self.others, ("", 0.0))  # rank -> (newest sign, seconds since)
        self.failing = 0.0

    def trouble(self, phase: str, tick: float) -> str | None:
        """Leave a sign; why the run should end, or None. `tick` seconds have passed since the last call."""
        try:
            self.beats += 1
            self.store.set(f"sign/{self.rank}", f"{self.beats} {phase}")
            if self.store.check(["call"]):
                return self.store.get("call").decode()
            signs = {other: self.sign(other) for other in self.others}
        except dist.DistError as error:
            self.failing += tick
            return f"the store of the run's ranks is gone ({error})" if self.failing >= SILENCE else None
        self.failing = 0.0
        for other, sign in signs.items():
            old, since = self.seen[other]
            self.seen[other] = (sign, since + tick if sign == old and sign.split()[-1] not in QUIET else 0.0)
        silent = [other for other, (_, since) in self.seen.items() if since >= SILENCE]
        return f"rank {silent[0]} has died: no sign of it for {SILENCE:.0f} s" if silent else None

    def sign(self, other: int) -> str:
        key = f"sign/{other}"
        return self.store.get(key).decode() if self.store.check([key]) else "0 start"

    def call(self, why: str) -> None:
        """Ask the others for their stacks, and to end."""
        self.say("call", why)

    def leave(self) -> None:
        """This rank ends well."""
        self.say(f"sign/{self.rank}", f"{self.beats} end")

    def say(self, key: str, text: str) -> None:
        try:
            self.store.set(key, text)
        except dist.DistError as error:  # where the store is gone its other clients notice by themselves
            sys.stderr.write(f"rank {self.rank}: the store of the run's ranks is gone ({error})\n")
