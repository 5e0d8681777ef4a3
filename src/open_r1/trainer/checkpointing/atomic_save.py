"""Atomic save: write a folder of weights under another name and rename it when complete, so that a kill or a full disk
leaves the last good one.

All ranks write into `saving/checkpoint-N`, which nothing takes for a checkpoint; rank 0 adds the manifest, syncs all
files to the disk, and renames the folder. The next save removes what a killed run left in `saving`.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from open_r1.errors import RunEnded
from open_r1.trainer.checkpointing.manifest import size_of, size_problems, sync, write_manifest
from open_r1.trainer.distributed import on_all_ranks, text_for_all_ranks
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)

SAVING = "saving"  # holds an incomplete folder, and the one that it replaces


class SaveFailed(RunEnded):
    """A folder could not be written; the previous one is unchanged."""


@contextmanager
def staged(trainer: RunTrainer, final: Path, manifest: bool) -> Iterator[Path]:
    """Yields the folder that all ranks write into, and renames it to `final`, replacing an earlier one.

    Raises SaveFailed, on all ranks, where one cannot write. Ranks of DeepSpeed and FSDP write between collectives:
    there the rank that failed raises OSError alone, and its exit ends the others.
    """
    folder = final.parent / SAVING / final.name
    first = trainer.accelerator.is_main_process
    on_all_ranks(lambda: prepare_folder(folder) if first else None)
    error = None
    try:
        yield folder
    except Exception as raised:
        if not is_write_error(raised):
            raise
        error = raised

    def raise_write_error() -> None:
        if error is not None:
            shutil.rmtree(folder.parent, ignore_errors=True)  # frees a full disk
            raise SaveFailed(save_error_text(final, error)) from error

    if error is not None and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise OSError(save_error_text(final, error)) from error
    on_all_ranks(raise_write_error)
    on_all_ranks(lambda: publish(folder, final, manifest) if first else None)


def prepare_folder(folder: Path) -> None:
    """Make an empty folder and remove the remains of killed runs beside it. Raises SaveFailed."""
    try:
        if folder.parent.exists():
            shutil.rmtree(folder.parent)
        folder.mkdir(parents=True)
    except OSError as error:
        raise SaveFailed(save_error_text(folder.parents[1] / folder.name, error)) from error


def publish(folder: Path, final: Path, manifest: bool) -> None:
    """Sync a complete folder to the disk, rename it to `final`, and compare sizes there with the manifest.

    Raises SaveFailed.
    """
    try:
        if manifest:
            write_manifest(folder)
        if os.path.lexists(final):  # also a link to nowhere
            final.rename(folder.parent / "replaced")
        folder.rename(final)
        sync(final.parent)
        if manifest and (problems := size_problems(final)):
            raise OSError("; ".join(problems))
        shutil.rmtree(folder.parent)
        warn_of_little_space(final)
    except OSError as error:
        raise SaveFailed(save_error_text(final, error)) from error


def warn_of_little_space(folder: Path) -> None:
    """Warn if another save of this size would not fit on the disk."""
    size, free = size_of(folder.rglob("*")), shutil.disk_usage(folder).free
    if free < size:
        logger.warning(
            "%s took %.2f GB, and %.2f GB are free: the next one will not fit; free space, or set --save_total_limit",
            folder,
            size / 1e9,
            free / 1e9,
        )


def is_write_error(error: Exception) -> bool:
    """Whether a file could not be written; torch and safetensors hide the OSError behind their own.

    >>> is_write_error(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"))
    True
    """
    messages = ("inline_container", "I/O error", "os error", "No space left")
    return isinstance(error, OSError) or any(message in str(error) for message in messages)


def save_error_text(final: Path, error: Exception) -> str:
    """The message of a failed save.

    >>> save_error_text(Path("out/checkpoint-6"), OSError(28, "No space left on device"))
    'out/checkpoint-6 could not be written: OSError: [Errno 28] No space left on device'
    """
    return f"{final} could not be written: {text_for_all_ranks(error)}"
