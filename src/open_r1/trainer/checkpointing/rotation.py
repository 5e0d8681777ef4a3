"""Deletes old checkpoints beyond `--save_total_limit`, by step and manifest; times of files play no part.

transformers orders by time: after a clock that was ahead, or a copy of the folder, it deletes what was just written.
At the end of a run with another best checkpoint it deletes the newest one.
"""

import logging
import shutil
from pathlib import Path

from open_r1.trainer.checkpointing.atomic_save import SAVING
from open_r1.trainer.checkpointing.manifest import size_problems
from open_r1.trainer.checkpointing.required_files import read_object
from open_r1.trainer.checkpointing.select import checkpoints_in, step_of

logger = logging.getLogger(__name__)


def rotate(written: Path, limit: int | None, best: str | None = None) -> list[Path]:
    """Delete the oldest whole checkpoints beside `written` until `limit` are left; returns what was deleted.

    Only real folders of a LOWER step, whose files have the sizes of their manifest, are deleted and counted: damaged
    ones, links and other programs' are left alone, and so are those of higher steps, which an earlier run left.
    `written` and the folder named as `best` stay, also where the limit is 1. Without a whole `written` none goes.
    """
    if limit is None or limit <= 0 or size_problems(written):
        return []
    own = [path for path in checkpoints_in(written.parent) if step_of(path) < step_of(written) and is_own(path)]
    others = [path for path in reversed(own) if best is None or path.name != Path(best).name]  # oldest first
    room = max(limit - 1 - (len(own) - len(others)), 0)
    return [path for path in others[: max(len(others) - room, 0)] if remove(path)]


def is_own(path: Path) -> bool:
    """Whether a folder is a whole checkpoint that a run of this project wrote there."""
    return not path.is_symlink() and not size_problems(path)


def remove(path: Path) -> bool:
    """Delete a checkpoint, so that a kill leaves it whole or gone: it is renamed first. A failure is a warning."""
    doomed = path.parent / SAVING / path.name
    try:
        doomed.parent.mkdir(exist_ok=True)
        path.rename(doomed)
        shutil.rmtree(doomed.parent)
    except OSError as error:
        logger.warning("%s: cannot be deleted for --save_total_limit (%s); delete it by hand", path, error)
        return False
    return True


def best_beside(checkpoint: Path) -> str | None:
    """The whole checkpoint beside this one that has the name of the best one in its state; None for none.

    The state holds a path, which another folder or machine does not have once the checkpoints are copied.
    """
    best = read_object(checkpoint / "trainer_state.json").get("best_model_checkpoint")
    path = checkpoint.parent / Path(best).name if best else checkpoint
    return str(path) if best and not size_problems(path) else None


def warn_of_higher(written: Path, warned: frozenset[str]) -> frozenset[str]:
    """Warn, once of each, of checkpoints of higher steps, which an earlier run left beside the one just written.

    Returns the names of all that were warned of.
    """
    higher = [path.name for path in checkpoints_in(written.parent) if step_of(path) > step_of(written)]
    if not warned.issuperset(higher):
        logger.warning(
            "%s holds %s of an earlier run: they stay, whatever --save_total_limit says, and --resume_from_checkpoint "
            "auto or true would take %s; remove them, or name %s to go on from this run",
            written.parent,
            ", ".join(higher),
            higher[0],
            written,
        )
    return warned.union(higher)
