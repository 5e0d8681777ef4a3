"""A run that is stopped and resumed ends with the weights of one that never stopped.

transformers restores optimizer, scheduler and random state. What it (5.17) and TRL (1.16) lose, and the remedy here:
  - weights of models whose parameters are saved under other names than they have in memory (Qwen2.5-VL among them):
    it warns of missing keys and trains on from what the run began with -> they are read as `from_pretrained` does;
  - the order of rows: TRL's sampler replays the first epoch after a resume -> `EpochSampler`, and `set_epoch` also
    where accelerate does not reach a sampler that was wrapped to skip batches;
  - the generation window (completions used for several optimizer steps, and the place in it) -> `run_state_{rank}.pt`
    holds row numbers, completions and scores; the prompts are made from the rows again, so pixels are never saved;
  - metrics and loss that wait for the next log, the sum behind `train_loss` -> the same file;
  - a reference model that follows the policy -> `reference.safetensors`;
  - an evaluation moves the random state of training -> it has its own;
  - a run at its last step trains one more -> it does not;
  - a save that is killed leaves half a checkpoint, which is then continued from -> `staging`, `manifest`.

Seeds of vLLM requests follow from seed, step and row, so they need no state. The random state of CPU and CUDA is kept.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import rotate_checkpoints
from trl.trainer.utils import RepeatSampler

from open_r1.trainer.checkpointing.atomic_save import staged
from open_r1.trainer.checkpointing.run_state import (
    RunState,
    load_run_state,
    own_random_state,
    restore_run_state,
    run_state,
    save_run_state,
)
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)


class Resumable:
    """Mixed into a trainer, before TRL's class. `facts` is `checkpoints.facts_of` the run."""

    facts: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)
    finished: "RunState | None" = None  # as it was after the last finished optimizer step of this process
    finished_at: int | None = None  # that step
    saved_at: int | None = None  # step of the newest checkpoint that this process wrote or continued from
    saved_in: Path | None = None  # its folder, of another run's output where that is continued elsewhere
    staging: Path | None = None  # the folder that stands for the output folder while a checkpoint is written

    def _load_from_checkpoint(self, checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(checkpoint, model)
        else:
            load_weights(self.model, checkpoint)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_best_model()
        else:
            load_weights(self.model, self.state.best_model_checkpoint)

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(kwargs["resume_from_checkpoint"])
            return
        set_epoch(kwargs["train_dataloader"], kwargs["epoch"])
        super()._run_epoch(**kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.finished, self.finished_at = run_state(self), self.state.global_step

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with own_random_state():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """checkpoint-N in the output folder, whole or not at all. Raises SaveFailed."""
        final = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with staged(self, final, manifest=True) as folder:
            self.staging = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.staging = None
            self._name_best(folder, final)
        self.saved_at, self.saved_in = self.state.global_step, final
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        if self.args.should_save:
            limits = {"save_total_limit": self.args.save_total_limit, "use_mtime": True}
            best = self.state.best_model_checkpoint
            rotate_checkpoints(self.args.output_dir, best_model_checkpoint=best, **limits)

    def _name_best(self, folder: Path, final: Path) -> None:
        """Where the checkpoint being written is the best one, it is known by the name that it will have."""
        if self.state.best_model_checkpoint == str(folder):
            self.state.best_model_checkpoint = str(final)
            if self.args.should_save:
                self.state.save_to_json(str(folder / "trainer_state.json"))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.staging) if self.staging else super()._get_output_dir(trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.staging:  # it would upload what is about to be renamed
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_run_state(self, Path(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_run_state(self, Path(checkpoint))
            self.saved_at, self.saved_in = self.state.global_step, Path(checkpoint)
        super()._load_rng_state(checkpoint)  # the last to be restored: everything before may draw numbers


def save_checkpoint_now(trainer: RunTrainer) -> Path | None:
    """Save checkpoint-N of the last finished optimizer step N, to end a run that cannot go on; all ranks call it.

    What the unfinished step has drawn, generated and logged is taken back, so that a run resumed from it is the
    undisturbed one. Returns the folder; None where this process has finished no step, so that there is nothing to save
    that was not there before. With --save_only_model true it holds the weights alone, as the user chose.
    """
    step = trainer.state.global_step
    if trainer.finished is None and trainer.saved_at is None:
        return None
    if trainer.saved_at != step:
        if trainer.finished_at == step:  # else it ended while that step was logged or evaluated, with nothing begun
            restore_run_state(trainer, trainer.finished)
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)
        trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    return trainer.saved_in


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """The weights that `save_pretrained` wrote. Raises RuntimeError where one is missing or is none of the model's."""
    model.load_state_dict(type(model).from_pretrained(folder, dtype=model.dtype).state_dict())


# --------------------------------------------------------------------------------------------------------------- order


class EpochSampler(RepeatSampler):
    """TRL's sampler with the order of an epoch as a function of (seed, epoch): the order that TRL's own has in a run
    that is never stopped."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
        yield from super().__iter__()

    @classmethod
    def like(cls, sampler: RepeatSampler) -> "EpochSampler":
        names = ("data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed")
        return cls(**{name: getattr(sampler, name) for name in names})


def set_epoch(dataloader: DataLoader, epoch: int) -> None:
    """Tell the sampler inside what accelerate has wrapped around it."""
    sampler = dataloader.batch_sampler
    while (inner := getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)) is not None:
        sampler = inner
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
