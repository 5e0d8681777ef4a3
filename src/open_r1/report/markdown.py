"""Names and texts of others in Markdown: shown as they are, never as HTML, a link, a heading or the end of a block."""

import json
import re
from typing import Any

_LINES = re.compile(r"[\x00-\x1f\x85\u2028\u2029]+")
_SIGNS = re.compile(r"[\\`*\[\]<|]|://|(?<=www)\.", re.IGNORECASE)
_PLAIN_YAML = re.compile(r"[A-Za-z0-9_][\w./-]*")


class Made(str):
    """Markdown that this project has written."""


def text(value: Any) -> str:
    r"""A value inside a line or a table, whatever it holds.

    >>> print(text("a|b <img src=x> [c](https://d)\n# e"), text(3))
    a\|b \<img src=x> \[c\](https\://d) # e 3
    """
    if isinstance(value, Made):
        return value
    return _SIGNS.sub(r"\\\g<0>", _LINES.sub(" ", str(value)).replace("&", "&amp;"))


def code(value: Any) -> Made:
    """A value as code inside a line or a table.

    >>> print(code("a`|b"))
    `a'\\|b`
    """
    return Made("`" + _LINES.sub(" ", str(value)).replace("`", "'").replace("|", "\\|") + "`")


def block(value: str, language: str) -> Made:
    """Lines of code, between fences longer than any that they hold.

    >>> print(block("ls", "bash"))
    ```bash
    ls
    ```
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", value)), default=0))
    return Made(f"{fence}{language}\n{value}\n{fence}")


def quoted(value: str) -> Made:
    """A text as Python, JSON and YAML write it."""
    return Made(json.dumps(value, ensure_ascii=False))


def yaml(value: str) -> Made:
    """A text as a value of YAML, in quotes where it needs them.

    >>> print(yaml("Qwen/Qwen2.5-VL-3B"), yaml("x: y"))
    Qwen/Qwen2.5-VL-3B "x: y"
    """
    if _PLAIN_YAML.fullmatch(value):
        return Made(value)
    return Made(quoted(value).replace("\x85", "\\x85"))  # the only line end of YAML that JSON leaves as it is
