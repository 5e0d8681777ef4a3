"""Mixin that reports a trainer's phases to the watchdog, checks for stop signals at each micro-batch, and for a moved
output folder before each write."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import has_length

from open_r1.errors import UsageError
from open_r1.rollout.image_tokens import refuse_other_counts
from open_r1.trainer.lifecycle.held_folder import FolderMoved, HeldFolder, moved_text
from open_r1.trainer.lifecycle.preemption import StopSignals
from open_r1.trainer.lifecycle.watchdog import Watchdog


class LifecycleHooks:
    """Mixin, before TRL's class: watchdog phases, stop signals, and the output folder held open."""

    predicted = 0  # batches of the evaluation in progress

    @cached_property
    def watch(self) -> Watchdog:
        """This rank's watchdog, which runs while `shutdown.train` does."""
        args = self.args
        return Watchdog(args.output_dir, args.hang_timeout, args.process_index, args.world_size)

    @cached_property
    def signals(self) -> StopSignals:
        """This rank's stop signals."""
        return StopSignals()

    @cached_property
    def held(self) -> HeldFolder:
        """The output folder, as it was when first asked for."""
        return HeldFolder(self.args.output_dir)

    def refuse_moved(self) -> None:
        """Raises FolderMoved, on all ranks, if the output folder has left its path; `output_dir` is then where it is.

        All ranks call it before they write. Rank 0 looks.
        """
        first = self.accelerator.is_main_process
        place = broadcast_object_list([str(self.held.new_place() or "") if first else ""])[0]
        if place:
            path, self.args.output_dir = self.args.output_dir, place
            self.__dict__.pop("held", None)  # what is made at `place` is held next
            self._follow_saved(Path(path), Path(place))
            raise FolderMoved(moved_text(path, place))

    def _follow_saved(self, old: Path, new: Path) -> None:
        """Make a checkpoint in the old place one in the new, which is saved again for lack of knowing its fate."""
        if self.saved_folder is not None and self.saved_folder.parent == old:
            followed = new / self.saved_folder.name
            self.saved_step, self.saved_folder = None, followed if followed.is_dir() else None

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.refuse_moved()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, *args: Any, **kwargs: Any) -> None:
        self.refuse_moved()
        super().log(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Raises RunStopped, on all ranks, before the micro-batch, and UsageError where a prompt has other numbers of
        image tokens and of image features."""
        self.signals.check(self.accelerator)
        self.watch.enter("update", self.state.global_step)
        with refuse_other_counts(self.model.config._name_or_path):
            return super().training_step(*args, **kwargs)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, *args: Any) -> Any:
        """The micro-batches of an optimizer step. Raises UsageError where the data loader ends before its length: an
        error within it that reads like the end of the data."""
        with self.watch.phase("data"):
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, *args)
        if len(batches) < num_batches:
            raise UsageError(
                f"step {self.state.global_step + 1}: got {len(batches)} of {num_batches} micro-batches from the data "
                "loader, which ended before its length, expected all; StopIteration in a sampler, a dataset or a "
                "collator ends it so: correct that, or the number of rows"
            )
        return batches, items

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises UsageError where the data loader ends before its length, as `get_batch_samples` does."""
        self.predicted = 0
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        if has_length(dataloader) and self.predicted < len(dataloader):
            raise UsageError(
                f"evaluation after step {self.state.global_step}: got {self.predicted} of {len(dataloader)} batches "
                "from the data loader, which ended before its length, expected all; StopIteration in a sampler, a "
                "dataset or a collator ends it so: correct that"
            )
        return output

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        self.signals.check(self.accelerator)
        self.predicted += 1
        with self.watch.phase("evaluation"):
            return super().prediction_step(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.refuse_moved()
        with self.watch.phase("save"):
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        with self.watch.phase("save"):
            super().save_model(*args, **kwargs)
