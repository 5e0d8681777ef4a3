"""Moves the logs of an earlier run in the output folder to `earlier/1`, 2, ..., before a new run writes its own.

Logs of two runs in one file would be curves and a report of neither. `python -m open_r1.report` reads `earlier/N` too.
Weights stay, as a new run may start from them: checkpoints and the final model with its card.
"""

import logging
from contextlib import ExitStack
from pathlib import Path

from transformers import TrainingArguments

from open_r1.errors import UsageError
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.outputs.whole_steps import WHOLE_STEPS

EARLIER = "earlier"
COMPLETIONS = "completions"  # TRL's, of --log_completions
LINES = ("rollouts.jsonl", "metrics.jsonl")  # an earlier run has logged if one of them exists
# LINES are last: after a kill in between, the next run moves the rest.
LOGS = (
    "rollout_images",
    "row_rates.json",
    WHOLE_STEPS,
    "reward_curve.png",
    "report.html",
    "resolved_config.yaml",
    "watchdog",
    COMPLETIONS,
    *LINES,
)
logger = logging.getLogger(__name__)


def archive_earlier_logs(training: TrainingArguments) -> None:
    """Move an earlier run's logs away, for a run that starts anew. Raises UsageError, on all ranks, if that fails."""
    on_all_ranks(lambda: move_logs(Path(training.output_dir)) if training.process_index == 0 else None)


def move_logs(folder: Path) -> None:
    """Move all logs of an earlier run, if any, to the next `earlier/N`. Raises UsageError, and then moves none."""
    if not any((folder / name).exists() for name in LINES):
        return
    target = folder / EARLIER / str(1 + max(archive_numbers(folder / EARLIER), default=0))
    try:
        move_all([folder / name for name in LOGS if (folder / name).exists()], target)
        if (target / COMPLETIONS).exists():
            (folder / COMPLETIONS).mkdir()  # this run's trainer created it before, and will not again
    except OSError as error:
        raise UsageError(
            f"--output_dir {folder}: got {error}, expected to move the logs of the earlier run there to {target}; "
            "free space and make all of it writable, or choose another --output_dir"
        ) from error
    logger.warning(
        "--output_dir %s held an earlier run: its logs are now in %s. Its checkpoints stay: remove those that "
        "--resume_from_checkpoint true or auto should not take",
        folder,
        target,
    )


def archive_numbers(earlier: Path) -> list[int]:
    """The numbers N of the folders `earlier/N`."""
    return [int(path.name) for path in earlier.glob("*") if path.name.isdecimal()]


def move_all(paths: list[Path], target: Path) -> None:
    """Move all paths into a new folder, or none of them. Raises OSError."""
    target.mkdir(parents=True)
    with ExitStack() as undo:
        undo.callback(target.rmdir)
        for path in paths:
            path.rename(target / path.name)
            undo.callback((target / path.name).rename, path)
        undo.pop_all()
