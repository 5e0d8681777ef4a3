"""Rewards of how a completion used tools: `tool_errors`, `environment`, and what `tool_bonus` asks. (torch-free)"""

from collections.abc import Sequence

from open_r1.data.record import Record
from open_r1.rewards.base import UnusableReward
from open_r1.rewards.turns import Message, tool_messages


def used_a_tool(trajectory: Sequence[Message]) -> bool:
    """Whether a tool answered a call of the completion, and not with an error."""
    return any(not message["error"] for message in tool_messages(trajectory))


def tool_errors(completion: str, record: Record, trajectory: Sequence[Message] = ()) -> float:
    """-0.5 for the first call that was malformed, refused or failed, half as much for each further one; in [-1, 0].

    A call that works takes nothing back, so that calling more is no way out.

    >>> failed = {"role": "tool", "content": "Error: ...", "error": True}
    >>> row = Record("1", (), "", (), "7")
    >>> tool_errors("7", row, [failed]), tool_errors("7", row, [failed, failed]), tool_errors("7", row)
    (-0.5, -0.75, 0.0)
    """
    failed = sum(message["error"] for message in tool_messages(trajectory))
    return 0.5 ** min(failed, 60) - 1.0


def environment(completion: str, record: Record, trajectory: Sequence[Message] = ()) -> float | None:
    """What the completion earned by its environment's own reward; None of a completion without an environment.

    Raises UnusableReward for an environment whose reward raised, or is no number.

    >>> row, last = Record("1", (), "", (), ""), {"role": "assistant", "content": "7"}
    >>> environment("7", row, [last | {"environment": {"reward": 0.5}}]), environment("7", row, [last])
    (0.5, None)
    """
    earned = trajectory[-1].get("environment", {}) if trajectory else {}
    if "error" in earned:
        raise UnusableReward(earned["error"])
    return earned.get("reward")
