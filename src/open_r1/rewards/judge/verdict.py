"""How a verdict of the judge is read: pure functions. (torch-free)

A verdict is a JSON object that repeats the code of its call and says one thing (a mark, a rank) of each thing that was
asked about, and nothing else. Anything else is no verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from open_r1.endpoint.replies import parse_object, split_reasoning

Marks = list[bool]  # one for each criterion; without criteria the one verdict


class NoVerdict(RuntimeError):
    """A reply of the judge that holds no valid verdict."""


class Persuaded(NoVerdict):
    """A judge that accepted what no answer can be right about: random words, or letters."""


class Swayed(NoVerdict):
    """A judge that refused, among other answers, what is right by itself: the reference's own words."""


class JudgeRequest(Protocol):
    """One call of the judge: its prompt, the length and JSON schema of its reply, and how that is read."""

    messages: list[dict[str, Any]]

    @property
    def max_tokens(self) -> int:
        """Of the reply."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a verdict, for servers that can hold their replies to one."""

    def read(self, reply: str) -> list[Any]:
        """What the reply says of each answer asked about. Raises NoVerdict for anything but one valid verdict."""


@dataclass(frozen=True)
class MarkForm:
    """How an answer is marked: by `count` marks, of which the one at `decoy` is random words'; None for one mark."""

    count: int = 1
    decoy: int | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the marks of one answer."""
        mark = {"type": "boolean"}
        if self.decoy is None:
            return mark
        return {"type": "array", "items": mark, "minItems": self.count, "maxItems": self.count}

    def read(self, value: Any) -> tuple[Marks, bool]:
        """(marks without the decoy's, the decoy's). Raises NoVerdict for other than `count` marks."""
        marks = [value] if self.decoy is None else value
        if not isinstance(marks, list) or len(marks) != self.count or not all(isinstance(m, bool) for m in marks):
            raise NoVerdict(f"the judge gave other marks than {self.count} times true or false")
        decoy = self.decoy is not None and marks[self.decoy]
        return [mark for place, mark in enumerate(marks) if place != self.decoy], decoy


def read_verdict(reply: str, nonce: str, key: str = "equal") -> Any:
    """The field `key` of a reply `{"nonce": nonce, key: ...}`, which may follow its thinking.

    >>> read_verdict('{"nonce": "c0de", "equal": true}', "c0de")
    True
    >>> read_verdict('{"nonce": "beef", "equal": true}', "c0de")
    Traceback (most recent call last):
    open_r1.rewards.judge.verdict.NoVerdict: the judge replied with another nonce
    """
    try:
        verdict = parse_object(split_reasoning(reply)[1])
    except ValueError as error:
        raise NoVerdict(f"the judge's reply cannot be read: {error}") from error
    if set(verdict) != {"nonce", key}:
        raise NoVerdict(f"the judge replied with the fields {sorted(verdict)}")
    if verdict["nonce"] != nonce:
        raise NoVerdict("the judge replied with another nonce")
    return verdict[key]


def verdict_schema(nonce: str, key: str, form: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a verdict that repeats the code and holds `form` under `key`."""
    return object_schema({"nonce": {"type": "string", "enum": [nonce]}, key: form})


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with all of these properties and no other."""
    fields = {"properties": dict(properties), "required": list(properties), "additionalProperties": False}
    return {"type": "object", **fields}
