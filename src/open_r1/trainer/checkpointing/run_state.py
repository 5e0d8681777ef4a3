"""Copies, restores, saves and loads a rank's state beside weights, optimizer and scheduler, after an optimizer step.

`run_state_{rank}.pt` holds row numbers, completions and scores of the open generation window, what tools put into
them, completions that were generated ahead, what was learned of rows, and the metrics for the next log; prompts are
processed from the rows again.
transformers saves the random state.
"""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from open_r1.rollout.trajectory import loaded_trajectory
from open_r1.trainer.checkpointing.reference_model import load_reference, save_reference
from open_r1.trainer.checkpointing.required_files import STATE
from open_r1.trainer.protocols import RolloutTrainer, RunTrainer
from open_r1.trainer.rollout_ahead import Ahead, loaded
from open_r1.trainer.row_difficulty import RowDifficulty

logger = logging.getLogger(__name__)

# Attributes of transformers' and TRL's trainers that change from step to step and that they leave unsaved.
COUNTERS = (
    "_step",
    "_tr_loss",
    "_total_loss_scalar",
    "_globalstep_last_logged",
    "_total_train_tokens",
    "_current_train_step_time",
)
MADE = ("prompts", "turns")  # of micro-batches, from rows and trajectories
NONFINITE_COUNTERS = ("nonfinite_steps", "nonfinite_in_a_row")


# -------------------------------------------------------------------------------------------------------------- random


def random_state() -> dict[str, Any]:
    """The states of all random generators of this process: Python, numpy, torch's CPU and CUDA."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def own_random_state() -> Iterator[None]:
    """Context that restores the random state at its end."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


# ----------------------------------------------------------------------------------------------------- state of a rank


@dataclass(frozen=True)
class RunState:
    """A rank's state at the end of an optimizer step, beside weights, optimizer and scheduler.

    `counters` of `COUNTERS` and `NONFINITE_COUNTERS`; `metrics` and `logs` that TRL has gathered for the next log;
    `window`: the micro-batches of the open generation window, None between two windows; `tokens` seen by the run;
    `ahead`: the generation after it, where it was begun; `row_mark`: of the rows' difficulty, where rows have one.
    """

    random: dict[str, Any]
    counters: dict[str, Any]
    metrics: dict[str, list[Any]]
    logs: dict[str, Any]
    window: list[dict[str, Any]] | None
    tokens: int
    ahead: Ahead | None = None
    row_mark: int | None = None


def difficulty_of(trainer: RunTrainer) -> RowDifficulty | None:
    """What the run has learned of its rows (--row_sampling difficulty)."""
    choice = getattr(trainer, "row_choice", None)
    return choice and choice.difficulty


def capture_run_state(trainer: RunTrainer) -> RunState:
    """A copy of the trainer's state; tensors of the window are shared, since nothing writes into them."""
    difficulty = difficulty_of(trainer)
    counters = {name: getattr(trainer, name) for name in (*COUNTERS, *NONFINITE_COUNTERS) if hasattr(trainer, name)}
    return RunState(
        random_state(),
        {name: value.clone() if torch.is_tensor(value) else value for name, value in counters.items()},
        {name: list(values) for name, values in trainer._metrics["train"].items()},
        copy_logs(trainer._logs) if getattr(trainer, "log_completions", False) else {},
        [dict(part) for part in trainer._buffered_inputs] if inside_window(trainer) else None,
        trainer.state.num_input_tokens_seen,
        getattr(trainer, "ahead", None),
        difficulty and difficulty.mark(),
    )


def restore_run_state(trainer: RunTrainer, state: RunState) -> None:
    """Set the trainer back to a captured state."""
    for name, value in state.counters.items():
        setattr(trainer, name, value.clone().to(trainer.args.device) if torch.is_tensor(value) else value)
    trainer._metrics["train"].clear()
    for name, values in state.metrics.items():
        trainer._metrics["train"][name] = list(values)
    for name, values in state.logs.items():
        restore_log(trainer._logs[name], values)
    if hasattr(trainer, "_buffered_inputs"):
        trainer._buffered_inputs, trainer.ahead = state.window, state.ahead
    if state.row_mark is not None:
        difficulty_of(trainer).rewind(state.row_mark)
    trainer.state.num_input_tokens_seen = state.tokens
    set_random_state(state.random)


def inside_window(trainer: RunTrainer) -> bool:
    """Whether the newest generation has completions that are still to be used."""
    if getattr(trainer, "_buffered_inputs", None) is None:
        return False
    return trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) != 0


def copy_logs(logs: dict[str, Any]) -> dict[str, Any]:
    """A copy of TRL's table of completions, without its pictures."""
    columns = {name: values for name, values in logs.items() if name != "images"}
    return {n: {k: list(v) for k, v in x.items()} if isinstance(x, dict) else list(x) for n, x in columns.items()}


def restore_log(log: Any, values: Any) -> None:
    """Refill a column of TRL's table, or each of a dictionary of columns, in place."""
    if isinstance(values, dict):
        for name in values:
            restore_log(log[name], values[name])
    else:
        log.clear()
        log.extend(values)


# --------------------------------------------------------------------------------------------------------------- files


def save_run_state(trainer: RunTrainer, folder: Path) -> None:
    """Write this rank's `run_state_{rank}.pt`, and on rank 0 `run_state.json`; transformers saves the random state."""
    state, rank = capture_run_state(trainer), trainer.accelerator.process_index
    fields = {
        "counters": state.counters,
        "metrics": state.metrics,
        "logs": state.logs,
        "window": without_prompts(state.window),
        "ahead": state.ahead and state.ahead.saved(),
    }
    if difficulty := difficulty_of(trainer):
        fields["rows"] = difficulty.saved()
    torch.save(fields, folder / f"run_state_{rank}.pt")
    save_reference(trainer, folder)
    if rank == 0:
        engine = "deepspeed" if trainer.is_deepspeed_enabled else "fsdp" if trainer.is_fsdp_enabled else "plain"
        plugin = trainer.args.deepspeed_plugin
        description = {"engine": engine, "ranks": trainer.args.world_size, "zero_stage": plugin and plugin.zero_stage}
        description |= {"own_scheduler": not (folder / "scheduler.pt").exists(), "facts": trainer.facts}
        description |= {"changes": list(trainer.changes)}
        (folder / STATE).write_text(json.dumps(description, indent=1), encoding="utf-8")


def load_run_state(trainer: RunTrainer, folder: Path) -> None:
    """Restore what `save_run_state` wrote for this rank."""
    path = folder / f"run_state_{trainer.accelerator.process_index}.pt"
    fields = torch.load(path, map_location="cpu", weights_only=True)
    # completions of prompts that are others now are sampled again
    fields["window"] = None if trainer.new_prompts else with_prompts(trainer, fields["window"])
    fields["ahead"] = None if trainer.new_prompts else loaded(fields.get("ahead"))
    rows, difficulty = fields.pop("rows", None), difficulty_of(trainer)
    if rows is not None and difficulty is not None:
        load_difficulty(difficulty, rows, trainer.new_prompts)
    restore_run_state(trainer, RunState(random=random_state(), tokens=trainer.state.num_input_tokens_seen, **fields))
    load_reference(trainer, folder)


def load_difficulty(difficulty: RowDifficulty, saved: dict[str, Any], new_prompts: bool) -> None:
    """Restore what a run has learned of its rows, unless they may be others now, which is said."""
    if new_prompts:
        logger.warning("--row_sampling difficulty: begins anew, as the rows are not those of the checkpoint")
    else:
        difficulty.load(saved)


def without_prompts(window: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The micro-batches without what is made again; copied, as a view would be saved with all of its base tensor."""
    if window is None:
        return None
    return [
        {name: v.detach().cpu().clone() if torch.is_tensor(v) else v for name, v in part.items() if name not in MADE}
        | ({"trajectories": [one.saved() for one in part["trajectories"]]} if "trajectories" in part else {})
        for part in window
    ]


def with_prompts(trainer: RunTrainer, window: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The micro-batches with their prompts, processed from their `rows` again, and what tools put into completions, on
    the device."""
    if window is None:
        return None
    rows = [row for part in window for row in part["rows"]]
    prompts = iter(trainer.prompts_on_device(trainer.loader.take(rows)))
    device = trainer.accelerator.device
    return [
        {name: v.to(device) if torch.is_tensor(v) else v for name, v in part.items()}
        | {"prompts": list(islice(prompts, len(part["rows"])))}
        | with_turns(trainer, part.get("trajectories"))
        for part in window
    ]


def with_turns(trainer: RolloutTrainer, saved: list[list[dict[str, Any]]] | None) -> dict[str, list[Any]]:
    """The completions of a run with tools as its batches hold them; nothing without tools."""
    if saved is None:
        return {}
    trajectories = [loaded_trajectory(one) for one in saved]
    return {"trajectories": trajectories, "turns": [trainer.turns_again(one) for one in trajectories]}
