"""What a checkpoint of DeepSpeed may hold: weights, numbers and DeepSpeed's own three records, never code.

A `.pt` file is a pickle, which runs what its author put in. transformers asks torch for weights alone; DeepSpeed
(0.19.8), on resuming and in `zero_to_fp32`, asks for any pickle, so a checkpoint-N from elsewhere would own the machine.
"""

import os

import torch


def refuse_code() -> None:
    """From here on this process, and what it starts, takes from a `.pt` file what weights consist of, whoever loads it.

    A file that names anything else raises `pickle.UnpicklingError`, which says what it named.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address])
