"""Keeps code that comes with a model or a checkpoint from running unless the user allowed it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from open_r1.errors import UsageError


def load_weights_only() -> None:
    """Limit `torch.load` to tensors and plain values, in this process and in those that it starts.

    A `.pt` file is a pickle, which can run any code of its author. transformers loads with `weights_only`; DeepSpeed
    (0.19.8), on resuming and in `zero_to_fp32`, loads any pickle. It needs four classes of its own, which hold numbers
    only. A file that names any other raises `pickle.UnpicklingError` with that name.
    """
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address])


@contextmanager
def remote_code_errors(model: str, remedy: str = "add --trust_remote_code to run it") -> Iterator[None]:
    """Turn transformers' error about a model with Python files of its own into a UsageError that names the remedy."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UsageError(
            f"{model}: got a model that brings Python code of its own, expected one that transformers knows; read the "
            f"code in its folder; {remedy}"
        ) from error
