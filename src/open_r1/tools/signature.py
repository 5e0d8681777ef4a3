"""The signature of a tool: what type hints and docstring say to the model; arguments checked by it. (torch-free)

Types: int, float, str, bool, list of one of them, Literal of texts or whole numbers, and each of them `| None`. The
description is the docstring up to its `Args:` block; the block describes arguments, one `name: text` each.
"""

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from open_r1.errors import UsageError, nearest_hint, shorten
from open_r1.tools.call_forms import Json, ToolCall, read_json

Schema = dict[str, Any]
Refusal = Callable[[str, str, str, str], UsageError]
GIVEN = ("images", "frame")  # parameters that the run fills in; the model does not see them
SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}
WORDS = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "true or false"}
PLURALS = {"integer": "whole numbers", "number": "numbers", "string": "texts", "boolean": "true and false"}
TOOL_TYPES = "int, float, str, bool, list of one of them, Literal, or one of them | None"
MAX_WHOLE = 2**53  # whole numbers that a float holds exactly
MAX_NUMBER = 1e300


@dataclass(frozen=True)
class Parameter:
    """An argument that the model writes; `schema` is JSON schema."""

    name: str
    schema: Schema
    required: bool
    description: str = ""

    @property
    def described(self) -> Schema:
        """The schema with the description."""
        return self.schema | ({"description": self.description} if self.description else {})


@dataclass(frozen=True)
class ToolSignature:
    """What a tool takes: `given` by the run, `parameters` from the model."""

    description: str
    parameters: tuple[Parameter, ...]
    given: frozenset[str]

    def json_schema(self, name: str) -> Schema:
        """The tool as chat templates list it (OpenAI's form)."""
        properties = {parameter.name: parameter.described for parameter in self.parameters}
        required = [parameter.name for parameter in self.parameters if parameter.required]
        parameters = {"type": "object", "properties": properties, "required": required}
        function = {"name": name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def read_signature(fn: Callable[..., Any], name: str, where: str) -> ToolSignature:
    """The signature of a tool's function. Raises UsageError, beginning with `where`, for one that cannot be listed."""

    def refuse(what: str, got: str, expected: str, remedy: str) -> UsageError:
        return UsageError(f"{where}: tool {name}: {what}: got {got}, expected {expected}; {remedy}")

    if is_deferred(fn):
        raise refuse("function", "an async function or a generator", "a plain one", "return text and pictures")
    if not (fn.__doc__ or "").strip():
        raise refuse("docstring", "none", "one sentence that tells the model what it does", "write it")
    try:
        hints = get_type_hints(fn)
    except Exception as error:  # a name that does not exist in the file
        raise refuse("type hints", f"{type(error).__name__}: {error}", TOOL_TYPES, "correct them") from error
    description, described = _described(inspect.cleandoc(fn.__doc__))
    taken = inspect.signature(fn).parameters
    if strange := [own for own in described if own not in taken]:
        expected, remedy = f"one of {', '.join(taken)}" if taken else "none", nearest_hint(strange[0], taken)
        raise refuse("docstring: Args", strange[0], expected, remedy)
    written = [_parameter(taken[own], hints, described, refuse) for own in taken if own not in GIVEN]
    return ToolSignature(description, tuple(written), frozenset(GIVEN) & taken.keys())


def is_deferred(fn: Callable[..., Any]) -> bool:
    """Whether calling a function only begins it: an async function, a generator, or both."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(fn) for is_kind in kinds)


def _parameter(
    parameter: inspect.Parameter, hints: Mapping[str, Any], described: Mapping[str, str], refuse: Refusal
) -> Parameter:
    """A parameter that the model writes; raises what `refuse` makes of (what, got, expected, remedy)."""
    own, what = parameter.name, f"parameter {parameter.name}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise refuse(what, parameter.kind.description, "a named one", "name each argument")
    schema = schema_of(hints[own]) if own in hints else None
    if schema is None:
        got = shorten(hints[own]) if own in hints else "no type hint"
        raise refuse(what, got, TOOL_TYPES, f"write one, such as {own}: list[float]")
    return Parameter(own, schema, parameter.default is parameter.empty, described.get(own, ""))


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """(what stands before `Args:`, name -> description of each argument in that block)."""
    text, _, rest = docstring.partition("\nArgs:\n")
    block = inspect.cleandoc("\n" + re.split(r"\n(?=\S)", rest, maxsplit=1)[0])  # what is indented further goes on
    found = re.findall(r"^(\w+)(?: \([^)]*\))?:\s(.*(?:\n(?!\w+(?: \([^)]*\))?:\s).*)*)", block, re.MULTILINE)
    return " ".join(text.split()), {name: " ".join(words.split()) for name, words in found}


def schema_of(hint: Any) -> Schema | None:
    """The JSON schema of a type hint; None for a type that is not supported.

    >>> schema_of(list[float]), schema_of(int | None), schema_of(bytes)
    ({'type': 'array', 'items': {'type': 'number'}}, {'type': 'integer', 'nullable': True}, None)
    """
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    origin, inner = get_origin(hint), get_args(hint)
    if origin is list and len(inner) == 1:
        items = schema_of(inner[0])
        return items and {"type": "array", "items": items}
    if origin is Literal and len({type(value) for value in inner}) == 1 and type(inner[0]) in (str, int):
        return {"type": SCALARS[type(inner[0])], "enum": list(inner)}
    if origin in (Union, types.UnionType) and len(inner) == 2 and type(None) in inner:
        schema = schema_of(next(one for one in inner if one is not type(None)))
        return schema and {**schema, "nullable": True}
    return None


def checked_arguments(signature: ToolSignature, call: ToolCall) -> dict[str, Json]:
    """The arguments of a call by the types of the signature; whole floats become ints where ints are asked for.

    Raises ValueError, whose sentence is for the model, for arguments that are unknown, missing or of another type.
    """
    known = {parameter.name: parameter for parameter in signature.parameters}
    if unknown := [name for name in call.arguments if name not in known]:
        got, listed = shorten(unknown[0], 40), ", ".join(known) or "no arguments"
        raise ValueError(f"{call.name}: got argument {got}, expected {listed}; {nearest_hint(unknown[0][:64], known)}")
    if missing := [p for p in signature.parameters if p.required and p.name not in call.arguments]:
        raise ValueError(f"{call.name}: {missing[0].name}: got none, expected {in_words(missing[0].schema)}")
    return {name: _argument(call, name, value, known[name].schema) for name, value in call.arguments.items()}


def _argument(call: ToolCall, name: str, value: Json, schema: Schema) -> Json:
    is_text = call.as_text and schema["type"] != "string"
    try:
        return conform(read_json(value) if is_text else value, schema)
    except ValueError as error:
        bound = f", {error}" if isinstance(error, TooLarge) else ""
        got = f"got {shorten(value, 60)}, expected {in_words(schema)}{bound}"
        raise ValueError(f"{call.name}: {name}: {got}") from None


class TooLarge(ValueError):
    """A number is beyond what is taken, which the message says."""


def conform(value: Json, schema: Schema) -> Json:
    """A value as its schema types it; ValueError where it does not fit.

    >>> conform([1, 2.0], {"type": "array", "items": {"type": "integer"}})
    [1, 2]
    """
    if value is None and schema.get("nullable"):
        return None
    if schema["type"] == "array" and isinstance(value, list):
        return [conform(item, schema["items"]) for item in value]
    made = CONVERTERS[schema["type"]](value) if schema["type"] in CONVERTERS else None
    if made is None or made not in schema.get("enum", [made]):
        raise ValueError
    return made


def _whole(value: Json) -> int | None:
    if _finite(value) is None or value != int(value):
        return None
    if abs(value) > MAX_WHOLE:
        raise TooLarge(f"of at most {MAX_WHOLE:,} in size")
    return int(value)


def _finite(value: Json) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # NaN
        return None
    if abs(value) >= MAX_NUMBER:
        raise TooLarge(f"below {MAX_NUMBER:g} in size")
    return float(value)


CONVERTERS: Mapping[str, Callable[[Json], Json]] = {
    "integer": _whole,
    "number": _finite,
    "string": lambda value: value if isinstance(value, str) else None,
    "boolean": lambda value: value if isinstance(value, bool) else None,
}


def in_words(schema: Schema) -> str:
    """A schema as a person says it.

    >>> in_words({"type": "array", "items": {"type": "number"}}), in_words({"type": "string", "enum": ["a", "b"]})
    ('a list of numbers', "one of 'a', 'b'")
    """
    null = " or null" if schema.get("nullable") else ""
    if schema["type"] == "array":
        return f"a list of {_several(schema['items'])}{null}"
    return (f"one of {', '.join(map(repr, schema['enum']))}" if "enum" in schema else WORDS[schema["type"]]) + null


def _several(schema: Schema) -> str:
    """What a list holds, as a person says it."""
    null = " or null" if schema.get("nullable") else ""
    if schema["type"] == "array":
        return f"lists of {_several(schema['items'])}{null}"
    return PLURALS[schema["type"]] + (f", each {in_words(schema)}" if "enum" in schema else null)
