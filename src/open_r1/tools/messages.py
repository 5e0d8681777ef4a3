"""A completion with tool turns as chat messages, as rewards, logs and saved completions hold it. (torch-free)"""

from collections.abc import Sequence
from dataclasses import dataclass

from open_r1.rewards.turns import Message
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.calls import MalformedCall
from open_r1.tools.environment_state import Earned
from open_r1.tools.toolbox import Calls, ToolAnswer


@dataclass(frozen=True)
class ModelTurn:
    """One turn: what the model wrote, without its end token; the calls that end it; their answers, () where `limit`,
    a flag with its value, kept them out."""

    text: str
    calls: Calls = ()
    answers: Sequence[ToolAnswer] = ()
    limit: str | None = None


def turn_messages(turns: Sequence[ModelTurn], earned: Earned | None = None) -> list[Message]:
    """The chat messages of a completion, in order; `open_r1.rewards.turns` says what they hold. `earned`: by its
    environment, which the last message tells.

    >>> [message["role"] for message in turn_messages([ModelTurn("7")])]
    ['assistant']
    """
    messages = [message for turn in turns for message in (_of_model(turn), *map(_of_tool, turn.answers))]
    if earned is not None:
        values = {"reward": earned.reward, "measures": dict(earned.measures)}
        messages[-1] = {**messages[-1], "environment": {"error": earned.error} if earned.error else values}
    return messages


def _of_model(turn: ModelTurn) -> Message:
    message: Message = {"role": "assistant", "content": turn.text}
    return message | ({"tool_calls": [_call(call) for call in turn.calls]} if turn.calls else {})


def _call(call: ToolCall | MalformedCall) -> Message:
    """A call in OpenAI's form; a malformed one has no function, but the error in its place."""
    if isinstance(call, ToolCall):
        return {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
    return {"type": "malformed", "error": call.reason}


def _of_tool(answer: ToolAnswer) -> Message:
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in answer.parts]
    return {"role": "tool", "name": answer.name, "content": content, "error": answer.error}
