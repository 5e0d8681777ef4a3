"""Refuses an optimizer that is not installed, and settings that it does not read, before a model is loaded."""

from copy import copy
from dataclasses import fields
from typing import Any

from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
OF_PARTS = ("galore", "apollo")  # they take --optim_target_modules
OF_MODEL = (*OF_PARTS, "lomo", "adalomo")  # transformers makes their settings from the loaded model


def check_optimizer(training: TrainingArguments) -> None:
    """Raises ValueError where the optimizer's package is missing, or a setting changes nothing with it."""
    name = OptimizerNames(training.optim).value
    if training.optim_target_modules and not name.startswith(OF_PARTS):
        raise ValueError(f"--optim_target_modules: acts only with --optim galore_* or apollo_*, got {name}; remove it")
    if name.startswith(OF_MODEL):
        return
    made = optimizer_settings(training)
    for key in (training.optim_args or "").replace(" ", "").split(","):
        if key and optimizer_settings(training, optim_args=without(training.optim_args, key)) == made:
            raise ValueError(f"--optim_args: got {key}, which changes nothing with --optim {name}; remove it")
    defaults = {f.name: f.default for f in fields(TrainingArguments)}
    for flag in ADAM:
        value = getattr(training, flag)
        if value != defaults[flag] and optimizer_settings(training, **{flag: defaults[flag]}) == made:
            raise ValueError(f"--{flag}: got {value}, which changes nothing with --optim {name}; remove it")


def without(optim_args: str, key: str) -> str:
    """`optim_args` without one `key=value`.

    >>> without("momentum=0.9, nesterov=true", "nesterov=true")
    'momentum=0.9'
    """
    return ",".join(other for other in optim_args.replace(" ", "").split(",") if other != key)


def optimizer_settings(training: TrainingArguments, **changes: Any) -> tuple[type, dict[str, Any]]:
    """(class, keyword arguments) of the optimizer, with flags changed. Raises ValueError that names --optim."""
    changed, name = copy(training), OptimizerNames(training.optim).value
    vars(changed).update(changes)
    try:
        return Trainer.get_optimizer_cls_and_kwargs(changed)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"--optim, --optim_args: got {name}, {changed.optim_args}: {error}") from error
