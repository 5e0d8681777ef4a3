"""What the process of an environment does: makes the instance, calls its methods, asks its reward. (torch-free)"""

import random
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from open_r1.data.record import Record
from open_r1.errors import shorten
from open_r1.rewards.grading import error_with_traceback, grade_of
from open_r1.tools.call_forms import Json
from open_r1.tools.environment import Environment, environment_class, load_environment
from open_r1.tools.environment_host import answer_calls
from open_r1.tools.sandboxed import ToolOutcome, outcome_of, outcome_of_tool
from open_r1.tools.zoom import ToolFrame

IS_TOTAL = "reward"  # the key of a dict that is learned from; the others are shown


@dataclass(frozen=True)
class Earned:
    """What a completion earned by its environment: `reward`, None without a verdict; `measures`, which are shown;
    `error`: why there is no reward, of an environment that raised or returned none."""

    reward: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def server_of(source: str) -> Callable[[Connection], None]:
    """What the process of an instance of an environment does, which is loaded here."""
    return partial(serve_episode, load_environment(source), environment_class(source))


def serve_episode(environment: Environment, cls: type, connection: Connection) -> None:
    """Serves one instance; what it does for each message is a method of `State`."""
    state = State(environment, cls)
    answer_calls(connection, {"reset": state.reset, "call": state.call, "reward": state.reward, "close": state.close})


class State:
    """An instance `own` of an environment's class, in its process."""

    def __init__(self, environment: Environment, cls: type) -> None:
        self.environment, self.cls, self.own = environment, cls, None

    def reset(self, record: Record, images: Sequence[Image.Image], max_pixels: int | None) -> ToolOutcome:
        """Makes the instance and begins; its chance is the row's: `random` and NumPy's are seeded by the row's id."""

        def begin() -> object:
            random.seed(record.id)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(zlib.crc32(record.id.encode()))
            self.own = self.cls()
            opening = self.own.reset(**self.environment.reset_arguments(record, list(images)))
            return [] if opening is None else opening

        return outcome_of(begin, max_pixels)

    def call(
        self,
        name: str,
        arguments: Mapping[str, Json],
        images: Sequence[Image.Image],
        frame: ToolFrame | None,
        max_pixels: int | None,
    ) -> ToolOutcome:
        """The outcome of a call of one of its tools, and whether the episode is over."""
        tool, method = self.environment.tools[name], getattr(self.own, name)
        outcome = outcome_of_tool(tool, method, arguments, images, frame, max_pixels)
        return self._ended(outcome) if self.environment.ends else outcome

    def _ended(self, outcome: ToolOutcome) -> ToolOutcome:
        """The outcome with what `is_over` says; its fault where that raises, or says neither true nor false."""
        try:
            over = self.own.is_over()
        except MemoryError:  # ends the process
            raise
        except (Exception, SystemExit) as error:
            return ToolOutcome(fault=f"is_over: {type(error).__name__}: {error}", trace=traceback.format_exc())
        if over not in (True, False):
            return ToolOutcome(fault=f"is_over: returned {shorten(over)}, expected true or false")
        return replace(outcome, over=bool(over))

    def reward(self) -> Earned:
        """What the completion earned, as it stands; an error begins with the method's place."""
        method = self.environment.reward_method
        try:
            earned = earned_by(getattr(self.own, method)())
        except MemoryError:  # ends the process
            raise
        except (Exception, SystemExit) as error:
            earned = Earned(error=error_with_traceback(error))
        return replace(earned, error=earned.error and f"{self.environment.source}.{method}: {earned.error}")

    def close(self) -> str:
        """Lets the instance give back what it holds; what it raised, else ""."""
        try:
            if self.environment.closes and self.own is not None:
                self.own.close()
        except (Exception, SystemExit):
            return traceback.format_exc()
        return ""


def earned_by(returned: Any) -> Earned:
    """What an environment's reward returned: a number, or a dict of numbers with the key `reward`.

    >>> earned_by(1), earned_by({"reward": 0.5, "steps": 3}).measures
    (Earned(reward=1.0, measures={}, error=''), {'steps': 3.0})
    """
    named = returned if isinstance(returned, dict) else {IS_TOTAL: returned}
    if IS_TOTAL not in named or not all(isinstance(name, str) for name in named):
        return Earned(error=f"returned {shorten(returned)}, expected a number, or a dict of numbers with 'reward'")
    grades = {name: grade_of(value) for name, value in named.items()}
    if wrong := [f"{name}: {grade.error}" for name, grade in grades.items() if grade.error]:
        return Earned(error=wrong[0])
    measures = {name: grade.value for name, grade in grades.items() if name != IS_TOTAL and grade.value is not None}
    return Earned(grades[IS_TOTAL].value, measures)
