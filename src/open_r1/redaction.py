"""Removes secrets from texts, commands and addresses; names the flags that would carry one. (torch-free)

A token on a command line is visible in the process table, in shell histories, in trackers' copies of it and in
transformers' pickled arguments. So tokens come from the environment, and every text that may hold one is redacted here
before it is written or shown.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

# Flags of other programs, transformers and TRL that take a secret -> where it belongs.
_HUB = "export HF_TOKEN=... (or run `hf auth login`): every user of the machine could read a flag"
TOKEN_FLAGS: dict[str, str] = {
    **dict.fromkeys(("hub_token", "push_to_hub_token", "use_auth_token", "hf_token", "token"), _HUB),
    "wandb_api_key": "export WANDB_API_KEY=... (or run `wandb login`)",
    "openai_api_key": "export OPENAI_API_KEY=...",
    "api_key": "export OPENAI_API_KEY=...",
}
_NAME = r"(?:[a-z0-9_-]*[_-])?(?:token|secret|passwd|password|api_?key|access_?key|credentials?|signature|sig|key)"
_FLAG = re.compile(rf"--{_NAME}", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/?#\s@]+@")  # https://me:secret@host
_USER_OR_PATH = re.compile(r"(?<=://)[^\s\"'<>]*@")  # a password may hold a slash
_QUERY = re.compile(rf"([?&]{_NAME}=)[^&#\s]+", re.IGNORECASE)  # https://host/x?token=secret
_VARIABLE = re.compile(r"(?:.*_)?(?:TOKEN|SECRET|PASSWD|PASSWORD|KEY|CREDENTIALS?)")
_QUOTED = re.compile(r"[\s\"'{}$`\\]")  # what a shell would read otherwise
SHORTEST = 8  # characters; a shorter value ("none", "EMPTY") is no secret, and occurs in many texts


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text without the users, passwords and secret parameters of addresses, and without the values of variables such
    as HF_TOKEN or OPENAI_API_KEY.

    >>> redacted("https://me:pw@host/a?rows=3&api_key=x", {}), redacted("got hf_12345678", {"HF_TOKEN": "hf_12345678"})
    ('https://...@host/a?rows=3&api_key=...', 'got [HF_TOKEN]')
    """
    for name, value in environ.items():
        if len(value) >= SHORTEST and _VARIABLE.fullmatch(name) and value in text:
            text = text.replace(value, f"[{name}]")
    return _QUERY.sub(r"\1...", _USER_OR_PATH.sub("...@", text))


def redacted_values(value: Any) -> Any:
    """A JSON value with each of its texts `redacted`.

    >>> redacted_values({"a": ["http://me@host", 1]})
    {'a': ['http://...@host', 1]}
    """
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: redacted_values(one) for key, one in value.items()}
    return [redacted_values(one) for one in value] if isinstance(value, list) else value


def secret_address(place: str) -> str:
    """The complaint about an address with a secret in it, without the secret."""
    return (
        f"{place}: got an address with a user, password or token in it, expected one without: flags are seen by every "
        "user of the machine and written down; a server's user and password may stand in ~/.netrc"
    )


def holds_secret(text: str) -> bool:
    """Whether an address in the text carries a user, a password or a secret parameter.

    >>> holds_secret("http://me:pw@host:8000"), holds_secret("http://host/?token=x"), holds_secret("a@b.c/d")
    (True, True, False)
    """
    return bool(_USER.search(text) or _QUERY.search(text))


def command_line(argv: Sequence[str]) -> str:
    """A command as a shell takes it, without secrets.

    >>> command_line(["grpo.py", "--hub_token", "hf_1", "--seed", "3", "--api_key=x"])
    'grpo.py --hub_token ... --seed 3 --api_key=...'
    """
    words, hide = [], False
    for word in argv:
        flag, equals, _ = word.partition("=")
        secret = bool(_FLAG.fullmatch(flag))
        words.append("..." if hide else f"{flag}=..." if secret and equals else redacted(word))
        hide = secret and not equals
    return " ".join(shlex.quote(word) if _QUOTED.search(word) else word for word in words)


def shown_url(url: str) -> str:
    """An address without user, password and query; only its scheme where an @ may end a password.

    >>> shown_url("https://me:secret@host:8000/v1?key=secret"), shown_url("https://me:se/cret@host"), shown_url("host")
    ('https://host:8000/v1', 'https://...', 'host')
    """
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return f"{parts.scheme}://..." if "@" in url.removeprefix(f"{parts.scheme}://{parts.netloc}") else plain
