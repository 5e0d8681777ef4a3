"""What each loss type of TRL 1.16 clips and scales by where a flag is left out: the values of its own publication.

TRL has one default for all, 0.2 on both sides: less than DAPO's 0.28 above the ratio 1, a bound that cuts all weights
of CISPO to a fifth, and hundreds of times the clip of a whole completion's ratio in GSPO.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trl import GRPOConfig


@dataclass(frozen=True)
class LossDefaults:
    """The ratio is clipped to [1 - `epsilon`, 1 + `epsilon_high`] (None: as `epsilon`); CISPO's weight at
    `epsilon_high` itself. `scale_rewards`: what advantages are divided by. `source`: who publishes that."""

    source: str
    epsilon: float = 0.2
    epsilon_high: float | None = None
    scale_rewards: str = "group"


# (--loss_type, --importance_sampling_level) -> its defaults; the first level of a loss type is its default.
LOSS_TYPES: dict[tuple[str, str], LossDefaults] = {
    ("grpo", "token"): LossDefaults("PPO, arXiv 1707.06347, section 6.1; GRPO's own, arXiv 2402.03300, names none"),
    ("grpo", "sequence"): LossDefaults("GSPO, arXiv 2507.18071v2, section 5.1", 3e-4, 4e-4),
    ("dr_grpo", "token"): LossDefaults("Dr. GRPO, arXiv 2503.20783, section 3.2", scale_rewards="none"),
    ("dapo", "token"): LossDefaults("DAPO, arXiv 2503.14476, section 4.1", epsilon_high=0.28),
    ("bnpo", "token"): LossDefaults("TRL 1.16, whose loss it is"),
    ("cispo", "token"): LossDefaults("ScaleRL, arXiv 2510.13786; MiniMax-M1's, arXiv 2506.13585, is not published",
                                     epsilon_high=5.0),
    ("sapo", "token"): LossDefaults("SAPO, arXiv 2511.20347: temperatures 1.0 and 1.05, which are TRL's; no clip"),
    ("luspo", "sequence"): LossDefaults("LUSPO, arXiv 2602.05261, section 5.1", 2e-3, 2.5e-3),
    ("vespo", "token"): LossDefaults("VESPO, arXiv 2602.10693: exponents and decays, which are TRL's; no clip"),
}  # fmt: skip
LOSS_NAMES = tuple(dict.fromkeys(name for name, _ in LOSS_TYPES))


def levels_of(loss_type: str) -> list[str]:
    """The levels of the ratio at which a loss type is published, its default first.

    >>> levels_of("grpo"), levels_of("luspo")
    (['token', 'sequence'], ['sequence'])
    """
    return [level for name, level in LOSS_TYPES if name == loss_type]


def check_loss_level(training: GRPOConfig) -> None:
    """Refuse a level of the ratio at which the loss type is not published. Raises ValueError."""
    level, levels = training.importance_sampling_level, levels_of(training.loss_type)
    if level is not None and level not in levels:
        others = [name for name, other in LOSS_TYPES if other == level]
        instead = f" or set --loss_type {' or '.join(others)}" if others else ""
        raise ValueError(
            f"--importance_sampling_level: got {level} with --loss_type {training.loss_type}, but its ratio is of a "
            f"{' or a '.join(levels)}; leave --importance_sampling_level out,{instead}"
        )


def fill_loss_defaults(training: GRPOConfig) -> None:
    """Set the flags of the loss that were left out; with --epsilon alone, --epsilon_high is the same, as in TRL."""
    training.importance_sampling_level = training.importance_sampling_level or levels_of(training.loss_type)[0]
    default = LOSS_TYPES[training.loss_type, training.importance_sampling_level]
    if training.epsilon is None and training.epsilon_high is None:
        training.epsilon_high = default.epsilon_high
    if training.epsilon is None:
        training.epsilon = default.epsilon
    if training.scale_rewards is None:
        training.scale_rewards = default.scale_rewards


def described(field: str) -> str:
    """The defaults of a field by loss type, for its help.

    >>> described("epsilon_high")
    'grpo by sequence 0.0004, dapo 0.28, cispo 5.0, luspo 0.0025'
    """
    plain = getattr(LossDefaults(""), field)
    own = {key: value for key, loss in LOSS_TYPES.items() if (value := getattr(loss, field)) != plain}
    return ", ".join(
        f"{name}{f' by {level}' * (level != levels_of(name)[0])} {value}" for (name, level), value in own.items()
    )


def clip_of_before(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a checkpoint of before 2026-11-29, when an --epsilon_high that was left out was --epsilon: so it is
    named, or left out where nothing could be clipped, as each completion was used once, by the policy that sampled it.

    >>> once = {"--gradient_accumulation_steps": 2, "--steps_per_generation": 2, "--num_iterations": 1}
    >>> clip = {"--loss_type": "dapo", "--epsilon": 0.2, "--epsilon_high": None}
    >>> "--epsilon_high" in clip_of_before({**once, **clip})
    False
    >>> clip_of_before({**once, **clip, "--num_iterations": 3})["--epsilon_high"]
    0.2
    """
    names = ("--gradient_accumulation_steps", "--steps_per_generation", "--num_iterations")
    if facts.get("--epsilon_high", 0) is not None or not all(facts.get(name) for name in names):
        return dict(facts)
    accumulation, steps, iterations = (facts[name] for name in names)
    if accumulation % (steps * iterations) == 0:
        return {name: value for name, value in facts.items() if name != "--epsilon_high"}
    return {**facts, "--epsilon_high": facts["--epsilon"]}
