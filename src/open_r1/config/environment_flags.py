"""Refuses environments that cannot be loaded, and rewards and batches that do not go with them."""

from collections.abc import Sequence

from open_r1.config.training_arguments import GRPOArguments
from open_r1.tools.environment import load_environment
from open_r1.tools.environment_host import MOST_INSTANCES
from open_r1.tools.registry import load_tools


def check_environment(training: GRPOArguments, rewards: Sequence[str]) -> None:
    """Refuse an environment that cannot be loaded, an own reward that is not among a run's `rewards` or not there, and
    more completions of a rank than processes. Raises ValueError."""
    source, is_paid = training.environment, "environment" in rewards
    if not source:
        if is_paid:
            raise ValueError(
                "--reward_funcs: got environment, which acts only with --environment path/to/file.py:Class; add it"
            )
        return
    found = load_environment(source)
    load_tools(training.tools or (), found.tools)
    if is_paid and not found.reward_method:
        raise ValueError(
            f"--reward_funcs: got environment, but {source} has no method reward; write it, or leave environment out"
        )
    if found.reward_method and not is_paid:
        raise ValueError(
            f"--environment: got {source}, whose {found.reward_method}() no name in --reward_funcs asks for; add "
            "environment to them (with weight 0 in --reward_weights where it is only to be shown)"
        )
    steps = training.steps_per_generation or training.gradient_accumulation_steps
    completions = training.per_device_train_batch_size * steps
    if completions > MOST_INSTANCES:
        raise ValueError(
            f"--environment: got {completions} completions a generation of one rank, expected at most "
            f"{MOST_INSTANCES}, as each has a process; lower --per_device_train_batch_size"
        )
