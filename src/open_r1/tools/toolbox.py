"""The tools of a run: reads a turn's calls, answers them in worker processes. (torch-free)

A tool has a deadline and a memory limit; whatever it does, the model is told and the run goes on (`--tool_errors
tell`), or the run ends where the tool itself is at fault (`stop`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from open_r1.data.record import Record
from open_r1.errors import RunEnded, UsageError, nearest_hint, shorten
from open_r1.rewards.sandbox.worker_pool import WORKERS, LostCall, WorkerError, call_in_worker
from open_r1.tools.call_forms import Json, ToolCall, form_of
from open_r1.tools.calls import MalformedCall, read_calls
from open_r1.tools.environment import load_environment
from open_r1.tools.episodes import Arena, Episode
from open_r1.tools.limits import DEFAULT_LIMITS, REMEDIES, ToolLimits, check_bounds
from open_r1.tools.registry import Tool, load_tools
from open_r1.tools.sandboxed import AnswerPart, ToolOutcome, check_tool, run_tool
from open_r1.tools.signature import Schema, checked_arguments
from open_r1.tools.zoom import ToolFrame, tool_frame

Calls = Sequence[ToolCall | MalformedCall]
TOOL_START_SECONDS = 60.0
QWEN_SYSTEM = "You are a helpful assistant."  # what Qwen2-VL's and Qwen2.5-VL's templates write without a system turn

logger = logging.getLogger(__name__)
_warned: set[str] = set()


@dataclass(frozen=True)
class ToolAnswer:
    """The answer to one call: `parts` for the model. `error`: the call was malformed, refused or failed; `fault`: why,
    where the tool itself is to blame. `name`: the tool's, "" for a malformed call. `over`: it ends the completion."""

    name: str
    parts: tuple[AnswerPart, ...]
    error: bool = False
    fault: str | None = None
    over: bool = False

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures among the parts, in order."""
        return [part for part in self.parts if isinstance(part, Image.Image)]


@dataclass(frozen=True)
class Toolbox:
    """The tools of a run.

    `form`: how the model writes calls, a key of `FORMS`; `native`: whether its chat template lists tools itself;
    `system`: the system text that the template writes by default. `seconds` are for one call, `memory_gb` (10^9 bytes)
    for a worker of a user's file. `errors`: "tell" or "stop", of faults. `arena`: the environment, whose tools are
    among them, None without. `workers`: how many rows are answered at once.
    """

    tools: Mapping[str, Tool]
    form: str = "hermes"
    native: bool = False
    system: str = ""
    limits: ToolLimits = DEFAULT_LIMITS
    seconds: float = 30.0
    memory_gb: float = 4.0
    errors: str = "tell"
    arena: Arena | None = None
    workers: int = WORKERS

    @property
    def schemas(self) -> list[Schema]:
        """The tools as chat templates list them."""
        return [tool.schema for tool in self.tools.values()]

    @property
    def needs_frame(self) -> bool:
        """Whether a tool reads boxes, so that the space of the model's must be known."""
        return any("frame" in tool.signature.given for tool in self.tools.values())

    def start(self) -> None:
        """Starts the workers, before CUDA starts. Raises UsageError where they cannot load a user's file."""
        if self.arena is not None:
            self.arena.host  # noqa: B018  (it starts)
        for tool in self.tools.values():
            if tool.keeps_state:
                continue
            try:
                call_in_worker(tool.workers(self.memory_gb, self.workers), TOOL_START_SECONDS, check_tool, tool.source)
            except (RuntimeError, LostCall) as error:
                raise UsageError(f"tool {tool.source}: no worker process can load it: {error}") from error

    def read(self, text: str, in_thinking: bool = False) -> tuple[ToolCall | MalformedCall, ...]:
        """`read_calls` in the model's form."""
        return read_calls(text, self.form, in_thinking)

    def answer(
        self,
        calls: Calls,
        pictures: Sequence[Image.Image],
        record: Record,
        episode: Episode | None = None,
    ) -> tuple[ToolAnswer, ...]:
        """An answer for each call of a turn, one after the other, up to one that ends the completion; each tool gets
        the pictures of those before it too.

        `pictures`: the row's at original resolution, then those of tools so far; `episode`: the completion's of the
        environment. Safe to call from many threads. Raises RunEnded, which names the row, for a tool's fault under
        `errors` "stop".
        """
        frame, answers = tool_frame(record) if self.needs_frame else None, []
        for call in calls:
            seen = [*pictures, *(picture for answer in answers for picture in answer.pictures)]
            answers.append(self._answer(call, seen, frame, record, episode))
            if answers[-1].over:
                break
        return tuple(answers)

    def _answer(
        self,
        call: ToolCall | MalformedCall,
        pictures: Sequence[Image.Image],
        frame: ToolFrame | None,
        record: Record,
        episode: Episode | None,
    ) -> ToolAnswer:
        if isinstance(call, MalformedCall):
            return told("", call.reason)
        tool = self.tools.get(call.name)
        if tool is None:
            hint = nearest_hint(call.name[:64], self.tools)
            return told(call.name, f"got tool {shorten(call.name, 40)}, expected {', '.join(self.tools)}; {hint}")
        try:
            arguments = checked_arguments(tool.signature, call)
        except ValueError as error:
            return told(tool.name, str(error))
        if tool.keeps_state:
            outcome = episode.call(tool.name, arguments, pictures, frame)
        else:
            outcome = self._outcome(tool, arguments, pictures, frame)
        if outcome.fault is not None:
            self._blame(tool, outcome, record)
            return told(tool.name, outcome.fault, outcome.fault)
        answer = ToolAnswer(tool.name, outcome.parts) if outcome.refusal is None else told(tool.name, outcome.refusal)
        return replace(answer, over=outcome.over)

    def _outcome(
        self, tool: Tool, arguments: Mapping[str, Json], pictures: Sequence[Image.Image], frame: ToolFrame | None
    ) -> ToolOutcome:
        """What became of a call in a worker, whatever the tool did there."""
        wanted = pictures if "images" in tool.signature.given else ()
        given = (tool.source, arguments, wanted, frame, self.limits.pixels)
        try:
            return call_in_worker(tool.workers(self.memory_gb, self.workers), self.seconds, run_tool, *given)
        except LostCall as lost:
            died = f"{tool.name} ended its process, or needed more memory than it may use"
            late = f"{tool.name} gave no answer within {self.seconds:g} s"
            return ToolOutcome(fault=late if lost.reason == "timeouts" else died, trace=REMEDIES[lost.reason])
        except WorkerError as error:  # what it returned cannot be sent, or its file no longer loads
            return ToolOutcome(fault=f"{tool.name} failed", trace=str(error))

    def _blame(self, tool: Tool, outcome: ToolOutcome, record: Record) -> None:
        """Ends the run for a tool's fault (`errors` "stop"), or logs its first."""
        message = f"{record.where}: tool {tool.label}: {outcome.fault}\n{outcome.trace}".rstrip()
        if self.errors == "stop":
            raise RunEnded(f"{message}\n--tool_errors tell goes on: the model is told")
        if tool.label not in _warned:
            _warned.add(tool.label)
            logger.warning("%s\nThe model is told, as --tool_errors tell asks; more are counted, not shown", message)


def told(name: str, reason: str, fault: str | None = None) -> ToolAnswer:
    """The answer that says why a call has no result."""
    return ToolAnswer(name, (f"Error: {shorten_text(reason)}",), error=True, fault=fault)


def shorten_text(text: str, limit: int = 1_000) -> str:
    """A text of at most `limit` characters, its middle left out, without lone surrogates."""
    half, whole = (limit - 5) // 2, text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= limit else f"{whole[:half]} ... {whole[-half:]}"


def make_toolbox(
    sources: Sequence[str],
    chat_template: str,
    limits: ToolLimits = DEFAULT_LIMITS,
    seconds: float = 30.0,
    memory_gb: float = 4.0,
    errors: str = "tell",
    environment: str | None = None,
    workers: int | None = None,
) -> Toolbox:
    """The toolbox of `--tools` and `--environment` for a model with this chat template; `workers`: None for `WORKERS`.
    Raises ValueError as `load_tools` and `load_environment`."""
    check_bounds(limits, seconds, memory_gb, workers)
    form = form_of(chat_template)
    system = QWEN_SYSTEM if QWEN_SYSTEM in chat_template else ""
    found = load_environment(environment) if environment else None
    arena = found and Arena(found, seconds, memory_gb, limits.pixels, errors == "stop")
    tools = load_tools(sources, found.tools if found else {})
    bounds = (limits, seconds, memory_gb, errors)
    return Toolbox(tools, form or "hermes", form is not None, system, *bounds, arena, workers or WORKERS)
