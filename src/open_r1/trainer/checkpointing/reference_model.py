"""Saves and loads the reference model of a run whose reference follows the policy (`--sync_ref_model`)."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from open_r1.trainer.checkpointing.required_files import REFERENCE
from open_r1.trainer.distributed import is_zero3
from open_r1.trainer.protocols import RunTrainer


def save_reference(trainer: RunTrainer, folder: Path) -> None:
    """Save the reference model if it follows the policy; else it is the model that the run began with."""
    if not getattr(trainer.args, "sync_ref_model", False):
        return
    weights = {}
    for name, parameter in trainer.accelerator.unwrap_model(trainer.ref_model).named_parameters():
        with gathered_parameter(trainer, parameter):
            if trainer.accelerator.is_main_process:
                weights[name] = parameter.detach().cpu().clone()
    if weights:
        save_file(weights, folder / REFERENCE)


def load_reference(trainer: RunTrainer, folder: Path) -> None:
    """Load what `save_reference` wrote into the reference model."""
    if not getattr(trainer.args, "sync_ref_model", False):
        return
    writes = trainer.accelerator.is_main_process or not is_zero3(trainer.accelerator)
    weights = load_file(folder / REFERENCE) if writes else {}
    for name, parameter in trainer.accelerator.unwrap_model(trainer.ref_model).named_parameters():
        with gathered_parameter(trainer, parameter), torch.no_grad():
            if writes:
                parameter.copy_(weights[name])


def gathered_parameter(trainer: RunTrainer, parameter: torch.nn.Parameter) -> AbstractContextManager[Any]:
    """Context in which the parameter is whole; under ZeRO-3 the values that rank 0 writes into it reach all ranks."""
    if not is_zero3(trainer.accelerator):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)
