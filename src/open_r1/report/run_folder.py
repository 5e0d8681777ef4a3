"""A run's folder, read: metrics, flags, sampled groups; and how several runs differ. (torch-free)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from open_r1.data.jsonl_io import parse_line, whole_lines
from open_r1.errors import UsageError
from open_r1.report.history import read_metrics

FLAGS_OF_PLACES = {"output_dir", "run_name", "resume_from_checkpoint"}  # flags that differ and make no difference


@dataclass(frozen=True)
class Group:
    """A line of `rollouts.jsonl`, kept as it stands: parsed it takes five times the memory."""

    line: bytes
    step: int
    completions: int
    images: tuple[str, ...]

    def parsed(self) -> dict[str, Any]:
        return parse_line(self.line) or {}


@dataclass(frozen=True)
class RunFolder:
    """What a run has left so far. `flags` is `resolved_config.yaml`, flat; `groups` the lines of `rollouts.jsonl`."""

    name: str
    folder: Path
    lines: list[dict[str, Any]]
    flags: dict[str, Any]
    groups: list[Group]


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Runs in the order given; raises UsageError naming every folder that holds none."""
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
    groups = [Group(line, row["step"], len(row["completions"]), tuple(row["images"])) for line, row in lines]
    return RunFolder(name, folder, read_metrics(folder), flat(sections or {}), groups)


def names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: as much of the end of its path as tells them apart, a number where nothing does.

    >>> names([Path("/a/one"), Path("/b/two")]), names([Path("/a/run"), Path("/b/run")])
    (['one', 'two'], ['a/run', 'b/run'])
    """
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        found = ["/".join(part[-length:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return [f"{part[-1]} ({i})" for i, part in enumerate(parts, 1)]


def flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Flag or package -> value.

    >>> flat({"task": {"task_type": "rec"}, "versions": {"transformers": "5.17.0"}})
    {'task_type': 'rec', 'transformers': '5.17.0'}
    """
    return {name: value for section in sections.values() for name, value in section.items()}


def flag_differences(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Flag -> its value in each run as text, where they are not all equal; "–" where a run has no such flag."""
    known = dict.fromkeys(name for run in runs for name in run.flags if name not in FLAGS_OF_PLACES)
    shown = {name: [as_text(run.flags[name]) if name in run.flags else "–" for run in runs] for name in known}
    return {name: values for name, values in shown.items() if len(set(values)) > 1}


def as_text(value: Any) -> str:
    """
    >>> as_text(True), as_text(["a", 1]), as_text(None)
    ('true', 'a 1', 'not set')
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
