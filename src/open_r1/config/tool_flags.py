"""Refuses tools that cannot be loaded, and runs in which tools could not act."""

from collections.abc import Iterable

from open_r1.config.generation_fields import given_kwargs
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.tools.limits import ToolLimits, check_bounds
from open_r1.tools.registry import load_tools


def check_tools(training: GRPOArguments) -> None:
    """Refuse limits without a meaning, tools that cannot be loaded, and runs that know no turns. Raises ValueError."""
    if not (training.tools or training.environment):
        return
    limits = ToolLimits(training.max_tool_turns, training.max_tool_images, training.max_tool_pixels)
    check_bounds(limits, training.tool_seconds, training.tool_memory_gb, training.tool_workers)
    load_tools(training.tools or ())
    if reasons := reasons_against(training):
        flag, reason = next(iter(reasons.items()))
        name, got = ("tools", " ".join(training.tools)) if training.tools else ("environment", training.environment)
        raise ValueError(f"--{name}: got {got} with {flag}, {reason}; leave one of the two out")


def refuse_no_pictures_of_tools(records: Iterable[Record], training: GRPOArguments) -> None:
    """Raises UsageError where all tools look at pictures, and no row has one; frames of videos are none."""
    tools = load_tools(training.tools or ()).values()
    if not tools or training.environment or any("images" not in tool.signature.given for tool in tools):
        return
    if not any(record.images for record in records):
        names = " ".join(training.tools)
        got = f"got {names}, which look at pictures, and rows without any (a tool is given no frame of a video)"
        raise UsageError(f"--tools: {got}; leave it out, or add rows with pictures")


def reasons_against(training: GRPOArguments) -> dict[str, str]:
    """The flags of a run that do not go with tools -> why."""
    reasons = {
        "--rollout_ahead": training.rollout_ahead and "which begins completions of one turn",
        "--vllm_structured_outputs_regex": training.vllm_structured_outputs_regex and "which shapes one turn",
        "--generation_kwargs min_tokens": "min_tokens" in given_kwargs(training.generation_kwargs)
        and "which counts the tokens of one turn",
        "--fsdp": training.fsdp and "whose ranks generate in whole calls of the model, one turn a completion",
        "--prefill_once false": not training.prefill_once and "which samples one turn a completion",
        "--vision_probe": training.environment
        and training.vision_probe
        and "whose blank pictures an environment knows nothing of",
        "--noisy_rollouts": training.environment
        and training.noisy_rollouts
        and "whose noise an environment's pictures would not have",
        "--cache_implementation": training.cache_implementation and "which keeps a cache of one turn",
    }
    return {flag: reason for flag, reason in reasons.items() if reason}
