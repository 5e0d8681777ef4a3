"""Exact resume: a run that is stopped and resumed ends with the weights of one that never stopped.

transformers restores optimizer, scheduler and random state. What it (5.17) and TRL (1.16) lose -> what is done here:
  - weights of models whose parameters are saved under other names than they have in memory (Qwen2.5-VL among them):
    it warns of missing keys and trains on from the initial weights -> they are loaded as `from_pretrained` does;
  - the order of rows: TRL's sampler replays the first epoch after a resume -> `EpochSampler`, and `set_epoch` also
    where accelerate does not reach a sampler that was wrapped to skip batches;
  - the generation window (completions used for several optimizer steps, and the place in it) -> `run_state_{rank}.pt`
    holds row numbers, completions and scores; prompts are processed from the rows again, so no pixels are saved;
  - metrics and loss that wait for the next log, the sum behind `train_loss` -> the same file;
  - a reference model that follows the policy -> `reference.safetensors`;
  - an evaluation changes the random state of training -> it runs in its own;
  - the best checkpoint of a copied folder is forgotten -> the one of its name beside the checkpoint is taken;
  - a run resumed at its last step trains one more -> it ends;
  - a killed save leaves half a checkpoint, which is then resumed from -> `atomic_save`, `manifest`.

Seeds of vLLM requests follow from seed, step and row, so they need no state. CPU's and CUDA's random states are saved.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from trl.trainer.utils import RepeatSampler

from open_r1.models.plain import load_plain
from open_r1.trainer.checkpointing.atomic_save import staged
from open_r1.trainer.checkpointing.rotation import best_beside, rotate, warn_of_higher
from open_r1.trainer.checkpointing.run_state import (
    RunState,
    capture_run_state,
    load_run_state,
    own_random_state,
    restore_run_state,
    save_run_state,
)
from open_r1.trainer.protocols import RunTrainer

logger = logging.getLogger(__name__)


class Resumable:
    """Mixin, before TRL's class: saves and restores a run exactly. `facts` are those of `identity.run_facts`."""

    facts: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)
    changes: Sequence[str] = ()  # of `select.Resume`, as `new_prompts`
    new_prompts: bool = False
    first_step: int | None = None  # number of steps that were finished when this process began to train
    last_state: "RunState | None" = None  # after the last finished optimizer step of this process
    last_state_step: int | None = None  # the number of that step
    saved_step: int | None = None  # step of the newest checkpoint that this process wrote or resumed from
    saved_folder: Path | None = None  # its folder, which may lie in another run's output folder
    warned_of: frozenset[str] = frozenset()  # names of the higher checkpoints that were warned of
    staging: Path | None = None  # stands for the output folder while a checkpoint is written

    def _load_from_checkpoint(self, checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(checkpoint, model)
        else:
            load_weights(self.model, checkpoint, self.args.trust_remote_code)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_best_model()
        else:
            load_weights(self.model, self.state.best_model_checkpoint, self.args.trust_remote_code)

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.first_step is None:
            self.first_step = self.state.global_step
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(kwargs["resume_from_checkpoint"])
            return
        set_epoch(kwargs["train_dataloader"], kwargs["epoch"])
        super()._run_epoch(**kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._keep_state()

    def _keep_state(self) -> None:
        """Keep the state after the last finished step, for `save_checkpoint_now`."""
        self.last_state, self.last_state_step = capture_run_state(self), self.state.global_step

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if has_finished_a_step(self):  # an evaluation that breaks off leaves the state before it
            self._keep_state()
        with own_random_state():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write checkpoint-N into the output folder atomically. Raises SaveFailed."""
        final = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with staged(self, final, manifest=True) as folder:
            self.staging = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.staging = None
            self._rename_best(folder, final)
        self.saved_step, self.saved_folder = self.state.global_step, final
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
        if self.args.should_save:
            rotate(final, self.args.save_total_limit, self.state.best_model_checkpoint)
            self.warned_of = warn_of_higher(final, self.warned_of)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """transformers would delete all but the best checkpoint here, also the newest, for a limit of 1."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _rename_best(self, folder: Path, final: Path) -> None:
        """If the checkpoint being written is the best one, record its final name in the trainer's state."""
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
            self.state.best_model_checkpoint = best_beside(Path(checkpoint)) or self.state.best_model_checkpoint
            self.saved_step, self.saved_folder = self.state.global_step, Path(checkpoint)
        super()._load_rng_state(checkpoint)  # restored last: everything before may draw numbers


def has_finished_a_step(trainer: RunTrainer) -> bool:
    """Whether this process has finished an optimizer step."""
    return trainer.first_step is not None and trainer.state.global_step > trainer.first_step


def save_checkpoint_now(trainer: RunTrainer) -> Path | None:
    """Save checkpoint-N of the last finished optimizer step N, to end a run that cannot go on; all ranks call it.

    Random numbers, completions and logs of what was begun after it (a step, an evaluation) are taken back, so that a
    run resumed from it equals an undisturbed one. Returns the folder; where this process has finished no step, that
    which it went on from, or None. With --save_only_model true it holds the weights alone, as the user chose.
    """
    step = trainer.state.global_step
    if has_finished_a_step(trainer) and trainer.saved_step != step:
        if trainer.last_state_step == step:  # else the run ended while that step was logged
            restore_run_state(trainer, trainer.last_state)
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)
        trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    return trainer.saved_folder


def load_weights(model: PreTrainedModel, folder: str, trust_remote_code: bool = False) -> None:
    """Load the weights that `save_pretrained` wrote. Raises UsageError for missing, unknown and damaged ones."""
    model.load_state_dict(load_plain(folder, dtype=model.dtype, trust_remote_code=trust_remote_code).state_dict())


# --------------------------------------------------------------------------------------------------------------- order


class EpochSampler(RepeatSampler):
    """TRL's sampler, with the order of rows as a function of (seed, epoch): TRL's own order in an undisturbed run."""

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
        """A sampler with the settings of TRL's."""
        names = ("data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed")
        return cls(**{name: getattr(sampler, name) for name in names})


def set_epoch(dataloader: DataLoader, epoch: int) -> None:
    """Set the epoch of the sampler inside accelerate's wrappers."""
    sampler = dataloader.batch_sampler
    while (inner := getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)) is not None:
        sampler = inner
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
