"""Trains, and ends a run at its last step, by a signal or by an error, each time with a checkpoint to continue from.

An early end leaves `checkpoint-N` of the last finished optimizer step, unless the ranks cannot agree on it: a rank of
several that fails alone exits at once, so that its launcher ends the others.
"""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from tqdm.contrib.logging import logging_redirect_tqdm

from open_r1.errors import RunEnded, UsageError, last_words
from open_r1.report.run_folder import FINAL_MODEL
from open_r1.trainer.checkpointing.atomic_save import SaveFailed, staged
from open_r1.trainer.checkpointing.manifest import size_problems
from open_r1.trainer.checkpointing.resumable import has_finished_a_step, save_checkpoint_now
from open_r1.trainer.checkpointing.select import Resume, checkpoints_in, step_of
from open_r1.trainer.lifecycle.held_folder import FolderMoved
from open_r1.trainer.lifecycle.partial_step import record_step_begins, step_is_partial
from open_r1.trainer.lifecycle.preemption import RunStopped
from open_r1.trainer.outputs.endings import again
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)


def train(trainer: RunTrainer, resume: Resume) -> None:
    """Train, from a checkpoint where there is one, and save the final model to `checkpoint` in the output folder.

    Ends the process with status 0 after a stop signal, and with 1 where the run cannot go on, also where code that it
    calls raises SystemExit; both say how to continue. Other errors pass, with that as a note.
    """
    with logging_redirect_tqdm(), trainer.watch.running(), trainer.signals.handlers(), record_step_begins(trainer):
        try:
            trainer.saved_folder = resume.checkpoint
            trainer.refuse_moved()  # holds the folder from here on
            trainer.train(resume_from_checkpoint=resume.checkpoint and str(resume.checkpoint))
            save_final(trainer)
        except Exception as error:
            end_in_error(trainer, error)
        except (SystemExit, GeneratorExit) as error:
            end_in_error(trainer, unasked_end(error))


def unasked_end(error: SystemExit | GeneratorExit) -> UsageError:
    """The error of a run that code it calls (a sampler, a dataset, a callback) would end as if it were done."""
    logger.error("a run was ended by code that it calls", exc_info=error)
    got = f"{type(error).__name__}({error})"
    return UsageError(f"got {got} from code that the run calls, expected no end; the traceback is in the log")


def save_final(trainer: RunTrainer) -> None:
    """Write the final model's folder atomically, and push it if asked. Raises SaveFailed."""
    trainer.refuse_moved()
    with staged(trainer, Path(trainer.args.output_dir) / FINAL_MODEL, manifest=False) as folder:
        trainer.save_model(str(folder), _internal_call=True)
    if trainer.args.push_to_hub:
        trainer.push_to_hub(commit_message="Model save")


def end_in_error(trainer: RunTrainer, error: Exception) -> NoReturn:
    """End a run with `error`, and with a checkpoint where one can be saved."""
    if trainer.accelerator.num_processes > 1 and not isinstance(error, RunEnded):
        end_alone(error)
    text = follow_folder(trainer, error)
    message = f"The run ended after step {trainer.state.global_step}; {how_to_continue(trainer, error)}"
    if not isinstance(error, UsageError):
        note = f"{text}\n{message}".lstrip()
        error.add_note(note)
        last_words(f"{type(error).__name__}: {error}\n{note}")
        raise error
    if trainer.accelerator.is_main_process:
        words = f"{error}\n{text}\n{message}\n".replace("\n\n", "\n")
        sys.stderr.write(last_words(f"\n{words}"))  # below the progress bar's line
    sys.exit(0 if isinstance(error, RunStopped) else 1)


def follow_folder(trainer: RunTrainer, error: Exception) -> str:
    """Make a moved output folder the trainer's; the sentence about it, empty where `error` or nothing says it."""
    if isinstance(error, FolderMoved):
        return ""
    try:
        trainer.refuse_moved()
    except FolderMoved as moved:
        return str(moved)
    return ""


def how_to_continue(trainer: RunTrainer, error: Exception) -> str:
    """The sentence that says how to continue. Saves a checkpoint, unless a save failed or a step is partial."""
    if step_is_partial(trainer):
        hint = newest_checkpoint_hint(trainer)
        return f"it had begun to change the weights for the next one, so they are not saved; {hint}"
    if not isinstance(error, SaveFailed):
        try:
            saved = save_checkpoint_now(trainer)
        except SaveFailed as failed:
            return f"{failed}; {newest_checkpoint_hint(trainer)}"
        if saved:
            newest = checkpoints_in(Path(trainer.args.output_dir))[:1] == [saved]
            auto = ", or auto" if newest else ""
            return f"continue it with --resume_from_checkpoint {saved}{auto}{again(trainer, saved)}"
    return newest_checkpoint_hint(trainer)


def newest_checkpoint_hint(trainer: RunTrainer) -> str:
    """The sentence that names the newest whole checkpoint of this run, if any."""
    if not has_finished_a_step(trainer) and not trainer.saved_folder:
        return "it had finished no step, so there is nothing to save: start it again"
    step, folder = trainer.state.global_step, Path(trainer.args.output_dir)
    own = [path for path in checkpoints_in(folder) if step_of(path) <= step and not size_problems(path)]
    newest = own[0] if own else trainer.saved_folder
    if newest is None:
        return "nothing was saved"
    auto = "auto" if checkpoints_in(folder)[:1] == [newest] else newest
    return f"the last good checkpoint is {newest}: --resume_from_checkpoint {auto}{again(trainer, newest)}"


def end_alone(error: Exception) -> NoReturn:
    """Exit this rank at once, without waiting for threads: the others wait in a collective that it will not reach."""
    traceback.print_exception(error)
    hint = "this rank failed by itself; continue the run with --resume_from_checkpoint auto\n"
    last_words(f"{type(error).__name__}: {error}\n{hint}")
    sys.stderr.write(hint)
    sys.stderr.flush()
    os._exit(1)
