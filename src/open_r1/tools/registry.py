"""The table of tools by name, and users' own as `path/to/file.py:function`. (torch-free)

To add one, write its function in a file of this folder and a line in TOOLS. Its docstring and type hints are what the
model reads; `images` (the pictures so far) and `frame` (how the model writes boxes) are given by the run.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from open_r1.errors import UsageError, look_up, nearest_hint
from open_r1.rewards.custom import user_file
from open_r1.rewards.sandbox.user_module import import_file
from open_r1.rewards.sandbox.worker_pool import OWN_REWARDS, WorkerKind
from open_r1.tools.signature import Schema, ToolSignature, read_signature
from open_r1.tools.zoom import zoom

ToolFunction = Callable[..., Any]  # (given and the model's arguments by name) -> str, picture, or a list of both
TOOLS: dict[str, ToolFunction] = {"zoom": zoom}


@dataclass(frozen=True)
class Tool:
    """A tool as the model calls it: by `name`; `source`, as `--tools` names it, is how a worker loads it.

    `keeps_state`: it is a method of the environment `source`, whose instance answers.
    """

    name: str
    source: str
    signature: ToolSignature
    keeps_state: bool = False

    @property
    def label(self) -> str:
        """How messages name it: as `--tools` does, or as a method of the environment."""
        return f"{self.source}.{self.name}" if self.keeps_state else self.source

    @property
    def schema(self) -> Schema:
        """The tool as chat templates list it."""
        return self.signature.json_schema(self.name)

    def workers(self, memory_gb: float, count: int) -> WorkerKind:
        """The workers that it runs in: as those of our rewards, or of the user's file, with this memory limit."""
        path, _ = user_file(self.source)
        return WorkerKind(path, memory_gb * 1e9, count) if path else replace(OWN_REWARDS, count=count)


def tool_function(source: str) -> ToolFunction:
    """The function of a built-in tool, or the user's of `path/to/file.py:function`.

    Raises ValueError for an unknown name, a file that is not there or cannot be imported, and a missing function.
    """
    path, function = user_file(source)
    if not path:
        if source.endswith(".py"):
            raise ValueError(f"tool: got {source!r}, expected {source}:function")
        return look_up(source, TOOLS, "tool")
    fn = named_in_file(source, "tool", "function")
    if inspect.isclass(fn):
        got = f"the class {function}, expected a function"
        raise UsageError(f"tool {source}: got {got}; a class with reset is an --environment")
    if not inspect.isroutine(fn):
        raise UsageError(
            f"tool {source}: got an object of {type(fn).__name__}, expected a function; write one that calls it"
        )
    return fn


def named_in_file(source: str, kind: str, what: str) -> Callable[..., Any]:
    """What a user's `path/to/file.py:name` names; `kind` and `what` are words for messages: a "tool" is a "function".

    Raises UsageError for a file that is not there or cannot be imported, and for a name that it does not define, with
    those that it does.
    """
    path, name = user_file(source)
    if not Path(path).is_file():
        raise UsageError(f"{kind} {source}: got {path}, expected a Python file; correct the path")
    try:
        module = import_file(path)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        got = f"{path}, which cannot be imported: {type(error).__name__}: {error}"
        raise UsageError(f"{kind} {source}: got {got}, expected a module; mend the file") from error
    found = getattr(module, name, None)
    if not callable(found):
        defined = defined_in(module, inspect.isclass if what == "class" else inspect.isfunction)
        expected = f"one of {', '.join(defined)}" if defined else f"a {what}, of which it has none"
        remedy = nearest_hint(name, dict.fromkeys(defined)) if defined else "write it there"
        raise UsageError(f"{kind} {source}: {path} has no {what} {name!r}, expected {expected}; {remedy}")
    return found


def defined_in(module: ModuleType, is_kind: Callable[[object], bool]) -> list[str]:
    """The public names of what a module itself defines."""
    mine = [name for name, value in vars(module).items() if is_kind(value) and value.__module__ == module.__name__]
    return [name for name in mine if not name.startswith("_")]


def load_tool(source: str) -> Tool:
    """The tool of a name or `path/to/file.py:function`. Raises UsageError, with file and line of the function, for one
    that cannot be listed for a model, and as `tool_function`.

    >>> load_tool("zoom").signature.given == {"images", "frame"}
    True
    """
    fn, (path, name) = tool_function(source), user_file(source)
    code = getattr(fn, "__code__", None)
    where = f"{path}:{code.co_firstlineno}" if path and code else source
    name = name or source
    if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
        raise UsageError(f"{where}: tool {name}: got this name, expected ASCII letters, digits and _; rename it")
    return Tool(name, source, read_signature(fn, name, where))


def load_tools(sources: Sequence[str], further: Mapping[str, Tool] = MappingProxyType({})) -> dict[str, Tool]:
    """Name -> tool, with `further` ones. Raises ValueError for two of one name, and as `load_tool`."""
    tools = dict(further)
    for source in sources:
        tool = load_tool(source)
        if tool.name in tools:
            first = tools[tool.name].source
            remedy = "leave one out" if first == source else "rename one"
            raise ValueError(f"--tools: got {first} and {source}, expected each name once; {remedy}")
        tools[tool.name] = tool
    return tools
