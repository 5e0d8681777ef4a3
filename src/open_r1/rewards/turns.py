"""A completion as chat messages: the text that rewards grade, and what tools answered on the way. (torch-free)

    [{"role": "assistant", "content": "<tool_call>...</tool_call>", "tool_calls": [...]},
     {"role": "tool", "name": "zoom", "content": [{"type": "text", "text": "..."}, {"type": "image"}], "error": false},
     {"role": "assistant", "content": "<answer>7</answer>"}]

`tool_calls` are there where a turn ends with calls; each is answered by a message of role `tool`, whose `error` says
whether the call was malformed, refused or failed. Where a limit kept the answers out, the last turn still calls. With
an environment, the last message has `environment`: the `reward` that the completion earned by it (null: no verdict)
and its `measures`, or the `error` of an environment that gave none.
"""

from collections.abc import Sequence
from typing import Any

from open_r1.errors import data_error, shorten

Message = dict[str, Any]
CompletionMessages = str | Sequence[Message]
TURN_ROLES = ("assistant", "tool")
# a turn that calls a tool, and its answer
CALLED_ZOOM: tuple[Message, ...] = (
    {"role": "assistant", "content": "<tool_call>...</tool_call>", "tool_calls": [{"type": "function"}]},
    {"role": "tool", "name": "zoom", "content": [{"type": "image"}], "error": False},
)


def completion_text(completion: CompletionMessages) -> str:
    """The text of a completion that rewards grade: its last turn; "" where that calls a tool, so has no answer.

    >>> completion_text("a"), completion_text([{"role": "assistant", "content": "b"}])
    ('a', 'b')
    >>> completion_text([{"role": "assistant", "content": "<tool_call>...", "tool_calls": [{}]}])
    ''
    """
    if isinstance(completion, str):
        return completion
    last = next((message for message in reversed(completion) if message["role"] == "assistant"), None)
    if last is None or last.get("tool_calls"):
        return ""
    return _text(last["content"] or "")


def _text(content: str | Sequence[Message]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def messages_of(completion: CompletionMessages) -> list[Message]:
    """A completion as messages; of a text, one.

    >>> messages_of("7")
    [{'role': 'assistant', 'content': '7'}]
    """
    return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)


def tool_messages(trajectory: Sequence[Message]) -> list[Message]:
    """The answers of tools in a completion, in order."""
    return [message for message in trajectory if message["role"] == "tool"]


def checked_messages(value: Any, where: str) -> list[Message]:
    """A saved completion's messages. Raises DataError (field `completion`) for what is none, and for a tool's message
    that does not say whether it is an error."""
    if not isinstance(value, list) or not value:
        raise _bad(where, "completion", value, "the model's text, or a list of chat messages", "write it as text")
    for number, message in enumerate(value):
        place = f"completion[{number}]"
        if not isinstance(message, dict) or message.get("role") not in TURN_ROLES:
            raise _bad(where, place, message, "a message of role assistant or tool", "leave the prompt out")
        content = message.get("content")
        if not isinstance(content, str) and not (isinstance(content, list) and all(map(_is_part, content))):
            raise _bad(where, f"{place}.content", content, "a text, or a list of parts", "write it as text")
        if message["role"] == "tool" and not isinstance(message.get("error"), bool):
            remedy = "say whether the call was malformed, refused or failed"
            raise _bad(where, f"{place}.error", message.get("error"), "true or false", remedy)
    return value


def _is_part(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text", ""), str)


def _bad(where: str, name: str, got: object, expected: str, remedy: str) -> Exception:
    return data_error(where, name, shorten(got), expected, remedy)
