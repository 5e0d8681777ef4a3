"""Refuses batches that cannot be filled, before anything is loaded, with the numbers and with flags that work."""

import math
import os
from collections.abc import Iterator
from typing import Any

from open_r1.config.training_arguments import GRPOArguments, SFTArguments
from open_r1.errors import UsageError

COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
    "num_generations_eval",
    "num_iterations",
    "max_completion_length",
)  # flags that count something, where a script has them


def ranks_here() -> int:
    """The number of ranks of this run, as its launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_counts(training: Any) -> None:
    """Refuse numbers below 1 where something is counted. Raises ValueError."""
    for name in COUNTS:
        value = getattr(training, name, None)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: got {value}, expected at least 1; raise it, or leave it out")


def check_batches(training: GRPOArguments, ranks: int) -> None:
    """Refuse batches that cut groups or do not fit each other on `ranks` ranks. Raises ValueError with remedies."""
    check_counts(training)
    if training.num_generations < 2:
        raise ValueError(
            f"--num_generations: got {training.num_generations}, expected at least 2: an advantage is the difference "
            "from the group's mean; set --num_generations 8"
        )
    check_groups(training.per_device_train_batch_size, training.num_generations)
    if training.generation_batch_size is not None:
        check_generation_batch(training, ranks)
    if training.eval_strategy != "no":
        check_evaluation_batch(training, ranks)


def check_groups(batch: int, group: int) -> None:
    """Refuse a batch that would cut groups. Raises ValueError with the value to set.

    >>> check_groups(1, 8)
    Traceback (most recent call last):
    ValueError: --per_device_train_batch_size: got 1, expected a multiple of --num_generations 8: it counts \
completions, and a group stays whole on its rank; set --per_device_train_batch_size 8 (1 prompt per device)
    """
    if batch % group:
        prompts = max(1, round(batch / group))
        raise ValueError(
            f"--per_device_train_batch_size: got {batch}, expected a multiple of --num_generations {group}: it counts "
            f"completions, and a group stays whole on its rank; set --per_device_train_batch_size {group * prompts} "
            f"({prompts} prompt{'s' * (prompts > 1)} per device)"
        )


def check_generation_batch(training: GRPOArguments, ranks: int) -> None:
    """Refuse a --generation_batch_size that is no whole number of steps' batches. Raises ValueError."""
    if training.steps_per_generation is not None:
        raise ValueError(
            f"--generation_batch_size, --steps_per_generation: got {training.generation_batch_size} and "
            f"{training.steps_per_generation}, expected one of the two, which gives the other; remove one"
        )
    batch = training.per_device_train_batch_size * ranks
    if training.generation_batch_size % batch:
        steps = max(1, round(training.generation_batch_size / batch))
        raise ValueError(
            f"--generation_batch_size: got {training.generation_batch_size}, expected a multiple of {batch} "
            f"(--per_device_train_batch_size {training.per_device_train_batch_size} x {ranks_text(ranks)}); set "
            f"--generation_batch_size {batch * steps}"
        )


def check_evaluation_batch(training: GRPOArguments, ranks: int) -> None:
    """Refuse an evaluation batch that would cut groups. Raises ValueError with the value to set."""
    group = training.num_generations_eval or training.num_generations
    batch = training.per_device_eval_batch_size
    if batch * ranks % group:
        least = group // math.gcd(group, ranks)
        fitting = least * max(1, round(batch / least))
        raise ValueError(
            f"--per_device_eval_batch_size: got {batch} x {ranks_text(ranks)} = {batch * ranks} completions, "
            f"expected a multiple of the {group} of a group; set --per_device_eval_batch_size {fitting}, or another "
            "--num_generations_eval"
        )


def ranks_text(ranks: int) -> str:
    """A number of ranks as text."""
    return f"{ranks} rank{'s' * (ranks > 1)}"


def refuse_too_few_rows(rows: int, training: GRPOArguments) -> None:
    """Raises UsageError for fewer rows than one generation has prompts: not one step could be made."""
    prompts = training.generation_batch_size // training.num_generations
    if rows < prompts:
        flags = " ".join(fitting_flags(rows, training)) or f"at most {rows} ranks"
        raise UsageError(
            f"{rows} rows: expected at least {prompts}, the prompts of one generation (--per_device_train_batch_size "
            f"{training.per_device_train_batch_size} x {ranks_text(training.world_size)} x "
            f"{training.steps_per_generation} steps = {training.generation_batch_size} completions, "
            f"--num_generations {training.num_generations} of each); add rows, or set {flags}"
        )


def fitting_flags(rows: int, training: GRPOArguments) -> Iterator[str]:
    """Flags whose generation has at most `rows` prompts on as many ranks; none where each rank has one too many."""
    group, ranks = training.num_generations, training.world_size
    if rows < ranks:
        return
    here = min(training.per_device_train_batch_size // group, rows // ranks)  # prompts of a rank
    steps = max(1, min(training.steps_per_generation, rows // (ranks * here)))
    yield f"--per_device_train_batch_size {group * here}"
    yield f"--gradient_accumulation_steps {min(steps, training.gradient_accumulation_steps)}"
    if training.steps_per_generation != training.gradient_accumulation_steps:
        yield f"--steps_per_generation {steps}"


def refuse_dropped_rows(rows: int, training: SFTArguments) -> None:
    """Raises UsageError where --dataloader_drop_last would drop all rows of an epoch."""
    batch = training.per_device_train_batch_size * training.world_size
    if training.dataloader_drop_last and rows < batch:
        raise UsageError(
            f"{rows} rows: expected at least {batch} with --dataloader_drop_last true (--per_device_train_batch_size "
            f"{training.per_device_train_batch_size} x {ranks_text(training.world_size)}), which drops a batch "
            "that is not full; leave it out, or add rows"
        )
