"""How a run ends: well, asked to, or in an error; each time with what there is to go on from.

Whatever ends training leaves `checkpoint-N` of the last finished optimizer step, unless the ranks cannot agree on it:
where one rank of several fails by itself, it ends at once, so that its launcher ends the others.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from open_r1.errors import RunEnded, UsageError
from open_r1.trainer.checkpointing.atomic_save import SaveFailed, staged
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.checkpointing.select import Resume, checkpoints_in
from open_r1.trainer.lifecycle.partial_step import marking_steps, step_is_partial
from open_r1.trainer.lifecycle.preemption import RunStopped
from open_r1.trainer.outputs.hub import FINAL
from open_r1.trainer.protocols import RunTrainer


def train(trainer: RunTrainer, resume: Resume) -> None:
    """Train from a checkpoint where there is one, and save the final model; `checkpoint` in the output folder.

    Ends the process with status 0 where a signal asked it to stop, and with 1 where the run cannot go on; both say
    how to continue. Other errors pass, with that added.
    """
    with trainer.watch.running(), trainer.signals.handled(), marking_steps(trainer):
        try:
            trainer.train(resume_from_checkpoint=resume.checkpoint and str(resume.checkpoint))
            save_final(trainer)
        except Exception as error:
            end_in_error(trainer, error)


def save_final(trainer: RunTrainer) -> None:
    """The model folder, whole or as it was. Raises SaveFailed."""
    with staged(trainer, Path(trainer.args.output_dir) / FINAL, manifest=False) as folder:
        trainer.save_model(str(folder), _internal_call=True)
    if trainer.args.push_to_hub:
        trainer.push_to_hub(commit_message="Model save")


def end_in_error(trainer: RunTrainer, error: Exception) -> NoReturn:
    """End a run in `error`, with a checkpoint where that can be."""
    if trainer.accelerator.num_processes > 1 and not isinstance(error, RunEnded):
        end_alone(error)
    how = f"The run ended after step {trainer.state.global_step}; {how_to_continue(trainer, error)}"
    if not isinstance(error, UsageError):
        error.add_note(how)
        raise error
    if trainer.accelerator.is_main_process:
        sys.stderr.write(f"{error}\n{how}\n")
    sys.exit(0 if isinstance(error, RunStopped) else 1)


def how_to_continue(trainer: RunTrainer, error: Exception) -> str:
    """How to continue; saves a checkpoint unless that is what failed, or the weights are those of no finished step."""
    if step_is_partial(trainer):
        hint = newest_checkpoint_hint(trainer)
        return f"it had begun to change the weights for the next one, so they are not saved; {hint}"
    if not isinstance(error, SaveFailed):
        try:
            saved = save_checkpoint_now(trainer)
        except SaveFailed as failed:
            return f"{failed}; {newest_checkpoint_hint(trainer)}"
        if saved:
            return f"continue it with --resume_from_checkpoint {saved}, or auto"
    return newest_checkpoint_hint(trainer)


def newest_checkpoint_hint(trainer: RunTrainer) -> str:
    found = checkpoints_in(Path(trainer.args.output_dir))
    return f"the last good checkpoint is {found[0]}: --resume_from_checkpoint auto" if found else "nothing was saved"


def end_alone(error: Exception) -> NoReturn:
    """End this rank while the others wait in a collective that it will not reach; nothing here waits for a thread."""
    traceback.print_exception(error)
    sys.stderr.write("this rank failed by itself; continue the run with --resume_from_checkpoint auto\n")
    sys.stderr.flush()
    os._exit(1)
