"""A folder of weights is written under another name and renamed when it is whole: a kill or a full disk at any moment
leaves the last good one.

All ranks write into `saving/checkpoint-N`, which nothing takes for a checkpoint; rank 0 adds the manifest, sees all of
it on the disk, and renames it. What a killed run left in `saving` goes at the next save.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from open_r1.errors import RunEnded
from open_r1.trainer.checkpointing.manifest import size_of, sync, write_manifest
from open_r1.trainer.distributed import on_all_ranks, text_for_all_ranks
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)

SAVING = "saving"  # holds a folder that is not whole yet, and one that it replaces


class SaveFailed(RunEnded):
    """A folder could not be written; what was there before is as it was."""


@contextmanager
def staged(trainer: RunTrainer, final: Path, manifest: bool) -> Iterator[Path]:
    """All ranks write into the folder it gives; afterwards it is `final`, in place of one that was there.

    Raises SaveFailed, on all ranks, where one cannot write. Ranks of DeepSpeed and FSDP write between collectives:
    there the one that failed raises OSError alone, and its end ends the others.
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

    def written() -> None:
        if error is not None:
            shutil.rmtree(folder.parent, ignore_errors=True)  # a full disk has room again
            raise SaveFailed(save_error_text(final, error)) from error

    if error is not None and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise OSError(save_error_text(final, error)) from error
    on_all_ranks(written)
    on_all_ranks(lambda: publish(folder, final, manifest) if first else None)


def prepare_folder(folder: Path) -> None:
    """Make an empty folder; what killed runs left beside it goes. Raises SaveFailed."""
    try:
        if folder.parent.exists():
            shutil.rmtree(folder.parent)
        folder.mkdir(parents=True)
    except OSError as error:
        raise SaveFailed(save_error_text(folder.parents[1] / folder.name, error)) from error


def publish(folder: Path, final: Path, manifest: bool) -> None:
    """Rename a folder that is whole; on the disk before it has its name. Raises SaveFailed."""
    try:
        if manifest:
            write_manifest(folder)
        if final.exists():
            final.rename(folder.parent / "replaced")
        folder.rename(final)
        sync(final.parent)
        shutil.rmtree(folder.parent)
    except OSError as error:
        raise SaveFailed(save_error_text(final, error)) from error
    warn_of_little_space(final)


def warn_of_little_space(folder: Path) -> None:
    """Say in time that the next one will not fit."""
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
    theirs = ("inline_container", "I/O error", "os error", "No space left")
    return isinstance(error, OSError) or any(words in str(error) for words in theirs)


def save_error_text(final: Path, error: Exception) -> str:
    """
    >>> save_error_text(Path("out/checkpoint-6"), OSError(28, "No space left on device"))
    'out/checkpoint-6 could not be written: OSError: [Errno 28] No space left on device'
    """
    return f"{final} could not be written: {text_for_all_ranks(error)}"
