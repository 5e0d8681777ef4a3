"""The forms in which model families write tool calls, each with its reader; `FORMS` is the table. (torch-free)

A chat template that lists tools names its form by a mark; any other gets Qwen's ("hermes"), as text. The forms are
those of the families' chat templates and of the response templates of trl, chat_template_utils.py.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from open_r1.errors import shorten

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class ToolCall:
    """A call as the model wrote it; `as_text`: values are texts, which the type of each parameter reads."""

    name: str
    arguments: Mapping[str, Json]
    as_text: bool = False


@dataclass(frozen=True)
class CallForm:
    """How a family writes calls: between `opening` and `closing`, which `read` makes `ToolCall`s of.

    `begins` is what follows an opening in a call that is never closed; `mark` is in the chat templates of such
    families. `read` raises ValueError, whose message is for the model.
    """

    opening: str
    closing: str
    begins: re.Pattern[str]
    mark: str
    read: Callable[[str], list[ToolCall]]


def read_json(text: str) -> Json:
    """The value of a JSON text; ValueError for anything else, for infinite numbers, and over 1,024 levels.

    >>> read_json("[1, 2.5]")
    [1, 2.5]
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"got {shorten(text, 60)}, expected JSON ({error})") from error


def read_hermes(content: str) -> list[ToolCall]:
    """
    >>> read_hermes('{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 9, 9]}}')
    [ToolCall(name='zoom', arguments={'bbox_2d': [0, 0, 9, 9]}, as_text=False)]
    """
    value = read_json(content.strip())
    name = value.get("name") if isinstance(value, dict) else None
    arguments = value.get("arguments", {}) if isinstance(value, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict) or value.keys() - {"name", "arguments"}:
        raise ValueError(f'got {shorten(content.strip(), 60)}, expected {{"name": ..., "arguments": {{...}}}}')
    return [ToolCall(name, arguments)]


def read_tagged(content: str) -> list[ToolCall]:
    """
    >>> read_tagged("<function=zoom><parameter=label>cat</parameter></function>")
    [ToolCall(name='zoom', arguments={'label': 'cat'}, as_text=True)]
    """
    found = re.fullmatch(r"\s*<function=([^\n>]+)>(.*)</function>\s*", content, re.DOTALL)
    pattern = r"\s*<parameter=([^\n>]+)>\s*((?:(?!<parameter=).)*?)\s*</parameter>"
    return [_text_call(found and found[1], found and found[2], pattern, "<function=NAME><parameter=KEY>")]


def read_keyed(content: str) -> list[ToolCall]:
    """
    >>> read_keyed("zoom\\n<arg_key>label</arg_key>\\n<arg_value>cat</arg_value>\\n")
    [ToolCall(name='zoom', arguments={'label': 'cat'}, as_text=True)]
    """
    found = re.fullmatch(r"\s*([^\s<]+)(.*)", content, re.DOTALL)
    pattern = r"\s*<arg_key>([^<]+)</arg_key>\s*<arg_value>((?:(?!<arg_key>).)*?)</arg_value>"
    return [_text_call(found and found[1], found and found[2], pattern, "NAME<arg_key>KEY</arg_key><arg_value>")]


def _text_call(name: str | None, rest: str | None, pattern: str, expected: str) -> ToolCall:
    """A call whose arguments are a sequence of `pattern` (key, value), of texts."""
    arguments, end = {}, 0
    for match in re.finditer(pattern, rest or "", re.DOTALL):
        if match.start() != end:
            break
        arguments[match[1].strip()], end = match[2], match.end()
    if name is None or (rest or "")[end:].strip():
        raise ValueError(f"got {shorten((name or '') + (rest or ''), 60)}, expected {expected}...")
    return ToolCall(name.strip(), arguments, as_text=True)


def read_gemma(content: str) -> list[ToolCall]:
    """
    >>> read_gemma('call:zoom{bbox_2d:[0,0,9,9],label:<|"|>a cat<|"|>}')
    [ToolCall(name='zoom', arguments={'bbox_2d': [0, 0, 9, 9], 'label': 'a cat'}, as_text=False)]
    """
    found = re.fullmatch(r"\s*call:(\w+)(\{.*\})\s*", content, re.DOTALL)
    if found is None:
        raise ValueError(f"got {shorten(content, 60)}, expected call:NAME{{KEY:VALUE}}")
    pieces = found[2].split('<|"|>')
    pieces[::2] = [re.sub(r"([{,]\s*)([A-Za-z_]\w*)\s*:", r'\1"\2":', piece) for piece in pieces[::2]]
    pieces[1::2] = [orjson.dumps(text).decode() for text in pieces[1::2]]
    return [ToolCall(found[1], read_json("".join(pieces)))]


def read_python(content: str) -> list[ToolCall]:
    """
    >>> read_python("[zoom(bbox_2d=[0, 0, 9, 9], label='a cat')]")
    [ToolCall(name='zoom', arguments={'bbox_2d': [0, 0, 9, 9], 'label': 'a cat'}, as_text=False)]
    """
    try:
        listed = ast.parse(content.strip(), mode="eval").body
        calls = listed.elts if isinstance(listed, ast.List) else []
        found = [ToolCall(call.func.id, {word.arg: _literal(word.value) for word in call.keywords}) for call in calls]
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError) as error:  # of `ast`, by depth too
        raise ValueError(f"got {shorten(content, 60)}, expected [NAME(KEY=VALUE)]") from error
    if not found or any(call.args for call in calls) or any(None in call.arguments for call in found):
        raise ValueError(f"got {shorten(content, 60)}, expected [NAME(KEY=VALUE)]")
    return found


def _literal(node: Any) -> Json:
    """The value of a literal; names of JSON's constants are such too. Raises ValueError or AttributeError."""
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}.get(node.id, node.id)
    return ast.literal_eval(node)


FORMS: dict[str, CallForm] = {
    "hermes": CallForm("<tool_call>", "</tool_call>", re.compile(r"\s*\{"), "<tool_call>", read_hermes),
    "tagged": CallForm("<tool_call>", "</tool_call>", re.compile(r"\s*<function="), "<function=", read_tagged),
    "keyed": CallForm("<tool_call>", "</tool_call>", re.compile(r"\s*[\w.-]+\s*<arg_key>"), "<arg_key>", read_keyed),
    "gemma": CallForm("<|tool_call>", "<tool_call|>", re.compile(r"\s*call:"), "<|tool_call>", read_gemma),
    "python": CallForm(
        "<|tool_call_start|>", "<|tool_call_end|>", re.compile(r"\s*\["), "<|tool_call_start|>", read_python
    ),
}


def form_of(chat_template: str) -> str | None:
    """The form, a key of `FORMS`, in which a chat template lists tools and asks for calls; None where it does not.

    >>> form_of("{% if tools %}<tool_call><function=..."), form_of("{{ messages }}")
    ('tagged', None)
    """
    if re.search(r"\btools\b", chat_template) is None:
        return None
    marked = [name for name, form in FORMS.items() if form.mark in chat_template]
    return marked[-1] if marked else None  # the mark of "hermes", which stands first, is in others' templates too
