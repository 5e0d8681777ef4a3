"""The table of tools by name, and users' own as `path/to/file.py:function`. (torch-free)

To add one, write its function in a file of this folder and a line in TOOLS. Its docstring and type hints are what the
model reads; `images` (the pictures so far) and `frame` (how the model writes boxes) are given by the run.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_r1.errors import UsageError, look_up
from open_r1.rewards.custom import user_file
from open_r1.rewards.sandbox.user_module import import_file
from open_r1.rewards.sandbox.worker_pool import OWN_REWARDS, WorkerKind
from open_r1.tools.signature import Schema, ToolSignature, read_signature
from open_r1.tools.zoom import zoom

ToolFunction = Callable[..., Any]  # (given and the model's arguments by name) -> str, picture, or a list of both
TOOLS: dict[str, ToolFunction] = {"zoom": zoom}


@dataclass(frozen=True)
class Tool:
    """A tool as the model calls it: by `name`; `source`, as `--tools` names it, is how a worker loads it."""

    name: str
    source: str
    signature: ToolSignature

    @property
    def schema(self) -> Schema:
        """The tool as chat templates list it."""
        return self.signature.json_schema(self.name)

    def workers(self, memory_gb: float) -> WorkerKind:
        """The workers that it runs in: those of our rewards, or of the user's file, with this memory limit."""
        path, _ = user_file(self.source)
        return WorkerKind(path, memory_gb * 1e9) if path else OWN_REWARDS


def tool_function(source: str) -> ToolFunction:
    """The function of a built-in tool, or the user's of `path/to/file.py:function`.

    Raises ValueError for an unknown name, a file that is not there or cannot be imported, and a missing function.
    """
    path, function = user_file(source)
    if not path:
        if source.endswith(".py"):
            raise ValueError(f"tool: got {source!r}, expected {source}:function")
        return look_up(source, TOOLS, "tool")
    if not Path(path).is_file():
        raise UsageError(f"tool {source}: got {path}, expected a Python file; correct the path")
    try:
        fn = getattr(import_file(path), function, None)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        got = f"{path}, which cannot be imported: {type(error).__name__}: {error}"
        raise UsageError(f"tool {source}: got {got}, expected a module; mend the file") from error
    if not callable(fn):
        raise ValueError(f"tool {source}: {path} has no function {function!r}")
    return fn


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


def load_tools(sources: Sequence[str]) -> dict[str, Tool]:
    """Name -> tool. Raises ValueError for two of one name, and as `load_tool`."""
    tools: dict[str, Tool] = {}
    for source in sources:
        tool = load_tool(source)
        if tool.name in tools:
            raise ValueError(f"tools: got {tools[tool.name].source} and {source}, expected each name once; rename one")
        tools[tool.name] = tool
    return tools
