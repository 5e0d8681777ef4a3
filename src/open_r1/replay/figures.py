"""Figures of the run's settings and of those that are tried on a step, and what changes for which completion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from open_r1.replay.advantages import AdvantageSettings, advantages_of, signal_share, totals
from open_r1.replay.kept import KeptStep
from open_r1.replay.one_step import Gradient

CHANGED = 1e-3  # least difference of advantages that is one
# Name in metrics.jsonl -> what it is here; the first of several that a loss logs.
LOGGED = {
    "loss": "loss",
    "grad_norm": "gradient norm",
    "kl": "KL to the reference",
    "entropy": "entropy",
    "clip_ratio/region_mean": "share clipped",
    "cispo_clip_ratio": "share clipped",
    "perception/kl": "perception KL",
}


@dataclass(frozen=True)
class Outcome:
    """Rewards (N, functions), NaN: does not apply, and advantages (N,) of the completions under one setting; `step` is
    what the trainer made of them, where it was asked."""

    names: Sequence[str]
    rewards: torch.Tensor
    advantages: torch.Tensor
    settings: AdvantageSettings
    step: Gradient | None = None

    @property
    def totals(self) -> torch.Tensor:
        """(N,) weighted sums of rewards, NaN where none applies."""
        return totals(self.rewards, self.settings)

    def figures(self) -> dict[str, float]:
        """Name -> value; means over the completions that a reward applies to."""
        means = {f"reward {name}": self.rewards[:, n].nanmean().item() for n, name in enumerate(self.names)}
        found = means | {
            "reward": self.totals.nanmean().item(),
            "groups with signal": signal_share(self.rewards, self.settings),
            "mean size of an advantage": self.advantages.abs().mean().item(),
        }
        logs = self.step.logs if self.step else {}
        found |= {label: logs[name] for name, label in LOGGED.items() if name in logs}
        return {name: value for name, value in found.items() if not math.isnan(value)}


@dataclass(frozen=True)
class Change:
    """A completion whose reward or advantage differs: (the run's, the tried one) of each; a reward is None where no
    function applies."""

    where: str
    text: str
    rewards: tuple[float | None, float | None]
    advantages: tuple[float, float]

    @property
    def size(self) -> float:
        """The difference of the advantages, then of the rewards."""
        return abs(self.advantages[1] - self.advantages[0])


@dataclass(frozen=True)
class Comparison:
    """The `run`'s settings beside the `tried` ones (None where none are), and what the run `logged` of the step."""

    run: Outcome
    tried: Outcome | None
    changes: Sequence[Change]
    logged: Mapping[str, float]

    @property
    def cosine(self) -> float | None:
        """The cosine of the two gradients in [-1, 1]; None without two of them that are not 0."""
        if not (self.run.step and self.tried and self.tried.step):
            return None
        cosine = self.run.step.cosine(self.tried.step)
        return None if math.isnan(cosine) else cosine

    @property
    def flips(self) -> int:
        """Completions whose advantage changes its sign."""
        return sum(change.advantages[0] * change.advantages[1] < 0 for change in self.changes)


def generation_advantages(kept: KeptStep, rewards: torch.Tensor, settings: AdvantageSettings) -> torch.Tensor:
    """(N,) the advantages of all completions of a step; each generation is normalized by itself."""
    sizes = [sum(len(part.texts) for part in generation) for generation in kept.generations]
    return torch.cat([advantages_of(part, settings) for part in rewards.split(sizes)])


def changes_of(kept: KeptStep, run: Outcome, tried: Outcome) -> list[Change]:
    """The completions whose advantage or reward differs, the largest difference of advantages first."""
    columns = (kept.where, kept.texts, run.totals, tried.totals, run.advantages, tried.advantages)
    changes = [
        Change(where, text, (number_or_none(a), number_or_none(b)), (before.item(), after.item()))
        for where, text, a, b, before, after in zip(*columns, strict=True)
    ]
    differing = [each for each in changes if each.size > CHANGED or each.rewards[0] != each.rewards[1]]
    return sorted(differing, key=lambda each: -each.size)


def number_or_none(value: torch.Tensor) -> float | None:
    """A number, None for NaN."""
    return None if value.isnan() else value.item()


def as_json(kept: KeptStep, comparison: Comparison, facts: Mapping[str, object]) -> dict[str, object]:
    """Everything of a replay, for `--json`; `facts` of the command stand first."""
    outcomes = {"run": comparison.run} | ({"tried": comparison.tried} if comparison.tried else {})
    return {
        **facts,
        "settings": {name: outcome.figures() for name, outcome in outcomes.items()},
        "cosine": comparison.cosine,
        "logged": dict(comparison.logged),
        "completions": len(kept.texts),
        "changed": len(comparison.changes),
        "sign_flips": comparison.flips,
        "changes": [
            {"where": each.where, "text": each.text, "rewards": each.rewards, "advantages": each.advantages}
            for each in comparison.changes
        ],
    }
