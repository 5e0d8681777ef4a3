"""Which checkpoint a run continues from, and whether it is fit for it; decided before a model is loaded.

A `checkpoint-N` can be continued from when every file of the state of a run is there (`missing`) and holds the bytes
that were written (`manifest`), and when flags, data, rewards and processor are those that it was saved under
(`identity`). transformers checks none of it: it goes on without optimizer, scheduler or random state where they are
absent, and under other flags. All nodes share the folder.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import ProcessorMixin, TrainingArguments

from open_r1.config.arguments import TaskArguments, VLMConfig
from open_r1.data.jsonl_dataset import Record
from open_r1.errors import UsageError
from open_r1.trainer.checkpointing.identity import refuse_differences, run_facts
from open_r1.trainer.checkpointing.manifest import MANIFEST, damages
from open_r1.trainer.checkpointing.required_files import missing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """The checkpoint a run continues from, None for a new run; and what shapes the run, to be saved with the next."""

    checkpoint: Path | None
    facts: dict[str, Any]


def plan_resume(
    records: Sequence[Record],
    task: TaskArguments,
    training: TrainingArguments,
    model_args: VLMConfig,
    processor: ProcessorMixin,
) -> Resume:
    """What `--resume_from_checkpoint` asks for: `true` for the newest whole checkpoint-N in --output_dir, `auto` for
    it where there is any checkpoint, a folder, or nothing.

    Raises UsageError, without loading a model, where there is no such folder, where it lacks a file or holds a damaged
    one, where flags, data, rewards or processor differ from those it was saved under, and for flags that no checkpoint
    can be exact with.
    """
    facts = run_facts(records, task, training, model_args, processor)
    fsdp = bool(training.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if fsdp and getattr(training, "sync_ref_model", False):
        raise UsageError(
            "--sync_ref_model: got true under FSDP, expected false: checkpoints would not hold the reference model; "
            "use DeepSpeed, or leave it out"
        )
    asked = str(training.resume_from_checkpoint or "false")
    if asked.lower() == "false":
        return Resume(None, facts)
    if training.ignore_data_skip:
        raise UsageError(
            "--ignore_data_skip: got true with --resume_from_checkpoint, expected false: rows would be repeated"
        )
    ranks = (training.process_index, training.world_size)
    if asked.lower() in ("true", "auto"):
        if asked.lower() == "auto" and not checkpoints_in(Path(training.output_dir)):
            return Resume(None, facts)
        folder = newest_checkpoint(Path(training.output_dir), training.resume_unverified, ranks)
    else:
        folder = named_checkpoint(Path(asked), training.resume_unverified, ranks)
    refuse_differences(folder, facts)
    return Resume(folder, facts)


# ------------------------------------------------------------------------------------------------------------- folders


def checkpoints_in(folder: Path) -> list[Path]:
    """`checkpoint-N` below a folder, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if path.is_dir()), key=lambda path: -int(path.name.split("-")[1]))


def newest_checkpoint(output_dir: Path, unverified: bool = False, ranks: tuple[int, int] = (0, 1)) -> Path:
    """The newest checkpoint without defects; newer ones are named in a warning with theirs."""
    found = checkpoints_in(output_dir)
    wrong: list[str] = []
    for path in found:
        if not (defects_ := checkpoint_defects(path, unverified, ranks)):
            return path
        wrong = wrong or defects_
        logger.warning("%s is left out: %s", path, "; ".join(defects_))
    if found:
        raise UsageError(unusable_text("true", found[0], wrong, []))
    raise UsageError(
        f"--resume_from_checkpoint: got true, expected a folder checkpoint-N in {output_dir}, found none; correct "
        "--output_dir, write auto to begin anew where there is none, or leave --resume_from_checkpoint out"
    )


def named_checkpoint(folder: Path, unverified: bool = False, ranks: tuple[int, int] = (0, 1)) -> Path:
    """A folder that the user named."""
    beside = checkpoints_in(folder if folder.is_dir() else folder.parent)
    if not folder.is_dir() or (beside and not (folder / "trainer_state.json").exists()):
        there = f"; there are {', '.join(path.name for path in beside)} in {beside[0].parent}" if beside else ""
        raise UsageError(
            f"--resume_from_checkpoint: got {folder}, expected a folder checkpoint-N{there}; correct the path, or "
            "write true for the newest in --output_dir"
        )
    if wrong := checkpoint_defects(folder, unverified, ranks):
        complete = [path.name for path in checkpoints_in(folder.parent) if path != folder and not missing(path)]
        raise UsageError(unusable_text(str(folder), folder, wrong, complete))
    return folder


def unusable_text(asked: str, folder: Path, wrong: list[str], complete: list[str]) -> str:
    others = f"choose a complete one ({', '.join(complete)})" if complete else "there is no complete one beside it"
    unknown = not (folder / MANIFEST).exists() and not missing(folder)
    trust = "to go on from it unverified, add --resume_unverified true; " if unknown else ""
    return (
        f"--resume_from_checkpoint: got {asked}, expected a checkpoint with the whole state of a run, which {folder} "
        f"is not: {'; '.join(wrong)}. {trust}{others}, or start a new run from its weights: --model_name_or_path "
        f"{folder} without --resume_from_checkpoint"
    )


def checkpoint_defects(folder: Path, unverified: bool, ranks: tuple[int, int]) -> list[str]:
    """Why a checkpoint cannot be continued from; empty where it can. Ranks share the reading and agree.

    `unverified` allows one without a manifest, never one that differs from its manifest.
    """
    sealed = (folder / MANIFEST).exists()
    mine = [] if unverified and not sealed else damages(folder, *ranks)
    lacking = missing(folder)
    if lacking:
        mine = [
            f"it lacks {', '.join(lacking)} (--save_only_model true, a save that broke off, another program)",
            *mine,
        ]
    return list(dict.fromkeys(gather_object(mine) if ranks[1] > 1 else mine))
