"""Mixin that reports a trainer's phases to the watchdog and checks for stop signals at each micro-batch."""

from functools import cached_property
from typing import Any

from open_r1.trainer.lifecycle.preemption import StopSignals
from open_r1.trainer.lifecycle.watchdog import Watchdog


class LifecycleHooks:
    """Mixin, before TRL's class: watchdog phases and stop signals."""

    @cached_property
    def watch(self) -> Watchdog:
        """This rank's watchdog, which runs while `shutdown.train` does."""
        args = self.args
        return Watchdog(args.output_dir, args.hang_timeout, args.process_index, args.world_size)

    @cached_property
    def signals(self) -> StopSignals:
        """This rank's stop signals."""
        return StopSignals()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Raises RunStopped, on all ranks, before the micro-batch."""
        self.signals.check(self.accelerator)
        self.watch.enter("update", self.state.global_step)
        return super().training_step(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch.phase("data"):
            return super().get_batch_samples(*args, **kwargs)

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        self.signals.check(self.accelerator)
        with self.watch.phase("evaluation"):
            return super().prediction_step(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.watch.phase("save"):
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        with self.watch.phase("save"):
            super().save_model(*args, **kwargs)
