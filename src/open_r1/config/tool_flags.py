"""Refuses tools that cannot be loaded, and runs in which tools could not act."""

import math

from open_r1.config.generation_fields import given_kwargs
from open_r1.config.idle_flags import is_stage_3
from open_r1.config.training_arguments import GRPOArguments
from open_r1.tools.registry import load_tools


def check_tools(training: GRPOArguments) -> None:
    """Refuse limits without a meaning, tools that cannot be loaded, and runs that know no turns. Raises ValueError."""
    if not (training.tools or training.environment):
        return
    for name in ("max_tool_turns", "max_tool_pixels"):
        if (value := getattr(training, name)) is not None and value < 1:
            raise ValueError(f"--{name}: got {value}, expected at least 1")
    if training.max_tool_images < 0:
        raise ValueError(f"--max_tool_images: got {training.max_tool_images}, expected 0 or more")
    for name in ("tool_seconds", "tool_memory_gb"):
        if not 0 < (value := getattr(training, name)) < math.inf:
            raise ValueError(f"--{name}: got {value:g}, expected a positive number")
    load_tools(training.tools or ())
    if reasons := reasons_against(training):
        flag, reason = next(iter(reasons.items()))
        name, got = ("tools", " ".join(training.tools)) if training.tools else ("environment", training.environment)
        raise ValueError(f"--{name}: got {got} with {flag}, {reason}; leave one of the two out")


def reasons_against(training: GRPOArguments) -> dict[str, str]:
    """The flags of a run that do not go with tools -> why."""
    reasons = {
        "--vllm_tensor_parallel_size": training.use_vllm
        and training.vllm_tensor_parallel_size > 1
        and "whose ranks ask one engine together, and have different numbers of turns",
        "--rollout_ahead": training.rollout_ahead and "which begins completions of one turn",
        "--vllm_structured_outputs_regex": training.vllm_structured_outputs_regex and "which shapes one turn",
        "--generation_kwargs min_tokens": "min_tokens" in given_kwargs(training.generation_kwargs)
        and "which counts the tokens of one turn",
        "--fsdp": training.fsdp and "whose ranks generate together, and have different numbers of turns",
        "ZeRO-3": is_stage_3(training.deepspeed)
        and "whose ranks generate together, and have different numbers of turns",
        "--prefill_once false": not training.prefill_once and "which samples one turn a completion",
        "--cache_implementation": training.cache_implementation and "which keeps a cache of one turn",
        "--resample_zero_variance": training.resample_zero_variance
        and "which sends completions between ranks without their pictures",
        "--vision_probe": training.vision_probe and "whose passes take pictures of prompts alone",
        "--noisy_rollouts": training.noisy_rollouts and "whose pictures are not those that tools would be given",
        "--perception_coef": training.perception_coef and "which masks pictures of prompts alone",
        "--visual_token_share": training.visual_token_share < 1 and "which weighs tools' tokens as the model's",
    }
    return {flag: reason for flag, reason in reasons.items() if reason}
