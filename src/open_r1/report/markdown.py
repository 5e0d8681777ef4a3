"""Escape names and texts of others for Markdown: no HTML, link, heading or end of a block can come from them."""

import json
import re
from typing import Any

_LINES = re.compile(r"[\x00-\x1f\x85\u2028\u2029]+")
_SIGNS = re.compile(r"[\\`*\[\]<|]|://|(?<=www)\.", re.IGNORECASE)
_PLAIN_YAML = re.compile(r"[A-Za-z0-9_][\w./-]*")


class SafeMarkdown(str):
    """Markdown written by this project, which needs no escaping."""


def text(value: Any) -> str:
    r"""A value as text inside a line or a table, escaped.

    >>> print(text("a|b <img src=x> [c](https://d)\n# e"), text(3))
    a\|b \<img src=x> \[c\](https\://d) # e 3
    """
    if isinstance(value, SafeMarkdown):
        return value
    return _SIGNS.sub(r"\\\g<0>", _LINES.sub(" ", str(value)).replace("&", "&amp;"))


def code(value: Any) -> SafeMarkdown:
    """A value as code inside a line or a table.

    >>> print(code("a`|b"))
    `a'\\|b`
    """
    return SafeMarkdown("`" + _LINES.sub(" ", str(value)).replace("`", "'").replace("|", "\\|") + "`")


def block(value: str, language: str) -> SafeMarkdown:
    """A code block, with a fence longer than any in the code.

    >>> print(block("ls", "bash"))
    ```bash
    ls
    ```
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", value)), default=0))
    return SafeMarkdown(f"{fence}{language}\n{value}\n{fence}")


def quoted(value: str) -> SafeMarkdown:
    """A text as a string literal of Python, JSON and YAML."""
    return SafeMarkdown(json.dumps(value, ensure_ascii=False))


def yaml(value: str) -> SafeMarkdown:
    """A text as a value of YAML, quoted where necessary.

    >>> print(yaml("Qwen/Qwen2.5-VL-3B"), yaml("x: y"))
    Qwen/Qwen2.5-VL-3B "x: y"
    """
    if _PLAIN_YAML.fullmatch(value):
        return SafeMarkdown(value)
    return SafeMarkdown(quoted(value).replace("\x85", "\\x85"))  # a line break of YAML that JSON does not escape
