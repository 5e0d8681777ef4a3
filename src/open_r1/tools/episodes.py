"""The environment of one completion, as a rollout uses it: begun at its first use, concluded, closed. (torch-free)"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from open_r1.data.record import Record
from open_r1.errors import RunEnded, UsageError
from open_r1.rewards.sandbox.worker_pool import WORKERS, count_lost
from open_r1.tools.call_forms import Json
from open_r1.tools.environment import Environment
from open_r1.tools.environment_host import Host, host_of
from open_r1.tools.environment_state import Earned, server_of
from open_r1.tools.limits import REMEDIES
from open_r1.tools.sandboxed import AnswerPart, ToolOutcome
from open_r1.tools.zoom import ToolFrame

CLOSE_SECONDS = 5.0
OpenedRow = tuple[Record, Sequence[Image.Image], Sequence[AnswerPart]]  # record, its pictures, the prompt's opening

logger = logging.getLogger(__name__)
_warned: set[str] = set()


@dataclass(frozen=True)
class Arena:
    """An environment with its bounds: `seconds` for a call, `memory_gb` (10^9 bytes) for an instance beyond its file,
    `pixels` of a picture; `strict`: an instance that is lost ends the run."""

    environment: Environment
    seconds: float = 30.0
    memory_gb: float = 4.0
    pixels: int | None = None
    strict: bool = False

    @property
    def host(self) -> Host:
        """The process that instances are forked from. Raises UsageError where it cannot load the file."""
        source = self.environment.source
        return host_of(self.environment.workers(self.memory_gb), source, partial(server_of, source))

    def opening(self, record: Record, pictures: Sequence[Image.Image]) -> tuple[AnswerPart, ...]:
        """What stands at the end of a row's prompt. Raises UsageError, which names the row, where `reset` fails."""
        instance = Episode(self, record, pictures)
        try:
            outcome = instance.begun()
        finally:
            instance.close()
        if reason := outcome.fault or outcome.refusal:
            message = (
                f"{record.where}: environment {self.environment.source}: reset: got {reason}, expected an opening"
            )
            raise UsageError(f"{message}; mend it, or the row\n{outcome.trace}".rstrip())
        return outcome.parts


class Episode:
    """An instance in a process of its own, which is forked at its first use. For one thread at a time.

    A call over its deadline, or in which the process dies, ends the instance: that call and all later ones are
    answered with the reason.
    """

    def __init__(
        self,
        arena: Arena,
        record: Record,
        pictures: Sequence[Image.Image],
        opening: Sequence[AnswerPart] | None = None,
    ):
        """`opening`: what the prompt has of `reset`, which this instance's must equal; None: of any."""
        self.arena, self.record, self.pictures, self.opening = arena, record, pictures, opening
        self.process: tuple[Connection, int] | None = None
        self.outcome: ToolOutcome | None = None  # of its reset
        self.lost = ""  # why it gives no more answers; `reason`: "timeouts" or "crashes"
        self.reason = "crashes"
        self.earned: Earned | None = None

    def begun(self) -> ToolOutcome:
        """The outcome of `reset`, asked once. Raises RunEnded where it is not what the prompt shows."""
        if self.outcome is None:
            self.process = self.process or self.arena.host.fork()
            own = list(self.pictures) if "images" in self.arena.environment.reset_takes else []
            arguments = (self.record, own, self.arena.pixels)
            self.outcome = self._outcome("reset", arguments)
            if self.outcome.fault or self.outcome.refusal:
                self.lost = self.lost or f"reset: {self.outcome.fault or self.outcome.refusal}"
            elif self.opening is not None and not same_parts(self.outcome.parts, self.opening):
                raise RunEnded(
                    f"{self.record.where}: environment {self.arena.environment.source}: reset: got two openings for "
                    "one row, expected the same: completions of a group share their prompt; take chance from "
                    "`random`, which is seeded by the row's id, or from the row"
                )
        return self.outcome

    def call(
        self, name: str, arguments: Mapping[str, Json], pictures: Sequence[Image.Image], frame: ToolFrame | None
    ) -> ToolOutcome:
        """The outcome of a call of one of its tools. Raises RunEnded as `begun`."""
        begun = self.begun()
        if self.lost:
            return ToolOutcome(fault=self.lost, trace=begun.trace)
        takes = self.arena.environment.tools[name].signature.given
        shown = list(pictures) if "images" in takes else []
        return self._outcome("call", (name, arguments, shown, frame, self.arena.pixels))

    def conclude(self) -> Earned:
        """What the completion earned, asked once; the instance is closed. Raises RunEnded as `begun`."""
        if self.earned is None:
            self.earned = self._earned() if self.arena.environment.reward_method else Earned()
            self.close()
        return self.earned

    def _earned(self) -> Earned:
        self.begun()
        earned = None if self.lost else self._ask("reward", ())
        if earned is not None:
            return earned
        source, minimum = self.arena.environment.source, self.arena.environment.minimum
        message = f"{self.record.where}: environment {source}: {self.lost}\n{REMEDIES[self.reason]}"
        if self.arena.strict:
            raise RunEnded(f"{message}\n--tool_errors tell goes on: the completion earns the class's `minimum`")
        warn_once(source, f"{message}\nThe completion earns {minimum:g}; more are counted, not shown")
        count_lost(self.reason)
        return Earned(minimum)

    def close(self) -> None:
        """End the process, after `close` of the environment where it still answers."""
        if self.process is None:
            return
        environment = self.arena.environment
        if environment.closes and not self.lost and (failed := self._ask("close", (), CLOSE_SECONDS) or self.lost):
            message = f"environment {environment.source}: close failed; more are not shown:\n{failed}"
            warn_once(f"{environment.source} close", message)
        self._end()

    def _outcome(self, name: str, arguments: tuple[Any, ...]) -> ToolOutcome:
        answer = self._ask(name, arguments)
        return ToolOutcome(fault=self.lost, trace=REMEDIES[self.reason]) if answer is None else answer

    def _ask(self, name: str, arguments: tuple[Any, ...], seconds: float | None = None) -> Any:
        """The answer of the process; None where it is lost, with its end."""
        connection, seconds = self.process[0], self.arena.seconds if seconds is None else seconds
        what = arguments[0] if name == "call" else name
        try:
            connection.send((name, arguments))
            if connection.poll(seconds):
                return connection.recv()
            self.lost = f"{what} gave no answer within {seconds:g} s, so the environment ended"
            self.reason = "timeouts"
        except (EOFError, OSError):
            self.lost = f"{what} ended the environment's process, or needed more memory than it may use"
        self._end()
        return None

    def _end(self) -> None:
        if self.process is not None:
            (connection, pid), self.process = self.process, None
            self.arena.host.kill(pid)  # before it ends itself by the connection, and what it started is nobody's
            with suppress(OSError):
                connection.close()


def same_parts(one: Sequence[AnswerPart], other: Sequence[AnswerPart]) -> bool:
    """Whether texts and pictures are the same.

    >>> same_parts(["a"], ["a"]), same_parts(["a"], ["b"])
    (True, False)
    """
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


@contextmanager
def opened(arena: Arena | None, rows: Sequence[OpenedRow]) -> Iterator[list[Episode | None]]:
    """An instance for each completion, None without an environment; all are closed at the end, whatever happens."""
    made = [None if arena is None else Episode(arena, *row) for row in rows]
    try:
        yield made
    finally:
        in_threads(Episode.close, made)


def in_threads(work: Callable[[Episode], object], instances: Sequence[Episode | None]) -> None:
    """Do a work for instances, `WORKERS` at once; raises what one raised, after all are done."""
    with ThreadPoolExecutor(WORKERS) as threads:  # threads only wait for the processes
        done = [threads.submit(work, one) for one in instances if one is not None]
    for each in done:
        each.result()


def warn_once(about: str, message: str) -> None:
    """Log a warning, the first about something."""
    if about not in _warned:
        _warned.add(about)
        logger.warning("%s", message)
