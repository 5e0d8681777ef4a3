"""Reads an environment: a user's class whose public methods are tools with a state between calls. (torch-free)

    class Game:
        def reset(self, record) -> str | None: ...      # begins; what it returns stands at the end of the prompt
        def guess(self, number: int) -> str: ...        # a tool, by the rules of `signature`
        def is_over(self) -> bool: ...                  # after each call: whether the completion ends with it
        def reward(self) -> float | dict: ...           # of one completion, from the state; `reward` of a dict
        def close(self): ...                            # gives back what it holds

`reset` and one method are needed. TRL 1.16's shape is one too: `reset(self, **columns)`, and `get_reward`.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

from open_r1.data.record import Record
from open_r1.errors import UsageError, shorten
from open_r1.rewards.custom import MAX_REWARD, user_file
from open_r1.rewards.sandbox.worker_pool import WorkerKind
from open_r1.tools.registry import Tool, named_in_file
from open_r1.tools.signature import is_deferred, read_signature

REWARD_NAMES = ("reward", "get_reward")  # the second is TRL's
OWN_METHODS = ("reset", "is_over", *REWARD_NAMES, "close")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
RESET = "reset(self, record), which begins for a row, and returns text and pictures for the prompt, or None"


@dataclass(frozen=True)
class Environment:
    """A class of `source`, path/to/file.py:Class: its `tools` by name; `reset_takes`: the names of what `reset` takes,
    "**" for all columns; `reward_method`: the name of the method of its own reward, "" without; `minimum`: what that
    pays where it gives no verdict in time; `closes` and `ends`: whether it has `close` and `is_over`."""

    source: str
    tools: Mapping[str, Tool] = field(default_factory=dict)
    reset_takes: frozenset[str] = frozenset()
    reward_method: str = ""
    minimum: float = 0.0
    closes: bool = False
    ends: bool = False

    def workers(self, memory_gb: float) -> WorkerKind:
        """The workers that its instances live in, with this memory limit in 10^9 bytes."""
        return WorkerKind(user_file(self.source)[0], memory_gb * 1e9)

    def reset_arguments(self, record: Record, images: list[Any]) -> dict[str, Any]:
        """What `reset` is given: `record` and `images`, the row's pictures, where it names them; else TRL's columns:
        `solution`, `id` and the row's other fields, those that it names."""
        known = {"id": record.id, "solution": record.solution, **record.extra}
        if "**" not in self.reset_takes:
            known |= {"record": record, "images": images}
        return {name: value for name, value in known.items() if {name, "**"} & self.reset_takes}


def load_environment(source: str) -> Environment:
    """The environment of `path/to/file.py:Class`. Raises UsageError for what is none, with what is wrong."""
    cls, (path, name) = environment_class(source), user_file(source)
    methods = {n: fn for base in reversed(cls.__mro__) for n, fn in vars(base).items() if inspect.isfunction(fn)}
    _refuse_no_methods(source, cls, methods)
    if "reset" not in methods:
        raise UsageError(f"environment {source}: {name} has no method reset, expected {RESET}; write it")
    rewards = [each for each in REWARD_NAMES if each in methods]
    if len(rewards) > 1:
        raise UsageError(f"environment {source}: {name} has reward and get_reward, expected one of them; remove one")
    for each in methods.keys() & OWN_METHODS:
        _refuse_async(source, each, methods[each])
        if each != "reset":
            _refuse_arguments(source, each, methods[each])
    tools = {n: _tool(source, path, n, fn) for n, fn in methods.items() if n not in OWN_METHODS and n[0] != "_"}
    if not tools:
        expected = "a public method with type hints and a docstring, which the model calls"
        raise UsageError(f"environment {source}: {name} has no tool, expected {expected}; write it")
    taken = list(inspect.signature(methods["reset"]).parameters.values())[1:]
    names = frozenset("**" if each.kind is each.VAR_KEYWORD else each.name for each in taken)
    has = ("close" in methods, "is_over" in methods)
    return Environment(source, tools, names, *rewards or [""], _minimum(source, cls), *has)


def environment_class(source: str) -> type:
    """The class of `path/to/file.py:Class`. Raises UsageError for anything else, and one that takes arguments."""
    path, name = user_file(source)
    if not path:
        remedy = f"write {source}:Class" if source.endswith(".py") else "name a class in a file of yours"
        raise UsageError(f"--environment: got {source!r}, expected path/to/file.py:Class; {remedy}")
    cls = named_in_file(source, "environment", "class")
    if not inspect.isclass(cls):
        raise UsageError(f"environment {source}: got {shorten(cls, 60)}, expected a class; a function is a --tools")
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        expected = "a class that is made without arguments"
        raise UsageError(f"environment {source}: got {name}, {error}, expected {expected}; give defaults") from error
    return cls


def _tool(source: str, path: str, name: str, fn: Callable[..., Any]) -> Tool:
    where = f"{path}:{fn.__code__.co_firstlineno}"
    return Tool(name, source, read_signature(MethodType(fn, object()), name, where), keeps_state=True)


def _refuse_async(source: str, name: str, fn: Callable[..., Any]) -> None:
    if is_deferred(fn):
        raise UsageError(f"environment {source}: got {name} as async or a generator, expected a plain method")


def _refuse_arguments(source: str, name: str, fn: Callable[..., Any]) -> None:
    """Refuses a method of the run's that needs arguments, of which it is given none."""
    taken = list(inspect.signature(fn).parameters.values())[1:]
    if needed := [each.name for each in taken if each.default is each.empty and each.kind not in VARIADIC]:
        got = f"{name}({', '.join(needed)})"
        raise UsageError(f"environment {source}: got {got}, expected no arguments; a tool has another name")


def _refuse_no_methods(source: str, cls: type, methods: Mapping[str, Any]) -> None:
    """Refuses what has the name of a method of the run's, or of a tool, and is called otherwise."""
    for name, value in inspect.getmembers_static(cls):
        is_own, is_tool = name in OWN_METHODS, name[0] != "_" and isinstance(value, (staticmethod, classmethod))
        if name not in methods and (is_own or is_tool):
            remedy = "write it with self" + ("" if is_own else ", or begin its name with _ where it is no tool")
            got = f"got {name} as a {type(value).__name__}"
            raise UsageError(f"environment {source}: {got}, expected a plain method; {remedy}")


def _minimum(source: str, cls: type) -> float:
    """The class attribute `minimum`, as rewards have one."""
    lowest = getattr(cls, "minimum", 0.0)
    if not isinstance(lowest, (int, float)) or not math.isfinite(lowest) or abs(lowest) > MAX_REWARD:
        expected = f"a finite number from {-MAX_REWARD:g} to {MAX_REWARD:g}"
        raise UsageError(f"environment {source}: minimum: got {shorten(lowest)}, expected {expected}; correct it")
    return float(lowest)
