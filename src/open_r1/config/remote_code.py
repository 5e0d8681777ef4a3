"""Code that comes with a model or a checkpoint: it runs where somebody asked for it, and nowhere else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from open_r1.errors import UsageError


def load_weights_only() -> None:
    """From here on this process, and what it starts, takes weights and numbers alone from `.pt` files.

    A `.pt` file is a pickle, which runs what its author put in. transformers asks torch for weights alone; DeepSpeed
    (0.19.8), on resuming and in `zero_to_fp32`, asks for any pickle, so a checkpoint-N of somebody else's could do
    what it likes. It needs three records of its own, which only hold numbers. A file that names anything else raises
    `pickle.UnpicklingError`, which says what it named.
    """
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address])


@contextmanager
def remote_code_errors(model: str, remedy: str = "add --trust_remote_code to run it") -> Iterator[None]:
    """What transformers says of a model with Python files of its own, as this project's flags have it: UsageError."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UsageError(
            f"{model}: got a model that brings Python code of its own, expected one that transformers knows; read the "
            f"code in its folder; {remedy}"
        ) from error
