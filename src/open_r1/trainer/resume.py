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
  - a run at its last step trains one more -> it does not.

Seeds of vLLM requests follow from seed, step and row, so they need no state. The random state of CPU and CUDA is kept.
"""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from trl.trainer.utils import RepeatSampler

from open_r1.trainer.checkpoints import REFERENCE, STATE
from open_r1.trainer.savings import zero3

logger = logging.getLogger(__name__)

# Attributes of transformers' and TRL's trainers that change from step to step and that nobody else saves.
COUNTERS = (
    "_step",
    "_tr_loss",
    "_total_loss_scalar",
    "_globalstep_last_logged",
    "_total_train_tokens",
    "_current_train_step_time",
)


class Resumable:
    """Mixed into a trainer, before TRL's class. `facts` is `open_r1.trainer.checkpoints.facts_of` the run."""

    facts: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)
    finished: "RunState | None" = None  # as it was after the last finished optimizer step of this process
    saved_at: int | None = None  # step of the newest checkpoint that this process wrote or continued from

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
        self.finished = run_state(self)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with own_random_state():
            return super().evaluate(*args, **kwargs)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        save_run_state(self, Path(output_dir))
        self.saved_at = self.state.global_step

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_run_state(self, Path(checkpoint))
            self.saved_at = self.state.global_step
        super()._load_rng_state(checkpoint)  # the last to be restored: everything before may draw numbers


def save_checkpoint_now(trainer: Any) -> Path | None:
    """Save checkpoint-N of the last finished optimizer step N, to end a run that cannot go on; all ranks call it.

    What the unfinished step has drawn, generated and logged is taken back, so that a run resumed from it is the
    undisturbed one. Returns the folder; None where this process has finished no step, so that there is nothing to save
    that was not there before. With --save_only_model true it holds the weights alone, as the user chose.
    """
    if trainer.finished is None:
        return None
    folder = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
    if trainer.saved_at != trainer.state.global_step:
        put_back(trainer, trainer.finished)
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)
        trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    logger.warning("the run can be continued by --resume_from_checkpoint %s", folder)
    return folder


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


# -------------------------------------------------------------------------------------------------------------- random


def random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def own_random_state() -> Iterator[None]:
    """What happens within leaves the random state as it was."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


# ----------------------------------------------------------------------------------------------------- state of a rank


@dataclass(frozen=True)
class RunState:
    """A rank's state at the end of an optimizer step, beside weights, optimizer and scheduler.

    `counters` of `COUNTERS`; `metrics` and `logs` what TRL has gathered for the next log; `window` the micro-batches
    of the generation window that is open, None between two windows; `tokens` seen by the whole run.
    """

    random: dict[str, Any]
    counters: dict[str, Any]
    metrics: dict[str, list[Any]]
    logs: dict[str, Any]
    window: list[dict[str, Any]] | None
    tokens: int


def run_state(trainer: Any) -> RunState:
    """A copy of what changes; tensors of the window are shared, as nothing writes into them."""
    counters = {name: getattr(trainer, name) for name in COUNTERS if hasattr(trainer, name)}
    return RunState(
        random_state(),
        {name: value.clone() if torch.is_tensor(value) else value for name, value in counters.items()},
        {name: list(values) for name, values in trainer._metrics["train"].items()},
        plain_logs(trainer._logs) if getattr(trainer, "log_completions", False) else {},
        [dict(part) for part in trainer._buffered_inputs] if inside_window(trainer) else None,
        trainer.state.num_input_tokens_seen,
    )


def put_back(trainer: Any, state: RunState) -> None:
    """Make the trainer what it was."""
    for name, value in state.counters.items():
        setattr(trainer, name, value.clone().to(trainer.args.device) if torch.is_tensor(value) else value)
    trainer._metrics["train"].clear()
    for name, values in state.metrics.items():
        trainer._metrics["train"][name] = list(values)
    for name, values in state.logs.items():
        fill(trainer._logs[name], values)
    if hasattr(trainer, "_buffered_inputs"):
        trainer._buffered_inputs = state.window
    trainer.state.num_input_tokens_seen = state.tokens
    set_random_state(state.random)


def inside_window(trainer: Any) -> bool:
    """Whether completions that were generated are still to be used."""
    if getattr(trainer, "_buffered_inputs", None) is None:
        return False
    return trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) != 0


def plain_logs(logs: dict[str, Any]) -> dict[str, Any]:
    """Texts and numbers of TRL's table of completions, without its pictures."""
    kept = {name: values for name, values in logs.items() if name != "images"}
    return {n: {k: list(v) for k, v in x.items()} if isinstance(x, dict) else list(x) for n, x in kept.items()}


def fill(log: Any, values: Any) -> None:
    if isinstance(values, dict):
        for name in values:
            fill(log[name], values[name])
    else:
        log.clear()
        log.extend(values)


# --------------------------------------------------------------------------------------------------------------- files


def save_run_state(trainer: Any, folder: Path) -> None:
    """This rank's `run_state_{rank}.pt` (transformers saves the random state), and rank 0's `run_state.json`."""
    state, rank = run_state(trainer), trainer.accelerator.process_index
    kept = {"counters": state.counters, "metrics": state.metrics, "logs": state.logs, "window": strip(state.window)}
    torch.save(kept, folder / f"run_state_{rank}.pt")
    save_reference(trainer, folder)
    if rank == 0:
        engine = "deepspeed" if trainer.is_deepspeed_enabled else "fsdp" if trainer.is_fsdp_enabled else "plain"
        plugin = trainer.args.deepspeed_plugin
        about = {"engine": engine, "ranks": trainer.args.world_size, "zero_stage": plugin and plugin.zero_stage}
        about |= {"own_scheduler": not (folder / "scheduler.pt").exists(), "facts": trainer.facts}
        (folder / STATE).write_text(json.dumps(about, indent=1), encoding="utf-8")


def load_run_state(trainer: Any, folder: Path) -> None:
    kept = torch.load(folder / f"run_state_{trainer.accelerator.process_index}.pt", map_location="cpu")
    kept["window"] = dress(trainer, kept["window"])
    put_back(trainer, RunState(random=random_state(), tokens=trainer.state.num_input_tokens_seen, **kept))
    load_reference(trainer, folder)


def strip(window: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The micro-batches without their prompts; copies, as a view would be saved with all that it is a view of."""
    if window is None:
        return None
    return [
        {name: v.detach().cpu().clone() if torch.is_tensor(v) else v for name, v in part.items() if name != "prompts"}
        for part in window
    ]


def dress(trainer: Any, window: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The micro-batches with their prompts made anew from `rows`, on the device."""
    if window is None:
        return None
    rows = [row for part in window for row in part["rows"]]
    prompts = iter(trainer._on_device(trainer.loader.take(rows)))
    device = trainer.accelerator.device
    return [
        {name: v.to(device) if torch.is_tensor(v) else v for name, v in part.items()}
        | {"prompts": list(islice(prompts, len(part["rows"])))}
        for part in window
    ]


def save_reference(trainer: Any, folder: Path) -> None:
    """The reference model where it follows the policy; elsewhere it is the model that the run began with."""
    if not getattr(trainer.args, "sync_ref_model", False):
        return
    weights = {}
    for name, parameter in trainer.accelerator.unwrap_model(trainer.ref_model).named_parameters():
        with gathered(trainer, parameter):
            if trainer.accelerator.is_main_process:
                weights[name] = parameter.detach().cpu().clone()
    if weights:
        save_file(weights, folder / REFERENCE)


def load_reference(trainer: Any, folder: Path) -> None:
    if not getattr(trainer.args, "sync_ref_model", False):
        return
    writes = trainer.accelerator.is_main_process or not zero3(trainer)
    weights = load_file(folder / REFERENCE) if writes else {}
    for name, parameter in trainer.accelerator.unwrap_model(trainer.ref_model).named_parameters():
        with gathered(trainer, parameter), torch.no_grad():
            if writes:
                parameter.copy_(weights[name])


def gathered(trainer: Any, parameter: torch.nn.Parameter) -> AbstractContextManager[Any]:
    """Within it the parameter is whole; under ZeRO-3 what rank 0 writes into it reaches all ranks."""
    if not zero3(trainer):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)
