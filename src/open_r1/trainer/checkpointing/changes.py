"""Compares the facts of a resumed run with those of its checkpoint: a difference is refused, or allowed by its kind.

`--resume_changed rewards,data` allows changes of these kinds; what changed is logged, saved in each later checkpoint
(`run_state.json`) and shown in the model card. Changed flags and ranks cannot be allowed: the saved state depends on
them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_r1.config.loss_types import clip_of_before
from open_r1.errors import UsageError, nearest_hint, shorten
from open_r1.trainer.checkpointing.required_files import read_object, read_state

logger = logging.getLogger(__name__)

# Kind -> beginnings of the names of its facts, see `identity.run_facts`. The first kind that fits is a fact's.
KINDS: dict[str, tuple[str, ...]] = {
    "data": ("rows", "sha256 of the data"),
    "images": ("sizes of sampled pictures", "sha256 of sampled pictures"),
    "processor": ("sha256 of the processor's ",),
    "model": ("sha256 of config.json of the ", "sha256 of sampled weights of the ", "commit of the "),
    "deepspeed": ("--deepspeed ",),
    "rewards": ("sha256 of ", "$JUDGE_", "$OPENAI_BASE_URL"),
}
OF_PROMPTS = {"data", "images", "processor"}  # after such a change, saved completions no longer fit their prompts
# Beginnings of facts that list all settings of a file, or all files of a processor.
OF_FILES = ("--deepspeed ", "sha256 of the processor's ")


@dataclass(frozen=True)
class FactDifference:
    """A fact that the checkpoint and this run have differently; `kind` is of `KINDS`, None for flags and ranks."""

    kind: str | None
    text: str


def kind_of(fact: str) -> str | None:
    """The kind of a fact.

    >>> kind_of("sha256 of my/reward.py"), kind_of("sha256 of the data"), kind_of("--beta"), kind_of("ranks")
    ('rewards', 'data', None, None)
    """
    return next((kind for kind, beginnings in KINDS.items() if fact.startswith(beginnings)), None)


def changed_kinds(text: str | None) -> frozenset[str]:
    """The kinds in `--resume_changed`. Raises UsageError for a name that is none.

    >>> sorted(changed_kinds("rewards, data"))
    ['data', 'rewards']
    """
    kinds = frozenset(name.strip() for name in (text or "").split(",") if name.strip())
    for name in sorted(kinds - set(KINDS)):
        raise UsageError(
            f"--resume_changed: got {name!r}, expected some of {', '.join(KINDS)}, with commas between; "
            f"{nearest_hint(name, KINDS)}"
        )
    return kinds


def resume_differences(saved: dict[str, Any], current: dict[str, Any]) -> list[FactDifference]:
    """Each fact that differs. Facts that only one of the two runs has are left out, as another version has other
    flags; but where both have settings of a file (`OF_FILES`), one that was added or removed differs too.

    >>> resume_differences({"--seed": 1, "rows": 64}, {"--seed": 2, "rows": 64, "$JUDGE_MODEL": None})
    [FactDifference(kind=None, text='--seed: 1 in the checkpoint, 2 in this run')]
    """
    shared = tuple(
        prefix for prefix in OF_FILES if all(any(n.startswith(prefix) for n in f) for f in (saved, current))
    )
    names = [n for n in {**saved, **current} if (n in saved and n in current) or n.startswith(shared)]
    return [
        FactDifference(
            kind_of(name),
            f"{name}: {shown(name, saved)} in the checkpoint, {shown(name, current)} in this run",
        )
        for name in names
        if saved.get(name) != current.get(name)
    ]


def shown(name: str, facts: dict[str, Any]) -> str:
    """The value of a fact, short; of a hash its beginning.

    >>> shown("sha256 of the data", {"sha256 of the data": "0123456789abcdef"}), shown("rows", {"rows": 3})
    ("'0123456789ab'", '3')
    """
    value = facts.get(name)
    return shorten(value[:12] if name.startswith("sha256 ") and isinstance(value, str) else value)


def accept_differences(folder: Path, facts: dict[str, Any], allowed: frozenset[str]) -> list[FactDifference]:
    """The differences between the run that saved the checkpoint and this one; each is logged.

    Raises UsageError with all of them if one is of a kind that is not allowed, with the flag that would allow it.
    """
    differences = resume_differences(clip_of_before(read_state(folder)["facts"]), facts)
    if any(difference.kind not in allowed for difference in differences):
        raise UsageError(refusal(folder, differences))
    for difference in differences:
        logger.warning("--resume_changed %s: %s: %s", difference.kind, folder, difference.text)
    return differences


def refusal(folder: Path, differences: list[FactDifference]) -> str:
    """The message about differences that are not allowed."""
    kinds = ",".join(dict.fromkeys(d.kind for d in differences if d.kind))
    whole = all(d.kind for d in differences)
    allow = f"; --resume_changed {kinds} allows {'them' if whole else 'changed files, but no changed flags'}"
    return (
        f"--resume_from_checkpoint: got {folder}, expected the flags and files that it was saved under, so that the "
        "run goes on exactly:\n  "
        + "\n  ".join(d.text for d in differences)
        + f"\nset them back{allow * bool(kinds)}, or start a "
        f"new run from its weights: --model_name_or_path {folder} without --resume_from_checkpoint"
    )


def recorded_changes(folder: Path, differences: list[FactDifference]) -> list[str]:
    """A sentence for each change of this run on its way: those that the checkpoint records, and the new ones."""
    step = read_object(folder / "trainer_state.json").get("global_step")
    news = [f"after step {step}: {difference.text}" for difference in differences]
    return [*map(str, read_state(folder).get("changes", [])), *news]
