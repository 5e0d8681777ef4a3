"""Selects and verifies the checkpoint that a run continues from, before a model is loaded.

A `checkpoint-N` is fit when all files of a run's state are there (`required_files`) with the bytes that were written
(`manifest`), and when flags and files are those that it was saved under (`identity`, `file_facts`), or differ as
allowed (`changes`). transformers checks none of it: it continues without optimizer, scheduler or random state, and
under other flags. All nodes share the folder.
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

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.record import Record
from open_r1.errors import UsageError
from open_r1.trainer.checkpointing.changes import OF_PROMPTS, accept_differences, changed_kinds, recorded_changes
from open_r1.trainer.checkpointing.identity import run_facts
from open_r1.trainer.checkpointing.manifest import MANIFEST, damages
from open_r1.trainer.checkpointing.required_files import missing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """The checkpoint that a run continues from, None for a new run; and its facts, saved with each checkpoint.

    `changes`: a sentence for each file that was changed on the way, by `--resume_changed`; `new_prompts`: whether rows
    now make other prompts, so that saved completions do not belong to them.
    """

    checkpoint: Path | None
    facts: dict[str, Any]
    changes: Sequence[str] = ()
    new_prompts: bool = False


def plan_resume(
    records: Sequence[Record],
    task: TaskArguments,
    training: TrainingArguments,
    model_args: VLMConfig,
    processor: ProcessorMixin,
) -> Resume:
    """The checkpoint of `--resume_from_checkpoint`: `true` for the newest whole checkpoint-N in --output_dir, `auto`
    for the same where there is any checkpoint, a folder, or nothing.

    Raises UsageError, without loading a model, where there is no such folder, where a file is missing or damaged,
    where flags, data, rewards, processor or model differ from those it was saved under, but for the kinds of
    `--resume_changed`, and for flags that rule out an exact resume.
    """
    allowed = changed_kinds(training.resume_changed)
    facts = run_facts(records, task, training, model_args, processor)
    fsdp = bool(training.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if fsdp and getattr(training, "sync_ref_model", False):
        raise UsageError(
            "--sync_ref_model: got true under FSDP, expected false: checkpoints would not hold the reference model; "
            "use DeepSpeed, or leave it out"
        )
    choice = str(training.resume_from_checkpoint or "false")
    if choice.lower() == "false":
        if allowed:
            raise UsageError("--resume_changed: acts only with --resume_from_checkpoint; add that, or remove it")
        return Resume(None, facts)
    if training.ignore_data_skip:
        raise UsageError(
            "--ignore_data_skip: got true with --resume_from_checkpoint, expected false: rows would be repeated"
        )
    ranks = (training.process_index, training.world_size)
    if choice.lower() in ("true", "auto"):
        if choice.lower() == "auto" and not checkpoints_in(Path(training.output_dir)):
            return Resume(None, facts)
        folder = newest_checkpoint(Path(training.output_dir), training.resume_unverified, ranks)
    else:
        folder = named_checkpoint(Path(choice), training.resume_unverified, ranks)
    differences = accept_differences(folder, facts, allowed)
    new_prompts = any(difference.kind in OF_PROMPTS for difference in differences)
    return Resume(folder, facts, recorded_changes(folder, differences), new_prompts)


# ------------------------------------------------------------------------------------------------------------- folders


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders `checkpoint-N` in a folder, the highest N first."""
    paths = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in paths if path.is_dir()), key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The N of a folder `checkpoint-N`.

    >>> step_of(Path("out/checkpoint-20"))
    20
    """
    return int(checkpoint.name.split("-")[1])


def newest_checkpoint(output_dir: Path, unverified: bool = False, ranks: tuple[int, int] = (0, 1)) -> Path:
    """The newest checkpoint without defects; a warning names newer ones with theirs. Raises UsageError for none."""
    checkpoints = checkpoints_in(output_dir)
    newest_defects: list[str] = []
    for path in checkpoints:
        if not (defects := checkpoint_defects(path, unverified, ranks)):
            return path
        newest_defects = newest_defects or defects
        logger.warning("%s is left out: %s", path, "; ".join(defects))
    if checkpoints:
        raise UsageError(unusable_text("true", checkpoints[0], newest_defects, []))
    raise UsageError(
        f"--resume_from_checkpoint: got true, expected a folder checkpoint-N in {output_dir}, found none; correct "
        "--output_dir, write auto to begin anew where there is none, or leave --resume_from_checkpoint out"
    )


def named_checkpoint(folder: Path, unverified: bool = False, ranks: tuple[int, int] = (0, 1)) -> Path:
    """The folder that the user named. Raises UsageError where it is no checkpoint, or has defects."""
    siblings = checkpoints_in(folder if folder.is_dir() else folder.parent)
    if not folder.is_dir() or (siblings and not (folder / "trainer_state.json").exists()):
        hint = f"; there are {', '.join(path.name for path in siblings)} in {siblings[0].parent}" if siblings else ""
        raise UsageError(
            f"--resume_from_checkpoint: got {folder}, expected a folder checkpoint-N{hint}; correct the path, or "
            "write true for the newest in --output_dir"
        )
    if defects := checkpoint_defects(folder, unverified, ranks):
        complete = [path.name for path in checkpoints_in(folder.parent) if path != folder and not missing(path)]
        raise UsageError(unusable_text(str(folder), folder, defects, complete))
    return folder


def unusable_text(value: str, folder: Path, defects: list[str], complete: list[str]) -> str:
    """The message about a flag's value, a checkpoint with defects; `complete`: names of others to choose from."""
    others = f"choose a complete one ({', '.join(complete)})" if complete else "there is no complete one beside it"
    unknown = not (folder / MANIFEST).exists() and not missing(folder)
    trust = "to go on from it unverified, add --resume_unverified true; " if unknown else ""
    return (
        f"--resume_from_checkpoint: got {value}, expected a checkpoint with the whole state of a run, which {folder} "
        f"is not: {'; '.join(defects)}. {trust}{others}, or start a new run from its weights: --model_name_or_path "
        f"{folder} without --resume_from_checkpoint"
    )


def checkpoint_defects(folder: Path, unverified: bool, ranks: tuple[int, int]) -> list[str]:
    """A sentence for each reason against a resume from this checkpoint. Ranks share the reading, and return the same.

    `unverified` allows a checkpoint without manifest; one that differs from its manifest always has defects.
    """
    has_manifest = (folder / MANIFEST).exists()
    defects = [] if unverified and not has_manifest else damages(folder, *ranks)
    if names := missing(folder):
        reasons = "--save_only_model true, a save that broke off, another program"
        defects = [f"it lacks {', '.join(names)} ({reasons})", *defects]
    return list(dict.fromkeys(gather_object(defects) if ranks[1] > 1 else defects))
