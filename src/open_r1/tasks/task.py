"""What a task declares: its prompts, its rewards with weights, and the accuracy method that is also its metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from open_r1.conversation import PROMPTS


def full_score(score: float) -> bool:
    """Right when the accuracy method pays all of its 1.0."""
    return score >= 1.0


@dataclass(frozen=True)
class Task:
    """A recipe's declaration; `--task_type NAME` selects it and flags given by hand win over it.

    `prompts` map `--prompt_mode` to an instruction holding `{question}`. `rewards` and `weights` are parallel and
    name entries of `open_r1.rewards.REWARDS`. `method` names an entry of `open_r1.rewards.METHODS`; its score in
    [0, 1] says through `is_right` whether an evaluated answer counts.
    """

    name: str
    method: str
    prompts: Mapping[str, str] = field(default_factory=lambda: dict(PROMPTS))
    rewards: tuple[str, ...] = ("accuracy", "format")
    weights: tuple[float, ...] = (1.0, 1.0)
    is_right: Callable[[float], bool] = full_score
