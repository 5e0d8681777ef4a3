"""Tools in an evaluation: its toolbox, and completions with their turns as chat messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import ProcessorMixin

from open_r1.evaluation.settings import EvaluationSettings
from open_r1.rewards.turns import Message
from open_r1.rollout.trajectory import Trajectory
from open_r1.rollout.turns import TurnRollout
from open_r1.tools.episodes import warn_once
from open_r1.tools.limits import ToolLimits
from open_r1.tools.listing import refuse_control_tokens
from open_r1.tools.messages import ModelTurn, turn_messages
from open_r1.tools.toolbox import Toolbox, make_toolbox


@dataclass(frozen=True)
class Sampled:
    """A completion: token `ids` (C,), and with tools its `messages`, else None, whether a limit cut them off, its
    `turns` with pictures, and its `trajectory`."""

    ids: list[int]
    messages: list[Message] | None = None
    limited: bool = False
    turns: Sequence[ModelTurn] = ()
    trajectory: Trajectory | None = None

    @property
    def calls(self) -> int:
        """The number of answers that tools gave."""
        return sum(message["role"] == "tool" for message in self.messages or ())


def evaluated_toolbox(settings: EvaluationSettings, processor: ProcessorMixin) -> Toolbox | None:
    """The tools of `--tools` and `--environment`; None without. Raises UsageError and ValueError for those that cannot
    be loaded."""
    if not settings.has_tools:
        return None
    limits = ToolLimits(settings.max_tool_turns, settings.max_tool_images, settings.max_tool_pixels)
    bounds = (limits, settings.tool_seconds, settings.tool_memory_gb)
    more = {"environment": settings.environment, "workers": settings.tool_workers}
    toolbox = make_toolbox(settings.tools or (), processor.chat_template, *bounds, **more)
    refuse_control_tokens(toolbox, processor)
    return toolbox


def sampled_rollouts(rollouts: Sequence[TurnRollout]) -> list[Sampled]:
    """Rollouts with tools as an evaluation scores them."""
    return [
        Sampled(
            one.trajectory.ids, turn_messages(one.turns, one.earned), one.limit is not None, one.turns, one.trajectory
        )
        for one in rollouts
    ]


def tool_fields(sampled: Sampled, line: Mapping[str, Any]) -> dict[str, Any]:
    """What tools add to a line of `predictions.jsonl`: all turns, and the number of calls as a field of `--by`; the
    first error of an environment's reward is logged."""
    if sampled.messages is None:
        return {}
    earned = sampled.messages[-1].get("environment", {})
    if error := earned.get("error"):
        rest = "The mean of `environment` leaves such completions out; more are not shown"
        warn_once("an environment's reward in an evaluation", f"{line['row']}: reward environment: {error}\n{rest}")
    reward = {} if earned.get("reward") is None else {"environment": earned["reward"]}
    return {
        "measures": line["measures"] | earned.get("measures", {}) | reward,
        "turns": sampled.messages,
        "by": {**line["by"], "tool_calls": str(sampled.calls)},
        "truncated": line["truncated"] or sampled.limited,
    }
