"""Read a run's folder (metrics, flags, sampled groups), and compare the flags of runs. (torch-free)"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from open_r1.data.jsonl_io import parse_line, whole_lines
from open_r1.errors import UsageError
from open_r1.report.history import read_metrics
from open_r1.report.thinning import stored_pictures
from open_r1.rewards.spread import sum_of_rewards

FINAL_MODEL = "checkpoint"  # folder of the trained model below the output folder, beside checkpoint-N
FLAGS_OF_PLACES = {"output_dir", "run_name", "resume_from_checkpoint"}  # flags without effect on training


@dataclass(frozen=True)
class Group:
    """A line of `rollouts.jsonl`, unparsed: parsed it takes five times the memory."""

    line: bytes
    step: int
    completions: int
    images: tuple[str, ...]

    def parsed(self) -> dict[str, Any]:
        return parse_line(self.line) or {}


@dataclass(frozen=True)
class RunFolder:
    """Outputs of a run so far: metric `lines`, `flags` of `resolved_config.yaml`, `groups` of `rollouts.jsonl`,
    `row_rates` of `row_rates.json`, None where rows were not drawn by difficulty."""

    name: str
    folder: Path
    lines: list[dict[str, Any]]
    flags: dict[str, Any]
    groups: list[Group]
    row_rates: dict[str, Any] | None = None


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """The runs in these folders; raises UsageError that names every folder without one."""
    missing = [str(folder) for folder in folders if not (folder / "metrics.jsonl").is_file()]
    if missing:
        raise UsageError(
            f"run folder: got {', '.join(missing)}, without metrics.jsonl, expected the --output_dir of a run that "
            "has logged a step; correct the path"
        )
    return [_read(folder, name) for folder, name in zip(folders, names(folders), strict=True)]


def _read(folder: Path, name: str) -> RunFolder:
    config, rollouts = folder / "resolved_config.yaml", folder / "rollouts.jsonl"
    sections = yaml.load(config.read_text(encoding="utf-8"), yaml.CSafeLoader) if config.exists() else {}
    lines = whole_lines(rollouts) if rollouts.exists() else ()
    groups = [Group(line, row["step"], len(row["completions"]), stored_pictures(row)) for line, row in lines]
    rates = folder / "row_rates.json"
    row_rates = json.loads(rates.read_text(encoding="utf-8")) if rates.exists() else None
    return RunFolder(name, folder, read_metrics(folder), flat(sections or {}), groups, row_rates)


def names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the shortest end of its path that differs, else the name and a number.

    >>> names([Path("/a/one"), Path("/b/two")]), names([Path("/a/run"), Path("/b/run")])
    (['one', 'two'], ['a/run', 'b/run'])
    """
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{part[-1]} ({i})" for i, part in enumerate(parts, 1)]


def flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Flag or package -> value.

    >>> flat({"task": {"task_type": "rec"}, "versions": {"transformers": "5.17.0"}})
    {'task_type': 'rec', 'transformers': '5.17.0'}
    """
    return {name: value for section in sections.values() for name, value in section.items()}


def flag_differences(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Flag -> its value in each run as text, of flags that differ; "–" where a run has no such flag."""
    flags = dict.fromkeys(name for run in runs for name in run.flags if name not in FLAGS_OF_PLACES)
    texts = {name: [as_text(run.flags[name]) if name in run.flags else "–" for run in runs] for name in flags}
    return {name: values for name, values in texts.items() if len(set(values)) > 1}


def as_text(value: Any) -> str:
    """A flag's value as text.

    >>> as_text(True), as_text(["a", 1]), as_text(None)
    ('true', 'a 1', 'not set')
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def total_reward(rewards: dict[str, float | None], weights: Sequence[float] | None = None) -> float:
    """The weighted sum of the rewards that apply; weights of another length are ignored.

    >>> total_reward({"accuracy": 1.0, "format": 0.5, "mine": None}, [1, 2, 1])
    2.0
    """
    fit = weights if weights and len(weights) == len(rewards) else [1.0] * len(rewards)
    return sum_of_rewards(rewards.values(), fit)
